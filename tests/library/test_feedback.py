"""Every kind of feedback pathway against a loop over synapses, and what each may know of W."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.nnx import bridge

from qagrel_jax import networks, rules
from qagrel_jax.layers import Conv, Dense, LocallyConnected, feedback, output_error
from qagrel_jax.layers.feedback import FEEDBACKS
from qagrel_jax.layers.kernels import feedback_kernels
from qagrel_jax.policies import softmax
from qagrel_jax.training import feedback_updates
from tests.combinations import every_value
from tests.reference import local_learning

ACTIONS, BATCH, SCALE = 3, 3, 0.7
INDEPENDENT = ("kolen_pollack", "random", "direct", "product")
STACKS = {
    "dense": ((Dense, {"features": 4}), (Dense, {"features": 3})),
    "conv": (
        (Conv, {"features": 2, "padding": "SAME"}),
        (Conv, {"features": 2, "padding": "VALID", "window": (2, 2), "strides": (2, 2)}),
    ),
    "locally_connected": (
        (LocallyConnected, {"features": 2, "padding": "VALID"}),
        (LocallyConnected, {"features": 2, "padding": "SAME", "strides": (2, 2)}),
    ),
}
KINDS = {Dense: "dense", Conv: "conv", LocallyConnected: "local"}
RULES = {"q_agrel": rules.q_agrel(policy=softmax), "backprop": rules.backprop()}


def _init(key, shape, dtype=None):
    """Nothing like the forward kernels, and the same whatever the key."""
    del key
    return jnp.cos(1.3 * jnp.arange(np.prod(shape), dtype=dtype or float).reshape(shape) + 1)


class Net(nn.Module):
    """A few layers of a kind, and an output layer."""

    stack: tuple
    feedback: str
    scale: float = 1.0
    feedback_init: object = None

    def layer(self, kind, name, **options):
        return kind(
            feedback=self.feedback,
            feedback_scale=self.scale,
            feedback_init=self.feedback_init,
            num_actions=ACTIONS,
            expansion=2,
            name=name,
            **options,
        )

    @nn.compact
    def __call__(self, x):
        for number, (kind, options) in enumerate(self.stack):
            if kind is Dense:
                x = x.reshape(x.shape[0], -1)
            x = nn.relu(self.layer(kind, f"layer_{number}", **options)(x))
        return self.layer(Dense, "output", features=ACTIONS)(x.reshape(x.shape[0], -1))


def _feedback_of(kind, kernel, params, fixed):
    """Return the layer's feedback weights, written out from the definitions."""
    match kind:
        case "tied":
            return {"feedback": kernel}
        case "kolen_pollack":
            return {"feedback": params["feedback_kernel"]}
        case "random":
            return {"feedback": fixed["kernel"]}
        case "sign":
            return {"feedback": SCALE * np.sign(kernel) * np.abs(kernel).mean()}
        case "sign_batchwise" | "sign_fixed":
            # ``_init`` gives each position of a locally connected layer the same.
            shape = kernel.shape[-4:] if kernel.ndim == 6 else kernel.shape
            return {"feedback": SCALE * np.sign(kernel) * np.abs(_init(None, shape))}
        case "direct":
            return {"direct": fixed["direct_kernel"]}
        case "product":
            mixing, units = fixed["mixing"], params["feedback_kernel"]
            return {"feedback": local_learning.product_feedback(mixing, units)}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("stack", "kind"), every_value(STACKS, FEEDBACKS))
def test_the_local_equations(stack, kind):
    scale = 1.0 if kind == "tied" else SCALE
    network = Net(STACKS[stack], kind, scale, _init)
    inputs = jax.random.uniform(jax.random.key(0), (BATCH, 4, 4, 2), float)
    variables = jax.jit(network.init)(jax.random.key(1), inputs)
    params, fixed = variables["params"], variables.get("feedback", {})
    outcomes = {"q_agrel": np.array([1.0, 0.0, -0.5]), "backprop": np.array([0, 2, 1])}

    def forward(params, inputs):
        streams = {"feedback": jax.random.key(3)}
        return network.apply({**variables, "params": params}, inputs, rngs=streams)

    @jax.jit
    def learn(params):
        decisions = {n: r.act(jax.random.key(2), forward, params, inputs) for n, r in RULES.items()}
        updates = {n: r.update(decisions[n], outcomes[n]) for n, r in RULES.items()}
        return decisions["q_agrel"].action, updates

    actions, updates = learn(params)
    names = [*(f"layer_{i}" for i in range(len(STACKS[stack]))), "output"]
    literal = []
    for name, (layer, options) in zip(names, [*STACKS[stack], (Dense, {})], strict=True):
        kernel = np.asarray(params[name]["kernel"])
        own = jax.tree.map(np.asarray, (dict(params[name]), dict(fixed.get(name, {}))))
        literal.append(
            {
                "kind": KINDS[layer],
                "kernel": kernel,
                "padding": options.get("padding"),
                "stride": options.get("strides", (1, 1))[0],
                **_feedback_of(kind, kernel, *own),
            }
        )
    for rule, (grads, errors) in updates.items():
        mean = [0] * len(names)
        for b in range(BATCH):
            image, outcome = np.asarray(inputs[b]), outcomes[rule][b]
            if rule == "backprop":
                changes, error = local_learning.backprop_change(literal, image, outcome)
            else:
                changes, error = local_learning.q_agrel_change(literal, image, actions[b], outcome)
            np.testing.assert_allclose(errors[b], error, atol=1e-10)
            mean = [m + c / BATCH for m, c in zip(mean, changes, strict=True)]
        for name, change in zip(names, mean, strict=True):
            _check(kind, grads[name], change, fixed.get(name, {}))


