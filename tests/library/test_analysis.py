"""Angles against ones drawn on paper."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qagrel_jax import analysis, make_network, make_policy, rules
from qagrel_jax.layers import FEEDBACKS, Dense
from qagrel_jax.networks import ThreeLayer
from qagrel_jax.policies import softmax
from tests.reference import local_learning

KERNEL = jnp.array([[[1.0, 0.0]], [[1.0, 1.0]]])  # two seeds
DOWN = jnp.array([[[1.0, 1.0]], [[-1.0, -1.0]]])


@pytest.mark.parametrize(
    ("feedback", "degrees"),
    [("tied", [0, 0]), ("sign", [0, 0]), ("kolen_pollack", [45, 180]), ("random", [45, 180])],
)
def test_feedback_angles_by_hand(feedback, degrees):
    params = {"out": {"kernel": KERNEL, "bias": jnp.ones((2, 2))}, "norm": {"scale": jnp.ones(2)}}
    if feedback == "kolen_pollack":
        params["out"]["feedback_kernel"] = DOWN
    state = {"feedback": {"out": {"kernel": DOWN}}} if feedback == "random" else {}
    angles = analysis.feedback_angles(params, state, feedback)
    assert list(angles) == ["out"]
    np.testing.assert_allclose(angles["out"], degrees, atol=0.05)
    for seed in range(2):  # a network alone, without the axis of seeds
        weights = {name: values[seed] for name, values in params["out"].items()}
        fixed = jax.tree.map(lambda values, seed=seed: values[seed], state)
        angle = analysis.feedback_angles({"out": weights}, fixed, feedback)["out"]
        np.testing.assert_allclose(angle, degrees[seed], atol=0.05)


class Mixed(nn.Module):
    """A layer of each kind of pathway, and one of Flax's own."""

    @nn.compact
    def __call__(self, x):
        for kind in FEEDBACKS:
            x = nn.relu(Dense(4, feedback=kind, num_actions=2, name=kind)(x))
        return nn.Dense(2, use_bias=False, name="flax")(x)


def test_each_layer_may_have_a_kind_of_its_own():
    keys = {"params": jax.random.key(0), "feedback": jax.random.key(1)}
    variables = jax.jit(Mixed().init)(keys, jnp.ones((1, 4)))
    params, fixed = variables["params"], {"feedback": variables["feedback"]}
    kinds = {kind: kind for kind in FEEDBACKS}
    angles = analysis.feedback_angles(params, fixed, kinds)
    assert set(angles) == {*FEEDBACKS, "flax"} - {"direct"}
    assert angles["tied"] == angles["flax"] == 0
    for kind in set(FEEDBACKS) - {"direct", "tied"}:
        alone = {"feedback": {kind: fixed["feedback"][kind]}} if kind in fixed["feedback"] else {}
        (angle,) = analysis.feedback_angles({kind: params[kind]}, alone, kind).values()
        assert angle == angles[kind] > 1
    with pytest.raises(KeyError, match=r"of layers that differ give \{layer: kind\}"):
        analysis.feedback_angles(params, fixed, "kolen_pollack")
    with pytest.raises(KeyError, match="weights feedback_kernel, which feedback 'tied'"):
        analysis.feedback_angles(params, fixed, kinds | {"kolen_pollack": "tied"})
    with pytest.raises(KeyError, match="has no 'feedback_kernel' of feedback 'kolen_pollack'"):
        analysis.feedback_angles(params, fixed, kinds | {"sign": "kolen_pollack"})
    with pytest.raises(
        KeyError, match="no layer 'outptu' with a kernel, but direct, flax, kolen_pollack"
    ):
        analysis.feedback_angles(params, fixed, kinds | {"outptu": "tied"})
    with pytest.raises(ValueError, match="unknown feedback 'magic'"):
        analysis.feedback_angles(params, fixed, kinds | {"tied": "magic"})


def test_layers_within_modules():
    params = {"block": {"out": {"kernel": KERNEL, "feedback_kernel": DOWN}}}
    for feedback in ("kolen_pollack", {"block/out": "kolen_pollack"}):
        angles = analysis.feedback_angles(params, {}, feedback)
        np.testing.assert_allclose(angles["block/out"], [45, 180], atol=0.05)
    up, down = {"block": {"out": {"kernel": KERNEL}}}, {"block": {"out": {"kernel": DOWN}}}
    # (1 + 0 - 1 - 1) / (√3 · 2)
    expected = np.degrees(np.arccos(-1 / 12**0.5))
    np.testing.assert_allclose(analysis.layer_angles(up, down)["block/out"], expected, rtol=1e-5)


