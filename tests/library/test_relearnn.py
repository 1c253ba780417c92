"""RELEARNN: implicit differentiation when settled, the literal three phases always."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from qagrel_jax.layers import Dense, layers
from qagrel_jax.layers.feedback import FEEDBACKS
from qagrel_jax.policies import softmax
from qagrel_jax.recurrent import (
    GridNet,
    GridState,
    Recurrent,
    as_recurrent,
    relative_rates,
    squash,
)
from qagrel_jax.rules import converged, relearnn
from tests.combinations import every_value
from tests.reference import relearnn as literal

REWARDS = np.array([1.2, 0.0, -0.5])
BATCH = len(REWARDS)


def _curves(n=3):
    """Images of a few colored pixels."""
    on = np.random.default_rng(1).uniform(size=(BATCH, n, n, 4)) < 0.3
    return jnp.asarray(on, jnp.result_type(float))


def _grid(shared, feedback="tied", weight_range=0.25):
    network = GridNet(shared=shared, feedback=feedback, weight_range=weight_range)
    images = _curves()
    functions = as_recurrent(network)
    variables = jax.jit(network.init)(jax.random.key(3), functions.start(images), images)
    fixed = {name: value for name, value in variables.items() if name != "params"}
    return as_recurrent(network, fixed), variables["params"], images


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "shared",
    [True, pytest.param(False, marks=pytest.mark.slow)],
    ids=["shared", "unshared"],
)
def test_settled_it_is_the_gradient_of_half_squared_rpe(shared, monkeypatch):
    """The reference differentiates the fixed point implicitly and has no feedback pathway."""
    functions, params, images = _grid(shared)
    rule = relearnn(softmax, steps=1000, sweeps=1000, tolerance=1e-14)

    @jax.jit
    def ours(params):
        decision = rule.act(jax.random.key(1), functions, params, images)
        return decision.action, decision.aux, *rule.update(decision, jnp.asarray(REWARDS))

    action, settled, grads, rpe = ours(params)
    assert converged(settled, 1e-12).all()
    assert settled.steps.min() > 7  # the recurrence matters
    monkeypatch.setattr(layers, "with_feedback", lambda linear: lambda x, w, b: linear(x, w))

    def half_squared_rpe(params, image, action, reward):
        state, unravel = ravel_pytree(functions.start(image[None]))

        def residual(h):
            return ravel_pytree(functions.step(params, unravel(h), image[None]))[0] - h

        def solve(f, h):
            return jax.lax.fori_loop(0, 1000, lambda _, h: f(h) + h, h)

        def tangent_solve(g, y):
            return jnp.linalg.solve(jax.jacfwd(g)(y), y)

        settled = jax.lax.custom_root(residual, state, solve, tangent_solve)
        delta = reward - functions.read_out(params, unravel(settled))[0, action]
        return 0.5 * delta**2, delta

    one = jax.vmap(jax.grad(half_squared_rpe, has_aux=True), in_axes=(None, 0, 0, 0))
    expected, delta = jax.jit(one)(params, images, action, jnp.asarray(REWARDS))
    np.testing.assert_allclose(rpe, delta, atol=1e-8)
    jax.tree.map(
        lambda g, e: np.testing.assert_allclose(g, e.mean(0), atol=1e-8, rtol=1e-8),
        grads,
        expected,
    )
    smallest = min(float(jnp.abs(g).max()) for g in jax.tree.leaves(grads))
    assert smallest > 1e-5


class Small(nn.Module):
    """One recurrent group of ReLUs, for a loop over synapses."""

    feedback: str = "kolen_pollack"

    def setup(self):
        draw = nn.initializers.normal(0.6)
        options = {"feedback": self.feedback, "kernel_init": draw}
        self.v, self.w, self.u = Dense(5, **options), Dense(5, **options), Dense(3, **options)

    def step(self, h, x):
        return nn.relu(self.v(x) + self.w(h))

    def read_out(self, h):
        return self.u(h)

    def __call__(self, h, x):
        return self.read_out(self.step(h, x))


def _small():
    network, inputs = Small(), jax.random.uniform(jax.random.key(0), (BATCH, 4), minval=-1)
    functions = Recurrent(
        start=lambda x: jnp.zeros((x.shape[0], 5), x.dtype),
        step=lambda p, h, x: network.apply({"params": p}, h, x, method="step"),
        read_out=lambda p, h: network.apply({"params": p}, h, method="read_out"),
    )
    params = jax.jit(network.init)(jax.random.key(1), functions.start(inputs), inputs)["params"]
    return functions, params, inputs


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("steps", "sweeps", "clip", "scale"),
    [
        (1, 1, None, None),
        (4, 2, None, {"u": 0.5, "v": 2.0, "w": 0.25}),
        (2, 5, None, None),
        (4, 3, 0.05, None),
        (4, 3, 0.05, {"u": 0.3, "v": 0.1, "w": 0.5}),
    ],
)
def test_it_is_the_three_phases(steps, sweeps, clip, scale):
    """Settled or not, with feedback weights that are not the forward weights."""
    functions, params, inputs = _small()

    def factors(traces):
        return {
            name: jax.tree.map(lambda t, name=name: jnp.full_like(t, scale[name]), layer)
            for name, layer in traces.items()
        }

    options = {} if scale is None else {"scale": factors}
    rule = relearnn(softmax, steps=steps, sweeps=sweeps, clip=clip, **options)

    @jax.jit
    def learn(params):
        decision = rule.act(jax.random.key(2), functions, params, inputs)
        return decision._replace(pathway=None), *rule.update(decision, jnp.asarray(REWARDS))

    decision, grads, rpe = learn(params)
    forward = {name: np.asarray(layer["kernel"]) for name, layer in params.items()}
    feedback = {name: np.asarray(layer["feedback_kernel"]) for name, layer in params.items()}
    mean = {name: np.zeros_like(w) for name, w in forward.items()}
    for b in range(BATCH):
        x, action = np.asarray(inputs[b]), int(decision.action[b])
        changes, delta = literal.change(
            forward,
            feedback,
            x,
            action,
            REWARDS[b],
            steps=steps,
            sweeps=sweeps,
            clip=clip,
            scale=scale,
        )
        h, change = literal.settle(forward, x, steps)
        np.testing.assert_allclose(decision.aux.state[b], h, atol=1e-12)
        np.testing.assert_allclose(decision.aux.residual[b], change, atol=1e-12)
        np.testing.assert_allclose(rpe[b], delta, atol=1e-12)
        mean = {name: mean[name] + changes[name] / BATCH for name in mean}
    for name, change in mean.items():
        # -grads is the published change; the feedback weights change with their partners.
        np.testing.assert_allclose(-grads[name]["kernel"], change, atol=1e-12)
        np.testing.assert_allclose(-grads[name]["feedback_kernel"], change, atol=1e-12)
        assert np.abs(change).max() > 1e-4


@pytest.mark.parametrize("clip", [None, 0.05])
def test_act_and_update_can_be_compiled_apart(clip):
    """An environment in Python stands between them; nothing is compiled twice."""
    functions, params, inputs = _small()
    rule = relearnn(softmax, clip=clip)
    key, rewards = jax.random.key(2), jnp.asarray(REWARDS, jnp.float32)
    together = jax.jit(lambda p, key: rule.update(rule.act(key, functions, p, inputs), rewards)[0])
    act, update = jax.jit(rule.act, static_argnames="network"), jax.jit(rule.update)
    for _ in range(2):
        decision = act(jax.random.clone(key), functions, params, inputs)
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(decision))
        grads, _ = update(decision, rewards)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
            grads,
            together(params, jax.random.clone(key)),
        )
        params = jax.tree.map(lambda w, g: w - 0.1 * g, params, grads)
    update(act(jax.random.clone(key), functions, params, inputs), rewards)
    assert act._cache_size() == update._cache_size() == 1


@pytest.mark.parametrize(
    ("half", "where", "clip"),
    every_value(["bfloat16", "float16"], ["throughout", "in the step alone"], [None, 500.0]),
)
def test_half_precision(half, where, clip):
    """h* = 2x, q = 128 h* = 2048 and 256: a reward of one more is lost in half precision.

    Activity 0.5 h + w x has the traces z x with z = 256, that of the output weight is h*.
    """
    dtype = half if where == "throughout" else jnp.float32

    def step(params, h, x):
        return (0.5 * h + params["w"] * x).astype(half)

    network = Recurrent(jnp.zeros_like, step, lambda params, h: params["q"] * h)
    params = {"w": jnp.ones((), dtype), "q": jnp.asarray(128, dtype)}
    x = jnp.array([[8.0], [1.0]], dtype)
    rule = relearnn(sweeps=50, clip=clip)
    decision = rule.act(jax.random.key(0), network, params, x)
    assert decision.outputs.dtype == decision.aux.residual.dtype == jnp.float32
    np.testing.assert_array_equal(decision.outputs, [[2048], [256]])
    grads, rpe = rule.update(decision, jnp.array([2049.0, 257.0]))
    np.testing.assert_array_equal(rpe, [1, 1])
    traces = np.array([[256 * 8, 256], [16, 2]])
    if clip:
        traces = np.clip(traces, -clip, clip)
    for name, expected in zip(("w", "q"), -traces.mean(1), strict=True):
        assert grads[name].dtype == dtype
        np.testing.assert_allclose(np.float64(grads[name]), expected, rtol=2**-7)


def _settled(rule, network, inputs):
    act = jax.jit(lambda x: rule.act(jax.random.key(0), network, jnp.ones((), x.dtype), x).aux)
    return act(inputs)


def test_a_network_that_does_not_settle_is_reported():
    def network(gain):
        return Recurrent(jnp.zeros_like, lambda w, h, x: gain * w * h + x, lambda w, h: h)

    x = jnp.ones((1, 1))
    cases = (0.5, 200, True), (0.99, 50, False), (-1.0, 50, False), (2.0, 400, False)
    for gain, steps, settles in cases:
        rule = relearnn(steps=steps, sweeps=steps, tolerance=1e-6)
        settled = _settled(rule, network(gain), x)
        assert converged(settled, 1e-6).all() == settles, gain
    assert settled.residual[0] > 1 or not np.isfinite(settled.residual[0])


def test_an_example_settles_alike_alone_and_in_company():
    functions, params, inputs = _small()
    inputs = inputs.at[1].set(0)  # settles at once
    rule = relearnn(steps=60, sweeps=60, tolerance=1e-3)
    act = jax.jit(lambda x: rule.act(jax.random.key(0), functions, params, x).aux)
    together = act(inputs)
    assert len(set(together.steps.tolist())) > 1
    for b in range(BATCH):
        alone = act(inputs[b : b + 1])
        assert alone.steps[0] == together.steps[b]
        np.testing.assert_allclose(alone.state[0], together.state[b], atol=1e-6)


def test_only_the_chosen_output_learns_and_from_values_of_zero():
    functions, params, inputs = _small()
    zero = jax.tree.map(jnp.zeros_like, params["u"])
    rule = relearnn()

    @jax.jit
    def learn(params):
        decision = rule.act(jax.random.key(5), functions, params, inputs[:1])
        return decision.outputs, decision.action, *rule.update(decision, jnp.ones(1))

    outputs, action, grads, rpe = learn(params | {"u": zero})
    np.testing.assert_array_equal(outputs, 0)
    assert rpe[0] == 1
    changed = np.flatnonzero(np.abs(grads["u"]["kernel"]).sum(0))
    assert changed.tolist() == action.tolist()


@pytest.mark.parametrize("feedback", ["tied", "kolen_pollack"])
def test_weights_from_neighbors_are_those_that_one_pixel_alone_does_not_use(feedback):
    network = GridNet(feedback=feedback)
    images = jnp.ones((1, 1, 1, 4))
    functions = as_recurrent(network)
    state = GridState(*[jnp.ones((1, 1, 1, 4))] * 4)
    params = jax.jit(network.init)(jax.random.key(0), state, images)["params"]

    def activity(params):
        after = functions.step(params, state, images)
        return sum(group.sum() for group in after)

    rates = relative_rates(network, params, neighbors=0.5, outputs=0.3)
    assert jax.tree.map(jnp.shape, rates) == jax.tree.map(jnp.shape, params)
    for layer, grads in jax.jit(jax.grad(activity))(params).items():
        used = np.asarray(grads["kernel"]) != 0
        for kernel in rates[layer].values():
            if layer == "to_output":  # reads no neighbors but the mean of all other pixels
                np.testing.assert_allclose(kernel, 0.3)
            else:
                np.testing.assert_array_equal(kernel, np.where(used, 1, 0.5))
    published = relative_rates(network, params)
    assert published["to_hidden"]["kernel"].min() == 0.25
    np.testing.assert_allclose(published["to_output"]["kernel"], 0.05)

    unshared = GridNet(shared=False, feedback=feedback)
    params = jax.jit(unshared.init)(jax.random.key(0), state, images)["params"]
    assert all((leaf == 1).all() for leaf in jax.tree.leaves(relative_rates(unshared, params)))


def test_bad_arguments_of_relative_rates_are_refused():
    with pytest.raises(TypeError, match="network"):
        relative_rates(Dense(2), {})
    with pytest.raises(ValueError, match="neighbors"):
        relative_rates(GridNet(), {}, -1)
    with pytest.raises(ValueError, match="outputs"):
        relative_rates(GridNet(), {}, outputs=-1)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "unshared"])
def test_a_step_of_the_grid_is_its_equations(shared):
    """Pixel by pixel; in unshared networks the weights of one pixel are put into all others."""
    functions, params, images = _grid(shared)
    rng = np.random.default_rng(0)
    state = GridState(*(jnp.asarray(rng.uniform(size=images.shape)) for _ in range(4)))
    kernels = {name: np.asarray(layer["kernel"]) for name, layer in params.items()}
    after = jax.jit(functions.step)(params, state, images)
    q_values = jax.jit(functions.read_out)(params, state)

    n = images.shape[1]
    steps = ((-1, 0), (1, 0), (0, -1), (0, 1))

    def drive(name, b, row, column, spreading, local=()):
        here = np.concatenate([g[b, row, column] for g in spreading])
        beside = []
        for down, right in steps:
            inside = 0 <= row + down < n and 0 <= column + right < n
            there = [g[b, row + down, column + right] for g in spreading] if inside else []
            beside.append(np.concatenate(there) if inside else np.zeros_like(here))
        seen = [sum(beside)] if shared else beside
        seen = np.concatenate([[1.0], here, *seen, *(g[b, row, column] for g in local)])
        kernel = kernels[name] if shared else kernels[name][row, column, 0, 0]
        return seen @ kernel

    x, (xm, y1, y1m, y2) = np.asarray(images), (np.asarray(s) for s in state)
    for b, row, column in np.ndindex(images.shape[:3]):
        here = b, row, column
        gate = drive("to_modulated_input", *here, (y1, y1m), (xm,))
        np.testing.assert_allclose(after.modulated_input[here], squash(x[here] * gate), atol=1e-12)
        new_xm, new_y1, new_y1m = (np.asarray(s) for s in after[:3])
        expected = squash(drive("to_hidden", *here, (x, new_xm)))
        np.testing.assert_allclose(after.hidden[here], expected, atol=1e-12)
        gate = drive("to_modulated_hidden", *here, (y2,))
        expected = squash(new_y1[here] * gate)
        np.testing.assert_allclose(after.modulated_hidden[here], expected, atol=1e-12)
        expected = squash(drive("to_top", *here, (new_y1, new_y1m)))
        np.testing.assert_allclose(after.top[here], expected, atol=1e-12)
        others = (y2[b].sum((0, 1)) - y2[here]) / (n * n - 1)
        kernel = kernels["to_output"] if shared else kernels["to_output"][row, column, 0, 0]
        seen = np.concatenate([[1.0], y2[here], others, xm[here]])
        np.testing.assert_allclose(q_values[b, row * n + column], (seen @ kernel)[0], atol=1e-12)


# Not those that need a random stream or the error of the outputs.
@pytest.mark.parametrize(
    "feedback",
    [
        kind if kind == "kolen_pollack" else pytest.param(kind, marks=pytest.mark.slow)
        for kind in FEEDBACKS
        if kind not in ("sign_batchwise", "direct")
    ],
)
def test_every_kind_of_feedback_learns(feedback):
    functions, params, images = _grid(True, feedback)
    rule = relearnn(clip=1.0)

    @jax.jit
    def learn(params):
        decision = rule.act(jax.random.key(0), functions, params, images)
        return rule.update(decision, jnp.asarray(REWARDS, jnp.float32))[0]

    for layer in learn(params).values():
        assert np.abs(layer["kernel"]).max() > 0
        if feedback == "kolen_pollack":
            np.testing.assert_array_equal(layer["kernel"], layer["feedback_kernel"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"sweeps": 2.5}, "sweeps must be a whole number, got 2.5"),
        ({"tolerance": -1.0}, "tolerance must be at least 0, got -1.0"),
        ({"tolerance": float("nan")}, "tolerance must be finite and at least 0, got nan"),
        ({"clip": 0.0}, "clip must be positive and finite, got 0.0"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        relearnn(**options)


def test_a_scale_that_is_no_function_is_refused():
    with pytest.raises(TypeError, match="scale"):
        relearnn(scale=0.25)


def test_a_feedforward_network_is_refused():
    with pytest.raises(TypeError, match="relearnn needs a Recurrent network, got function"):
        relearnn().act(jax.random.key(0), lambda p, x: x @ p, jnp.ones((2, 2)), jnp.ones((1, 2)))


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"start": None}, TypeError, "network.start must be a function, got None"),
        ({"start": lambda x: x[0]}, ValueError, r"of 2 examples, got \(3,\)"),
        ({"start": lambda x: ()}, ValueError, r"of 2 examples, got \(\)"),
        ({"step": lambda p, h, x: h[:, :1]}, ValueError, r"keep .* \(2, 3\), got \(2, 1\)"),
        ({"step": lambda p, h, x: (h, h)}, ValueError, r"got \(\(2, 3\), \(2, 3\)\)"),
        ({"read_out": "q"}, TypeError, "network.read_out must be a function, got 'q'"),
    ],
)
def test_a_network_whose_parts_do_not_fit_is_refused(changed, error, message):
    network = Recurrent(jnp.zeros_like, lambda p, h, x: h, lambda p, h: h)._replace(**changed)
    with pytest.raises(error, match=message) as raised:
        relearnn().act(jax.random.key(0), network, 1.0, jnp.ones((2, 3)))
    assert "\n" not in str(raised.value)


def test_activity_above_six_grows_as_a_logarithm():
    drives = np.array([-1, 2, 6, 7, 100.0])
    expected = [0, 2, 6, 6 + np.log(11.5 / 10), 6 + np.log(151 / 10)]
    np.testing.assert_allclose(squash(jnp.array(drives)), expected, rtol=1e-6)


@pytest.mark.parametrize("shared", [True, False])
def test_initial_weights_excite_and_other_pixels_inhibit(shared):
    """Uniform in [0, r]; from the other pixels to an output in [−2.24 r, 0]."""
    network, images = GridNet(features=20, shared=shared, weight_range=0.3), jnp.ones((1, 4, 4, 4))
    start = as_recurrent(network).start(images)
    params = jax.jit(network.init)(jax.random.key(0), start, images)["params"]
    kernels = {name: np.asarray(layer["kernel"]) for name, layer in params.items()}
    rows = kernels.pop("to_output").reshape(-1, 1 + 2 * 20 + 4, 1)
    others = rows[:, 21:41]
    for drawn in (others / -2.24, np.delete(rows, np.s_[21:41], 1)):
        assert drawn.min() >= 0 and 0.2 < drawn.max() <= 0.3 + 1e-6
        assert 0.08 < drawn.mean() < 0.22
    assert shared or others.min() < -2.2 * 0.3  # of 320
    for kernel in kernels.values():
        assert 0 <= kernel.min() < 0.01 and 0.29 < kernel.max() <= 0.3


@pytest.mark.parametrize("shared", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_single_pixel_has_no_others(shared):
    """Their mean is 0: q is what bias, Y2 and X^m of the pixel itself bring."""
    network, images = GridNet(features=2, colors=3, shared=shared), jnp.ones((2, 1, 1, 3))
    functions = as_recurrent(network)
    start = functions.start(images)
    params = jax.jit(network.init)(jax.random.key(0), start, images)["params"]
    step = jax.jit(functions.step)
    state = step(params, step(params, start, images), images)
    weights = np.asarray(params["to_output"]["kernel"]).reshape(-1)
    top, modulated = (np.asarray(x).reshape(2, -1) for x in (state.top, state.modulated_input))
    expected = weights[0] + top @ weights[1:3] + modulated @ weights[5:]
    assert (expected > 0).all()
    np.testing.assert_allclose(functions.read_out(params, state)[:, 0], expected, rtol=1e-5)


def test_a_network_of_sizes_given_as_arrays_can_be_static():
    given = GridNet(np.array(2), jnp.int32(3), weight_range=np.array(0.5))
    plain = GridNet(2, 3, weight_range=0.5)
    assert given == plain and hash(given) == hash(plain)


def test_all_that_init_returned_may_be_given():
    """Its parameters are not used in place of those that learn."""
    functions, params, images = _grid(True, feedback="random")
    network = GridNet(shared=True, feedback="random")
    start = functions.start(images)
    others = jax.jit(network.init)(jax.random.key(3), start, images)
    zeros = jax.tree.map(jnp.zeros_like, others["params"])
    whole = as_recurrent(network, {**others, "params": zeros})
    own, given = (
        jax.jit(lambda p, f=f: (f.step(p, start, images), f.read_out(p, start)))(params)
        for f in (functions, whole)
    )
    jax.tree.map(np.testing.assert_array_equal, own, given)
    states = jax.tree.leaves(own[0])
    assert any(jnp.any(part != 0) for part in states)


def test_settings_left_out_are_the_published_ones():
    """Fifty steps and seven sweeps of a network that swings for ever: h ← x − h."""
    network = Recurrent(jnp.zeros_like, lambda w, h, x: w * x - h, lambda w, h: h)
    decision = relearnn().act(jax.random.key(0), network, 1.0, jnp.ones((2, 3)))
    assert decision.aux.steps.tolist() == [50, 50] and decision.aux.sweeps.tolist() == [7, 7]
    grid = GridNet()
    assert (grid.features, grid.colors, grid.shared, grid.weight_range) == (4, 4, True, 0.1)


def test_a_state_that_changes_no_more_takes_no_more_steps():
    """h ← x is there after one step, and the next one tells so; h ← h/2 + x in six, to a 32nd."""
    network = Recurrent(jnp.zeros_like, lambda w, h, x: w * h + x, lambda w, h: h)
    for weight, tolerance, steps in ((0.0, 0.0, 2), (0.5, 1 / 32, 6)):
        act = relearnn(tolerance=tolerance).act
        aux = act(jax.random.key(0), network, weight, jnp.array([[1.0], [2.0]])).aux
        # The second example moves twice as far: it needs another step, and the first one waits.
        assert aux.steps.tolist() == [steps, steps + (weight > 0)]
        np.testing.assert_array_equal(aux.residual, [tolerance] * 2)


def test_a_policy_and_an_error_of_ones_own():
    network = Recurrent(jnp.zeros_like, lambda w, h, x: x, lambda w, h: w * h)
    rule = relearnn(lambda key, q_values: q_values.argmin(), lambda q, reward: 3 * (reward - q))
    inputs = jnp.array([[1.0, 0.5, 2.0], [0.25, 5.0, 4.0]])
    decision = rule.act(jax.random.key(0), network, 1.0, inputs)
    assert decision.action.tolist() == [1, 0]
    grads, rpe = rule.update(decision, jnp.ones(2))
    np.testing.assert_allclose(rpe, [3 * 0.5, 3 * 0.75])
    np.testing.assert_allclose(grads, -(1.5 * 0.5 + 2.25 * 0.25) / 2, rtol=1e-6)  # −mean δ h


def _normalized(traces):
    return jax.tree.map(lambda trace: jnp.full_like(trace, 1 / jnp.abs(trace).max()), traces)


@pytest.mark.parametrize("clip", [None, 1e9], ids=["not clipped", "clipped"])
def test_factors_may_depend_on_each_examples_traces(clip):
    """Against traces of one example at a time, each divided by its own largest."""
    functions, params, inputs = _small()
    plain, rule = relearnn(), relearnn(clip=clip, scale=_normalized)
    decision = rule.act(jax.random.key(1), functions, params, inputs)
    grads, rpe = rule.update(decision, jnp.asarray(REWARDS, jnp.float32))
    expected = jax.tree.map(np.zeros_like, params)
    for example in range(BATCH):
        one = inputs[example : example + 1]
        alone = relearnn(policy=lambda key, q, a=decision.action[example]: a)
        chosen = alone.act(jax.random.key(1), functions, params, one)
        # With an RPE of 1 the update is minus the trace.
        traces = plain.update(chosen, chosen.outputs[0, chosen.action] + 1)[0]
        expected = jax.tree.map(
            lambda e, t, d=rpe[example]: e + d * t / np.abs(t).max() / BATCH, expected, traces
        )
    jax.tree.map(
        lambda g, e: np.testing.assert_allclose(g, e, rtol=2e-4, atol=1e-6), grads, expected
    )


def test_an_action_from_which_no_attention_ran_is_refused():
    functions, params, inputs = _small()
    rule = relearnn()
    decision = rule.act(jax.random.key(1), functions, params, inputs)
    other = decision._replace(action=(decision.action + 1) % 3)
    rewards = jnp.asarray(REWARDS, jnp.float32)
    with pytest.raises(ValueError, match=r"decision.action was replaced"):
        rule.update(other, rewards)
    grads, rpe = jax.jit(rule.update)(other, rewards)
    assert jnp.isnan(rpe).all() and jnp.isnan(grads["u"]["kernel"]).all()


def test_factors_of_other_weights_are_refused():
    functions, params, inputs = _small()
    for scale in (lambda traces: 0.5, lambda traces: {"u": traces["u"]}):
        rule = relearnn(scale=scale)
        decision = rule.act(jax.random.key(1), functions, params, inputs)
        with pytest.raises(ValueError, match="scale must return factors like the traces"):
            rule.update(decision, jnp.asarray(REWARDS, jnp.float32))


def test_inputs_may_be_a_pytree_and_a_batch_empty():
    functions, params, inputs = _small()
    parted = functions._replace(
        start=lambda x: functions.start(x["a"]),
        step=lambda p, h, x: functions.step(p, h, jnp.concatenate([x["a"], x["b"]], 1)),
    )
    rule, rewards = relearnn(clip=0.1), jnp.asarray(REWARDS, jnp.float32)
    results = [
        rule.update(rule.act(jax.random.key(1), network, params, given), rewards)
        for network, given in (
            (functions, inputs),
            (parted, {"a": inputs[:, :1], "b": inputs[:, 1:]}),
        )
    ]
    jax.tree.map(np.testing.assert_array_equal, *results)
    nobody = rule.act(jax.random.key(1), functions, params, inputs[:0])
    assert nobody.action.shape == (0,) and nobody.outputs.shape == (0, 3)