def _check(kind, grads, change, fixed):
    np.testing.assert_allclose(-grads["kernel"], change, atol=1e-10)
    assert np.abs(change).max() > 1e-4
    if kind == "kolen_pollack":
        np.testing.assert_allclose(-grads["feedback_kernel"], change, atol=1e-10)
    elif kind == "product":
        expected = local_learning.product_change(np.asarray(fixed["mixing"]), change)
        np.testing.assert_allclose(-grads["feedback_kernel"], expected, atol=1e-10)
    else:
        assert set(grads) == {"kernel"}


LAYERS = {
    "dense": (Dense(4), (3, 5)),
    "conv": (Conv(4, strides=(2, 2)), (2, 5, 5, 3)),
    "locally_connected": (LocallyConnected(4, padding="VALID"), (2, 5, 5, 3)),
}


@pytest.mark.parametrize("kind", FEEDBACKS)
@pytest.mark.parametrize("name", LAYERS)
def test_who_reads_the_forward_kernel_on_the_way_down(name, kind):
    """Other forward weights: an independent kind sends down the same, bit for bit."""
    layer, shape = LAYERS[name]
    network = nn.Sequential(
        [layer.clone(feedback=kind, num_actions=4), lambda x: x.mean((1, 2)) if x.ndim == 4 else x]
    )
    inputs = jax.random.normal(jax.random.key(0), shape)
    variables = jax.jit(network.init)(jax.random.key(1), inputs)
    kernel = variables["params"]["layers_0"]["kernel"]

    @jax.jit
    def down(kernel):
        own = {**variables["params"]["layers_0"], "kernel": kernel}
        with output_error.delivered():
            outputs, pathway = jax.vjp(
                lambda x: network.apply(
                    {**variables, "params": {"layers_0": own}},
                    x,
                    rngs={"feedback": jax.random.key(2)},
                ),
                inputs,
            )
        return outputs, pathway(jnp.ones_like(outputs))[0]

    (outputs, before), (other_outputs, after) = down(kernel), down(kernel[::-1] - 0.3)
    assert not np.allclose(outputs, other_outputs)
    assert np.array_equal(before, after) == (kind in INDEPENDENT)
    assert np.abs(before).max() > 0


def test_a_layer_that_runs_twice_hears_of_the_output_error_each_time():
    """x̄ = e Bᵀ at the first pass, too, from where it goes on to the layer below."""

    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            again = Dense(5, feedback="direct", num_actions=ACTIONS, name="again")
            return Dense(ACTIONS, name="output")(again(again(Dense(5, name="below")(x))))

    inputs, labels = jax.random.normal(jax.random.key(0), (2, 4)), jnp.array([0, 2])
    variables = jax.jit(Twice().init)(jax.random.key(1), inputs)

    def forward(params, x):
        return Twice().apply({**variables, "params": params}, x)

    decision = RULES["backprop"].act(jax.random.key(2), forward, variables["params"], inputs)
    changes, _ = RULES["backprop"].update(decision, labels)
    error = (jax.nn.softmax(decision.outputs) - jnp.eye(ACTIONS)[labels]) / 2
    down = error @ variables["feedback"]["again"]["direct_kernel"].T
    np.testing.assert_allclose(changes["below"]["kernel"], inputs.T @ down, atol=1e-6)


def test_batchwise_magnitudes_are_drawn_in_each_pass_and_the_others_stay():
    inputs = jnp.ones((1, 5))

    def down(kind, seed):
        layer = Dense(4, feedback=kind)
        variables = jax.jit(layer.init)(jax.random.key(1), inputs)
        streams = {"feedback": jax.random.key(seed)}
        _, pathway = jax.vjp(lambda x: layer.apply(variables, x, rngs=streams), inputs)
        return pathway(jnp.ones((1, 4)))[0]

    assert not np.allclose(down("sign_batchwise", 0), down("sign_batchwise", 1))
    np.testing.assert_array_equal(down("sign_fixed", 0), down("sign_fixed", 1))