def test_layers_with_axes_of_their_own_are_refused_beside_others():
    """Those of ``nn.vmap``, or of ``nn.scan``: in one network, and in several side by side."""
    heads = jnp.stack([KERNEL, KERNEL, KERNEL])  # three seeds, two heads each
    for one, all_heads in ((KERNEL[0], KERNEL), (KERNEL, heads)):
        params = {"heads": {"kernel": all_heads}, "out": {"kernel": one}}
        with pytest.raises(ValueError, match=r"'heads'.* of nn\.vmap and nn\.scan apart"):
            analysis.feedback_angles(params, {}, "tied")


def test_kernels_of_other_shapes_are_of_seeds_if_that_is_said():
    """Three axes: a one-dimensional convolution's, or dense ones of three seeds."""
    up, down = np.random.default_rng(0).normal(size=(2, 3, 2, 4)).astype(np.float32)
    params = {"taps": {"kernel": up, "feedback_kernel": down}}

    def by_hand(a, b):
        cosine = (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
        return np.degrees(np.arccos(cosine))

    whole = analysis.feedback_angles(params, {}, "kolen_pollack", seeds=False)["taps"]
    np.testing.assert_allclose(whole, by_hand(up, down), rtol=1e-5)
    each = analysis.feedback_angles(params, {}, "kolen_pollack", seeds=True)["taps"]
    np.testing.assert_allclose(
        each, [by_hand(*pair) for pair in zip(up, down, strict=True)], rtol=1e-5
    )
    params["out"] = {"kernel": up[0], "feedback_kernel": down[0]}
    angles = analysis.feedback_angles(params, {}, "kolen_pollack", seeds=False)
    np.testing.assert_allclose(angles["out"], by_hand(up[0], down[0]), rtol=1e-5)
    with pytest.raises(TypeError, match="seeds must be True or False"):
        analysis.feedback_angles(params, {}, "kolen_pollack", seeds=3)


@pytest.mark.parametrize("kind", ["kolen_pollack", "random", "sign_fixed", "product"])
def test_layers_without_feedback_weights_are_tied(kind):
    """AGREL's network has one such layer; the other's angle is that of the layer alone."""
    network = ThreeLayer(num_actions=3, hidden=4, feedback=kind)
    keys = {name: jax.random.key(0) for name in ("params", "feedback")}
    variables = network.init(keys, jnp.ones((1, 5)))
    params = variables.pop("params")
    angles = analysis.feedback_angles(params, variables, kind)
    assert angles["hidden"] == 0
    output = {name: tree["output"] for name, tree in variables.items()}
    alone = {name: {"output": tree} for name, tree in output.items()}
    only = analysis.feedback_angles({"output": params["output"]}, alone, kind)
    np.testing.assert_array_equal(angles["output"], only["output"])
    assert 10 < angles["output"] < 170


@pytest.mark.parametrize("kind", ["kolen_pollack", "random", "sign_fixed", "product"])
def test_variables_of_another_pathway_are_named(kind):
    with pytest.raises(KeyError, match=f"layer 'block/out' has no .* of feedback '{kind}'"):
        analysis.feedback_angles({"block": {"out": {"kernel": KERNEL}}}, {}, kind)


@pytest.mark.parametrize("kind", FEEDBACKS)
def test_weights_of_another_pathway_are_not_passed_over(kind):
    """Layers of each kind, read as those of every other."""
    layer = Dense(3, feedback=kind, num_actions=2)
    keys = {name: jax.random.key(0) for name in ("params", "feedback")}
    variables = layer.init(keys, jnp.ones((1, 4)))
    params, fixed = {"out": variables["params"]}, {"out": variables.get("feedback", {})}
    plain = ("tied", "sign", "sign_batchwise")  # whose layers have forward weights alone
    for other in FEEDBACKS:
        if other == kind or (kind in plain and other in (*plain, "direct")):
            analysis.feedback_angles(params, {"feedback": fixed}, other)
        else:
            with pytest.raises(KeyError):
                analysis.feedback_angles(params, {"feedback": fixed}, other)


def test_an_unknown_feedback():
    with pytest.raises(ValueError, match="unknown feedback 'magic'"):
        analysis.feedback_angles({"out": {"kernel": KERNEL}}, {}, "magic")


LAYERS = ("Dense_0", "Dense_1", "Dense_2")
OUTCOMES = {"q_agrel": np.array([1.0, 0.0, -0.5]), "backprop": np.array([0, 2, 1])}


def _compared(kind, rule):
    """Return the angles of ``kind``, and what they are made of."""
    network = make_network("dense", 3, hidden=(5, 4), feedback=kind, feedback_init="he")
    inputs = jax.random.uniform(jax.random.key(0), (3, 6), float)
    variables = jax.jit(network.init)(jax.random.key(1), inputs)

    def forward_of(network):
        streams = {"feedback": jax.random.key(2)}
        return lambda params, x: network.apply({**variables, "params": params}, x, rngs=streams)

    forwards = forward_of(network), forward_of(network.clone(feedback="tied"))

    @jax.jit
    def compare(params):
        actions = []

        def answer(chosen):
            actions.append(chosen)
            return OUTCOMES[rule.name]

        key = jax.random.key(3)
        return analysis.update_angles(key, rule, *forwards, params, inputs, answer), actions

    found, actions = compare(variables["params"])
    np.testing.assert_array_equal(*actions)  # the same choices with both pathways
    return found, variables, inputs, actions[0]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("rule", [rules.q_agrel(softmax), rules.backprop()], ids=lambda r: r.name)
def test_update_angles_are_those_of_local_changes_to_the_gradient_of_the_loss(rule):
    found, variables, inputs, actions = _compared("random", rule)
    kernels = [variables["params"][name]["kernel"] for name in LAYERS]

    def loss(kernels):
        x = inputs
        for kernel in kernels[:-1]:
            x = jnp.maximum(x @ kernel, 0)
        outputs, rows = x @ kernels[-1], jnp.arange(3)
        if rule.name == "backprop":
            return -jax.nn.log_softmax(outputs)[rows, OUTCOMES["backprop"]].mean()
        return (0.5 * (OUTCOMES["q_agrel"] - outputs[rows, actions]) ** 2).mean()

    layers = [
        {
            "kind": "dense",
            "kernel": np.asarray(kernel),
            "feedback": np.asarray(variables["feedback"][name]["kernel"]),
        }
        for name, kernel in zip(LAYERS, kernels, strict=True)
    ]
    changes = [np.zeros_like(layer["kernel"]) for layer in layers]
    for image, action, outcome in zip(
        *map(np.asarray, (inputs, actions)), OUTCOMES[rule.name], strict=True
    ):
        if rule.name == "backprop":
            ours, _ = local_learning.backprop_change(layers, image, outcome)
        else:
            ours, _ = local_learning.q_agrel_change(layers, image, action, outcome)
        changes = [total - change / 3 for total, change in zip(changes, ours, strict=True)]
    gradients = jax.jit(jax.grad(loss))(kernels)
    for name, change, gradient in zip(LAYERS, changes, map(np.asarray, gradients), strict=True):
        norms = np.linalg.norm(change), np.linalg.norm(gradient)
        cosine = np.clip((change * gradient).sum() / norms[0] / norms[1], -1, 1)
        np.testing.assert_allclose(found.angle[name], np.degrees(np.arccos(cosine)), atol=1e-5)
        np.testing.assert_allclose(found.norm_ratio[name], norms[0] / norms[1], rtol=1e-9)
    assert found.angle["Dense_0"] > 5 and found.angle["Dense_2"] < 1e-5


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", ["tied", "sign_batchwise", "direct", "product"])
def test_update_angles_of_other_kinds(kind):
    """The output layer's update is the gradient whatever the pathway; with tied feedback all is."""
    found, *_ = _compared(kind, rules.q_agrel(softmax))
    assert list(found.angle) == list(found.norm_ratio) == list(LAYERS)
    exact = LAYERS if kind == "tied" else LAYERS[-1:]
    for name in LAYERS:
        assert (found.angle[name] < 1e-5) == (name in exact)
    np.testing.assert_allclose(found.norm_ratio["Dense_2"], 1, rtol=1e-12)


@pytest.mark.parametrize(
    ("learns", "has_gradient", "ratio"),
    [(1, 1, 1), (3, 1, 3), (0, 1, 0), (1, 0, np.inf), (0, 0, np.nan)],
)
def test_the_ratio_of_norms_also_where_update_or_gradient_is_zero(learns, has_gradient, ratio):
    params = {"out": {"kernel": jnp.zeros((2, 3))}}

    def times(factor):
        return lambda params, inputs: factor * (inputs @ params["out"]["kernel"])

    found = analysis.update_angles(
        jax.random.key(0),
        rules.q_agrel(),
        times(learns),
        times(has_gradient),
        params,
        jnp.ones((4, 2)),
        lambda actions: jnp.ones(4),
    )
    np.testing.assert_allclose(found.norm_ratio["out"], ratio, rtol=1e-6)


def test_tangent_kernel_is_the_squared_norm_of_literal_gradients():
    generator = np.random.default_rng(5)
    x, w, v = (generator.normal(size=shape) for shape in ((6, 3), (3, 8), (8, 4)))
    bias = generator.normal(size=8)
    with jax.enable_x64(True):
        params = {"block": {"hidden": {"kernel": jnp.array(w), "bias": jnp.array(bias)}}}
        params["out"] = {"kernel": jnp.array(v), "feedback_kernel": jnp.array(v)}

        def forward(params, inputs):
            hidden = params["block"]["hidden"]
            below = inputs @ hidden["kernel"] + hidden["bias"][None]
            return jax.nn.relu(below) @ params["out"]["kernel"]

        found = analysis.tangent_kernel(forward, params, jnp.array(x))
    for i, one in enumerate(x):
        hidden = np.maximum(one @ w + bias, 0)
        chosen = np.argmax(hidden @ v)
        back = np.where(hidden > 0, v[:, chosen], 0)
        of_hidden = np.sum(np.outer(one, back) ** 2) + np.sum(back**2)
        np.testing.assert_allclose(found["out"][i], np.sum(hidden**2), rtol=1e-12)
        np.testing.assert_allclose(found["block/hidden"][i], of_hidden, rtol=1e-12)


def test_of_equal_outputs_the_tangent_kernel_is_that_of_one():
    params = {"out": {"kernel": jnp.zeros((2, 3))}}
    found = analysis.tangent_kernel(lambda p, x: x @ p["out"]["kernel"], params, jnp.ones((1, 2)))
    assert found["out"].tolist() == [2.0]


def test_tangent_kernel_says_how_far_a_small_update_moves_the_chosen_q_value():
    network = make_network("conv", 3)
    with jax.enable_x64(True):
        images = jax.random.uniform(jax.random.key(0), (1, 8, 8, 1), float)
        variables = jax.jit(network.init)(jax.random.key(1), images)
        params = variables.pop("params")
        params = jax.tree.map(lambda w: w.astype(float), params)

        def forward(params, images):
            return network.apply({"params": params, **variables}, images)

        kernel = sum(analysis.tangent_kernel(forward, params, images).values())
        rule, step = rules.q_agrel(make_policy("max_boltzmann", epsilon=0.0)), 1e-7

        @jax.jit
        def learn(params):
            decision = rule.act(jax.random.key(2), forward, params, images)
            update, rpe = rule.update(decision, jnp.ones(1))  # of descent: minus δ ∂q_s/∂w
            return jax.tree.map(lambda w, g: w - step * g, params, update), rpe

        (moved, rpe), q_values = learn(params), jax.jit(forward)
        change = q_values(moved, images).max() - q_values(params, images).max()
        np.testing.assert_allclose(change, step * rpe[0] * kernel[0], rtol=1e-4)


@pytest.mark.parametrize("size", [1e-25, 1e-18, 1.0, 1e20, 1e30])
def test_angles_of_any_size_of_weights(size):
    a, b = jnp.array([1.0, 1.0, 1.0]) * size, jnp.array([1.0, 0.0, 0.0])
    expected = np.degrees(np.arccos(1 / np.sqrt(3)))
    np.testing.assert_allclose(analysis.angle_degrees(a, b), expected, rtol=1e-6)
    np.testing.assert_allclose(analysis.angle_degrees(a, a), 0, atol=1e-4)
    np.testing.assert_allclose(analysis.angle_degrees(a, -b * size), 180 - expected, rtol=1e-6)


@pytest.mark.parametrize("degrees", [0.0, 0.001, 0.02, 90.0, 179.99, 180.0])
def test_angles_small_and_large_are_resolved_in_float32(degrees):
    first, second = np.random.default_rng(0).normal(size=(2, 1000))
    first /= np.linalg.norm(first)
    second -= (second @ first) * first
    second /= np.linalg.norm(second)
    turned = np.cos(np.radians(degrees)) * first + np.sin(np.radians(degrees)) * second
    found = analysis.angle_degrees(jnp.float32(first), jnp.float32(3 * turned))
    np.testing.assert_allclose(found, degrees, atol=1e-4)


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.int32, jnp.bfloat16, jnp.float16])
def test_angles_of_other_numbers(dtype):
    a, b = jnp.array([100, 100], dtype), jnp.array([0, 100], dtype)
    np.testing.assert_allclose(analysis.angle_degrees(a, b), 45, rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_no_angle_of_nothing(value):
    assert np.isnan(analysis.angle_degrees(jnp.full(3, value), jnp.ones(3)))


def test_arrays_of_different_shapes_have_no_angle():
    with pytest.raises(ValueError, match=r"b must be \[2, 3\], got \[3, 2\]"):
        analysis.angle_degrees(jnp.ones((2, 3)), jnp.ones((3, 2)))


def test_norms_of_vanishing_updates_are_no_zero():
    network = make_network("dense", 3, hidden=(5,))
    variables = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 4)))
    params = jax.tree.map(lambda w: w * 1e-12, variables["params"])

    def forward(params, inputs):
        return network.apply({"params": params}, inputs) * 1e-12

    found = analysis.update_angles(
        jax.random.key(1),
        rules.q_agrel(),
        forward,
        forward,
        params,
        jnp.ones((4, 4)),
        jnp.ones_like,
    )
    for layer in ("Dense_0", "Dense_1"):
        np.testing.assert_allclose(found.norm_ratio[layer], 1, rtol=1e-6)