def test_batchwise_magnitudes_need_a_random_stream_to_learn_not_to_compute():
    layer, inputs = Dense(4, feedback="sign_batchwise"), jnp.ones((1, 5))
    variables = jax.jit(layer.init)(jax.random.key(1), inputs)
    layer.apply(variables, inputs)
    with pytest.raises(ValueError, match=r"'Dense' with feedback 'sign_batchwise' draws .* rngs="):
        jax.grad(lambda v: layer.apply(v, inputs).sum())(variables)


@pytest.mark.parametrize("kind", [k for k in FEEDBACKS[1:] if k not in ("sign", "sign_batchwise")])
def test_the_scale_of_the_weights_that_are_drawn(kind):
    """The two left out draw no weights that stay."""
    inputs = jnp.ones((1, 4))
    one, double = (
        Net(STACKS["dense"], kind, scale).init({"params": jax.random.key(0)}, inputs)
        for scale in (1.0, 2.0)
    )
    compared = 0
    for collection, name in (
        ("params", "feedback_kernel"),
        ("feedback", "kernel"),
        ("feedback", "magnitude"),
        ("feedback", "direct_kernel"),
    ):
        if name in one.get(collection, {}).get("layer_0", {}):
            a, b = (v[collection]["layer_0"][name] for v in (one, double))
            np.testing.assert_allclose(2 * a, b, rtol=1e-6)
            compared += 1
    assert compared > 0
    np.testing.assert_array_equal(
        one["params"]["output"]["kernel"], double["params"]["output"]["kernel"]
    )


def test_product_feedback_is_of_the_size_that_was_drawn_and_turns_to_the_forward_weights():
    layer = Dense(300, feedback="product", expansion=4)
    variables = jax.jit(layer.init)(jax.random.key(0), jnp.ones((1, 100)))
    down = feedback_kernels(variables["params"], variables, "product")[()]
    np.testing.assert_allclose(down.std(), variables["params"]["kernel"].std(), rtol=0.15)
    # After enough decay C is W M: the angle that is left is arctan √(1/expansion).
    mixing, kernel = variables["feedback"]["mixing"], variables["params"]["kernel"]
    learned = kernel @ mixing @ mixing.T
    cosine = (learned * kernel).sum() / jnp.linalg.norm(learned) / jnp.linalg.norm(kernel)
    np.testing.assert_allclose(np.degrees(np.arccos(cosine)), np.degrees(np.arctan(0.5)), atol=1)


BAD = {
    "scale of tied": ({"feedback_scale": 2.0}, "tied feedback has no scale of its own, got .* 2.0"),
    "scale": ({"feedback": "random", "feedback_scale": 0.0}, "feedback_scale must be .* got 0.0"),
    "actions": ({"feedback": "direct"}, "feedback 'direct' needs num_actions, .* got None"),
    "expansion": ({"feedback": "product", "expansion": 0}, "expansion must be at least 1, got 0"),
    "kind": ({"feedback": "magic"}, "unknown feedback 'magic'; valid: tied, kolen_pollack"),
}


@pytest.mark.parametrize("case", BAD)
def test_settings_out_of_range(case):
    options, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        Dense(2, **options).init(jax.random.key(0), jnp.ones((1, 3)))


@pytest.mark.parametrize("kind", ["random", "sign_fixed", "direct", "product"])
@pytest.mark.parametrize("layer", [Dense, Conv])
def test_fixed_feedback_weights_of_another_shape_are_named(kind, layer):
    layer, images = layer(3, feedback=kind, num_actions=2), jnp.ones((1, 4, 5, 2))
    variables = jax.jit(layer.init)(jax.random.key(0), images)
    turned = jax.tree.map(lambda x: x.swapaxes(-1, -2), variables["feedback"])
    with pytest.raises(ValueError, match=r"has feedback weights \w+ of \[.*\], got \["):
        layer.apply({**variables, "feedback": turned}, images)


@pytest.mark.parametrize("alias", feedback.ALIASES)
def test_earlier_names_are_the_same_layer(alias):
    inputs = jnp.ones((1, 3))
    old, new = (
        jax.jit(Dense(2, feedback=f).init)(jax.random.key(0), inputs)
        for f in (alias, "kolen_pollack")
    )
    jax.tree.map(np.testing.assert_array_equal, old, new)
    assert networks.make_network("dense", 2, feedback=alias).feedback == "kolen_pollack"