def test_parameters_without_layers_are_named_or_refused():
    """f = w₂ w₁ x: ∂f/∂w₁ = w₂ x, ∂f/∂w₂ = w₁ x."""
    params, x = {"w1": jnp.array([[2.0]]), "w2": jnp.array([[3.0]])}, jnp.array([[5.0]])

    def forward(params, x):
        return x @ params["w1"] @ params["w2"]

    found = analysis.tangent_kernel(forward, params, x)
    assert {name: value.tolist() for name, value in found.items()} == {"w1": [225], "w2": [100]}
    with pytest.raises(ValueError, match="no layer of the update has a 'kernel'"):
        analysis.update_angles(
            *(jax.random.key(0), rules.q_agrel(), forward, forward, params, x),
            lambda actions: jnp.ones(1),
        )
    with pytest.raises(TypeError, match="must be a dictionary of layers, got list"):
        analysis.layer_angles([jnp.eye(2)], [jnp.eye(2)])
    with pytest.raises(TypeError, match="params must be a Mapping"):
        analysis.tangent_kernel(lambda params, x: x @ params[0], [jnp.eye(1)], x)


def test_updates_of_different_layers_are_refused():
    one, both = ({name: {"kernel": jnp.ones(2)} for name in names} for names in ("a", "ab"))
    for pair in ((one, both), (both, one)):
        with pytest.raises(ValueError, match="a and b differ in the kernels of b"):
            analysis.layer_angles(*pair)


def test_an_nnx_models_layers_are_named_by_their_numbers():
    model = nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.relu)
    state = nnx.state(model, nnx.Param)
    with pytest.raises(TypeError, match=r"got State: nnx.to_pure_dict"):
        analysis.layer_angles(state, state)
    plain = nnx.to_pure_dict(state)
    angles = analysis.layer_angles(plain, plain)
    assert list(angles) == ["layers/0"] and abs(angles["layers/0"]) < 0.1
    feedback = analysis.feedback_angles(plain, {}, "tied")
    assert list(feedback) == ["layers/0"] and abs(feedback["layers/0"]) < 0.1


def test_the_tangent_kernel_of_an_nnx_model_by_hand():
    """q = x @ w + b: the greedy output's squared gradient is |x|² + 1."""

    def forward(params, x):
        layer = params["layers"][0]
        return x @ layer["kernel"] + layer["bias"][None]

    model = nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.relu)
    state = nnx.state(model, nnx.Param)
    found = analysis.tangent_kernel(forward, nnx.to_pure_dict(state), jnp.array([[3.0, 4.0]]))
    assert list(found) == ["layers/0"]
    np.testing.assert_allclose(found["layers/0"], [26.0], rtol=1e-6)
    with pytest.raises(TypeError, match=r"params must be a dictionary of layers, got State: nnx"):
        analysis.tangent_kernel(forward, state, jnp.array([[3.0, 4.0]]))