class TestDirect:
    """The error of the outputs, delivered."""

    def test_it_needs_the_output_error_to_learn_not_to_compute(self):
        layer, inputs = Dense(2, feedback="direct", num_actions=2), jnp.ones((1, 3))
        variables = jax.jit(layer.init)(jax.random.key(0), inputs)
        assert set(variables) == {"params", "feedback"}
        layer.apply(variables, inputs)
        with pytest.raises(ValueError, match="'Dense' with feedback 'direct' needs the error of"):
            jax.grad(lambda v: layer.apply(v, inputs).sum())(variables)

    def test_outputs_of_another_shape_are_refused(self):
        network = nn.Sequential([Dense(2, feedback="direct", num_actions=3)])
        variables = jax.jit(network.init)(jax.random.key(0), jnp.ones((1, 3)))
        with pytest.raises(ValueError, match=r"shape \(1, 3\), but the network returns \(1, 2\)"):
            rules.q_agrel().act(
                jax.random.key(0),
                lambda p, x: network.apply({**variables, "params": p}, x),
                variables["params"],
                jnp.ones((1, 3)),
            )

    def test_other_collections_and_streams_are_those_of_a_plain_pass(self):
        """BatchNorm's statistics come out, dropout drops the same units, the taps stay inside."""

        class Normalized(nn.Module):
            @nn.compact
            def __call__(self, x):
                x = Dense(8, feedback="direct", num_actions=2)(x)
                x = nn.Dropout(0.5, deterministic=False)(nn.BatchNorm(use_running_average=False)(x))
                return Dense(2, feedback="direct", num_actions=2)(x)

        inputs, streams = jnp.arange(12.0).reshape(3, 4), {"dropout": jax.random.key(2)}
        variables = Normalized().init({"params": jax.random.key(1), **streams}, inputs)

        def run():
            collections = ["batch_stats", "feedback"]
            return Normalized().apply(variables, inputs, rngs=streams, mutable=collections)

        plain = run()
        with output_error.delivered():
            delivered = run()
        jax.tree.map(np.testing.assert_array_equal, plain, delivered)
        assert set(delivered[1]) == {"batch_stats", "feedback"}


@pytest.mark.parametrize("delay", [0, 2])
def test_feedback_weights_learn_at_a_rate_and_from_a_step_of_their_own(delay):
    params = {"out": {"kernel": jnp.ones(2), "feedback_kernel": jnp.ones(2)}}
    optimizer = optax.chain(
        optax.add_decayed_weights(0.5, mask=feedback_updates.is_feedback),
        optax.sgd(0.1),
        feedback_updates.scale_feedback_updates(0.3, delay),
    )
    state = optimizer.init(params)
    for step in range(4):
        gradient = {"out": {"kernel": jnp.full(2, 2.0), "feedback_kernel": jnp.full(2, 2.0)}}
        updates, state = optimizer.update(gradient, state, params)
        np.testing.assert_allclose(updates["out"]["kernel"], -0.2)
        expected = 0.0 if step < delay else -0.1 * 0.3 * (2 + 0.5)
        np.testing.assert_allclose(updates["out"]["feedback_kernel"], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"rate": -1}, ValueError),
        ({"rate": np.nan}, ValueError),
        ({"rate": np.inf}, ValueError),
        ({"rate": "x"}, TypeError),
        ({"delay": -1}, ValueError),
        ({"delay": 0.5}, ValueError),
    ],
)
def test_a_bad_rate_or_delay_of_feedback_weights_is_named(given, error):
    (name,) = given
    with pytest.raises(error, match=f"{name} must be .*, got"):
        feedback_updates.scale_feedback_updates(**given)


def test_feedback_weights_are_found_in_any_tree():
    class Weights(NamedTuple):
        kernel: int
        feedback_kernel: int

    params = {"a": [1, Weights(2, 3)], "b": {"kernel": 4, "feedback_kernel": 5}}
    expected = {
        "a": [False, Weights(False, True)],
        "b": {"kernel": False, "feedback_kernel": True},
    }
    assert feedback_updates.is_feedback(params) == expected
    assert feedback_updates.is_forward(params)["a"] == [False, Weights(True, False)]
    assert feedback_updates.is_forward(1) is False


def test_masks_find_the_weights_of_an_nnx_model():
    layer = bridge.ToNNX(Dense(3, feedback="kolen_pollack"), rngs=nnx.Rngs(0))
    params = nnx.state(bridge.lazy_init(layer, jnp.ones((1, 2))), nnx.Param)
    forward, down = feedback_updates.is_forward(params), feedback_updates.is_feedback(params)
    assert [m["kernel"].get_value() for m in (forward, down)] == [True, False]
    assert [m["feedback_kernel"].get_value() for m in (forward, down)] == [False, True]
