"""One-step rules: true gradients where the theory says so, local equations always, no teacher."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

from qagrel_jax import networks, random_keys, rules
from qagrel_jax.layers import Conv, Dense, LocallyConnected, layers
from qagrel_jax.policies import softmax
from qagrel_jax.training import step
from tests.reference import local_learning

RULES = {
    "q_agrel": rules.q_agrel(),
    "q_agrel_softmax": rules.q_agrel(policy=softmax),
    "q_agrel_amplified": rules.q_agrel(rpe=rules.amplified_prediction_error(3.0)),
    "backprop": rules.backprop(),
    "broadcast": rules.broadcast(),
    "node_perturbation": rules.node_perturbation(),
    "reinforce": rules.reinforce(),
    "stochastic_units": rules.stochastic_units(),
}
# The same code with another policy or error.
VARIANTS = ("q_agrel_softmax", "q_agrel_amplified")
EACH = [pytest.param(name, marks=pytest.mark.slow) if name in VARIANTS else name for name in RULES]
# Each example has noise of its own, which another batch size would draw anew.
NOISY = ("node_perturbation", "stochastic_units")
BATCH = 4
SMALL = {"hidden": (12, 10, 8)}


def _outcome(rule, labels, decision):
    return labels if rule.outcome == "label" else (decision.action == labels).astype(float)


def _setup(architecture, shape=(8, 8, 2), feedback="tied"):
    options = SMALL if architecture == "dense" else {}
    network = networks.make_network(architecture, 3, feedback=feedback, **options)
    x_key, p_key, d_key = jax.random.split(jax.random.key(7), 3)
    inputs = jax.random.uniform(x_key, (BATCH, *shape), jnp.result_type(float))
    variables = dict(jax.jit(network.init)(p_key, inputs))
    params = variables.pop("params")

    def forward(params, inputs):
        return network.apply(
            {"params": params, **variables},
            inputs,
            train=True,
            rngs={"dropout": jax.random.clone(d_key)},
            mutable=list(variables),
        )

    return params, inputs, forward


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("architecture", networks.ARCHITECTURES)
def test_q_agrel_is_the_gradient_of_half_squared_rpe(architecture, monkeypatch):
    """With tied feedback; BatchNorm and dropout on. The reference has no feedback pathway."""
    params, inputs, forward = _setup(architecture)
    rule = rules.q_agrel()
    rewards = jnp.array([1.0, 0.0, 0.3, -2.0])

    @jax.jit
    def ours(params):
        decision = rule.act(jax.random.key(1), forward, params, inputs, has_aux=True)
        return decision.action, *rule.update(decision, rewards)

    action, grads, rpe = ours(params)

    monkeypatch.setattr(layers, "convolve", _plain_convolution)
    monkeypatch.setattr(networks, "_max_pool", lambda x: nn.max_pool(x, (2, 2), (2, 2)))

    def half_squared_rpe(params):
        q_values, _ = forward(params, inputs)
        delta = rewards - q_values[jnp.arange(BATCH), action]
        return 0.5 * jnp.square(delta).mean(), delta

    expected, delta = jax.jit(jax.grad(half_squared_rpe, has_aux=True))(params)
    np.testing.assert_allclose(rpe, delta, atol=1e-10)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-10), grads, expected)
    assert max(float(jnp.abs(g).max()) for g in jax.tree.leaves(grads)) > 1e-4


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("architecture", ["dense", "conv"])
def test_backprop_is_the_gradient_of_cross_entropy(architecture):
    params, inputs, forward = _setup(architecture)
    labels = jnp.array([0, 1, 2, 1])
    rule = rules.backprop()

    @jax.jit
    def learn(params):
        decision = rule.act(jax.random.key(1), forward, params, inputs, has_aux=True)
        return rule.update(decision, labels)

    grads, loss = learn(params)

    def cross_entropy(params):
        logits, _ = forward(params, inputs)
        return -jax.nn.log_softmax(logits)[jnp.arange(BATCH), labels].mean()

    value, expected = jax.jit(jax.value_and_grad(cross_entropy))(params)
    np.testing.assert_allclose(loss.mean(), value, atol=1e-10)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-10), grads, expected)


class Small(nn.Module):
    """A net small enough for a loop over synapses."""

    kinds: tuple

    @nn.compact
    def __call__(self, x):
        """Map images to Q values."""
        for kind, options in self.kinds[:-1]:
            if kind is Dense:
                x = x.reshape(x.shape[0], -1)
            x = nn.relu(kind(feedback="kolen_pollack", **options)(x))
        kind, options = self.kinds[-1]
        return kind(feedback="kolen_pollack", **options)(x.reshape(x.shape[0], -1))


NETS = {
    "dense": ((Dense, {"features": 6}), (Dense, {"features": 5}), (Dense, {"features": 3})),
    "conv": (
        (Conv, {"features": 3, "padding": "SAME"}),
        (Conv, {"features": 2, "padding": "SAME", "strides": (2, 2)}),
        (Dense, {"features": 4}),
        (Dense, {"features": 3}),
    ),
    "locally_connected": (
        (LocallyConnected, {"features": 3, "padding": "VALID"}),
        (LocallyConnected, {"features": 2, "padding": "SAME", "strides": (2, 2)}),
        (Dense, {"features": 3}),
    ),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", NETS)
def test_q_agrel_is_the_local_equations(name):
    """Against a loop over synapses, with feedback weights that are not the forward weights."""
    network = Small(NETS[name])
    inputs = jax.random.uniform(jax.random.key(0), (BATCH, 6, 6, 2), jnp.float64)
    params = jax.jit(network.init)(jax.random.key(1), inputs)["params"]
    rule = rules.q_agrel(policy=softmax)
    rewards = np.array([1.0, 0.0, 0.5, -1.0])

    @jax.jit
    def learn(params):
        forward = lambda p, x: network.apply({"params": p}, x)  # noqa: E731
        decision = rule.act(jax.random.key(2), forward, params, inputs)
        return decision.action, *rule.update(decision, jnp.asarray(rewards))

    actions, grads, rpe = learn(params)

    literal = []
    names = [layer for layer in params if layer.startswith(("Conv", "Locally"))]
    names += [layer for layer in params if layer.startswith("Dense")]
    for layer, (kind, options) in zip(names, NETS[name], strict=True):
        kinds = {Dense: "dense", Conv: "conv", LocallyConnected: "local"}
        literal.append(
            {
                "kind": kinds[kind],
                "kernel": np.asarray(params[layer]["kernel"]),
                "feedback": np.asarray(params[layer]["feedback_kernel"]),
                "stride": options.get("strides", (1, 1))[0],
                "padding": options.get("padding"),
            }
        )
    mean_change = [0] * len(names)
    for b in range(BATCH):
        changes, delta = local_learning.q_agrel_change(
            literal, np.asarray(inputs[b]), int(actions[b]), rewards[b]
        )
        np.testing.assert_allclose(rpe[b], delta, atol=1e-10)
        mean_change = [m + c / BATCH for m, c in zip(mean_change, changes, strict=True)]
    for layer, change in zip(names, mean_change, strict=True):
        # -grads is the published change; the feedback weights change with their partners.
        np.testing.assert_allclose(-grads[layer]["kernel"], change, atol=1e-10)
        np.testing.assert_allclose(-grads[layer]["feedback_kernel"], change, atol=1e-10)
        assert np.abs(change).max() > 1e-4


def test_synapses_onto_unchosen_actions_do_not_change():
    params, inputs, forward = _setup("dense")
    rule = rules.q_agrel()

    @jax.jit
    def learn(params):
        decision = rule.act(jax.random.key(1), forward, params, inputs[:1], has_aux=True)
        return decision.action, rule.update(decision, jnp.ones(1))[0]

    action, grads = learn(params)
    change = np.abs(grads["Dense_3"]["kernel"]).sum(0)
    assert set(np.flatnonzero(change)) == {int(action[0])}


@pytest.mark.parametrize("name", [n for n, r in RULES.items() if r.outcome == "reward"])
def test_no_teacher(name):
    """Two labels that give the same reward give the same update, bit for bit."""
    params, inputs, forward = _setup("conv" if name in ("q_agrel", *NOISY) else "dense")
    rule = RULES[name]

    @jax.jit
    def learn(labels):
        decision = rule.act(jax.random.key(1), forward, params, inputs, has_aux=True)
        rewards = (decision.action == labels).astype(jnp.float32)
        return decision.action, rewards, rule.update(decision, rewards)

    action, _, _ = learn(jnp.zeros(BATCH, int))
    wrong, wrong_too = (action + 1) % 3, (action + 2) % 3
    first, second = learn(wrong), learn(wrong_too)
    np.testing.assert_array_equal(first[1], 0)
    jax.tree.map(np.testing.assert_array_equal, first, second)
    assert any(np.abs(g).max() > 0 for g in jax.tree.leaves(first[2][0]))


@pytest.mark.parametrize("name", [n for n in rules.RULES if n not in ("backprop", "relearnn")])
def test_a_step_of_training_hears_of_labels_by_the_reward_alone(name):
    """A task that pays action 0 whatever was shown: other labels change no weight."""
    learner = step.Learner(
        rules.make_rule(name),
        networks.make_network("dense", 3, **SMALL),
        optax.sgd(0.1, momentum=0.9),
        reward=lambda key, labels, actions: (actions == 0).astype(jnp.float32),
    )
    state = step.init_state(learner, jax.random.key(0), (4, 4, 1), num_classes=3)
    images = jax.random.uniform(jax.random.key(1), (BATCH, 4, 4, 1))
    learn = jax.jit(lambda labels: step.train_step(learner, state, images, labels)[0])
    one, other = learn(jnp.array([0, 1, 2, 1])), learn(jnp.array([1, 2, 0, 2]))
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)
    jax.tree.map(np.testing.assert_array_equal, one.opt_state, other.opt_state)
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), one.params, state.params)
    assert max(jax.tree.leaves(moved)) > 0


@pytest.mark.parametrize("name", [n for n in rules.RULES if n != "relearnn"])
def test_where_nothing_can_be_chosen_the_error_is_nan(name):
    """Compiled, so that nothing can be raised; and the other example learns as ever."""
    network = networks.make_network("dense", 2, hidden=(3,))
    inputs = jnp.ones((2, 4))
    params = jax.jit(network.init)(jax.random.key(0), inputs)["params"]
    rule = rules.make_rule(name)
    told = jnp.zeros(2, int) if rule.outcome == "label" else jnp.ones(2)

    def forward(params, inputs):
        return network.apply({"params": params}, inputs) + jnp.array([[jnp.inf, 0], [0, 0]])

    @jax.jit
    def learn(params):
        decision = rule.act(jax.random.key(1), forward, params, inputs)
        return decision.action, rule.update(decision, told)[1]

    action, errors = learn(params)
    assert action[0] == -1 and action[1] in (0, 1)
    assert jnp.isnan(errors).tolist() == [True, False]


@pytest.mark.parametrize("name", [n for n, r in RULES.items() if r.outcome == "label"])
def test_a_label_of_no_action_has_an_error_of_nan_where_compiled(name):
    params, inputs = jnp.zeros((2, 3)), jnp.ones((4, 2))

    @jax.jit
    def errors(labels):
        decision = RULES[name].act(jax.random.key(0), lambda w, x: x @ w, params, inputs)
        return RULES[name].update(decision, labels)[1]

    assert jnp.isnan(errors(jnp.array([-1, 0, 2, 3]))).tolist() == [True, False, False, True]


def test_a_q_value_of_zero_learns():
    """The chosen unit is known by its index, not by a non-zero output."""
    rule = rules.q_agrel()
    params = jnp.zeros((2, 3))
    decision = rule.act(jax.random.key(0), lambda p, x: x @ p, params, jnp.ones((1, 2)))
    grads, _ = rule.update(decision, jnp.ones(1))
    np.testing.assert_array_equal(grads[:, decision.action[0]], -1.0)


def test_a_reward_prediction_error_of_ones_own():
    rule = rules.q_agrel(rpe=lambda q, r: jnp.sign(r - q))
    decision = rule.act(jax.random.key(0), lambda p, x: x @ p, jnp.ones((2, 3)), jnp.ones((1, 2)))
    _, rpe = rule.update(decision, jnp.zeros(1))
    assert rpe.tolist() == [-1.0]


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "3"])
def test_a_seed_that_jax_would_change_is_refused(seed):
    with pytest.raises((ValueError, TypeError), match="seed must be"):
        random_keys.root_key(seed)
    if not isinstance(seed, str):
        with pytest.raises((ValueError, TypeError), match="seed must be"):
            random_keys.root_keys([0, seed])


def test_seeds_up_to_32_bits_are_themselves():
    for seed in (0, 7, 2**31, 2**32 - 1):
        of_array, of_list = (random_keys.root_keys(s)[0] for s in (np.array([seed]), [seed]))
        for key in (random_keys.root_key(seed), of_array, of_list):
            assert jax.random.key_data(key).tolist() == [0, seed]


def test_an_amplified_prediction_error_settles_at_an_expectile():
    """Paid with probability P, q rests where gain·P(1 − q) = (1 − P) q."""
    rpe, p, gain = rules.amplified_prediction_error(3.0), 0.2, 3.0
    q = jnp.array(gain * p / (gain * p + 1 - p))
    drift = p * rpe(q, jnp.ones(())) + (1 - p) * rpe(q, jnp.zeros(()))
    np.testing.assert_allclose(drift, 0, atol=1e-7)
    with pytest.raises(ValueError, match="gain must be positive and finite, got 0"):
        rules.amplified_prediction_error(0)


class TestContract:
    """What every one-step rule must do.

    Two cells do not apply to noisy rules: they draw other noise for a batch than for its examples
    alone, and go downhill on average only. Loops over synapses cover both.
    """

    labels = np.array([0, 1, 2, 1])

    def _learn(self, rule, forward, params, inputs, key):
        decision = rule.act(key, forward, params, inputs, has_aux=True)
        return decision.action, rule.update(decision, _outcome(rule, self.labels, decision))

    @pytest.mark.parametrize("name", EACH)
    def test_jit_equals_no_jit_and_compiles_once(self, name):
        rule = RULES[name]
        params, inputs, forward = _setup("dense")
        traces = []

        @jax.jit
        def learn(params, inputs, key):
            traces.append(1)
            return self._learn(rule, forward, params, inputs, key)

        action, (grads, errors) = learn(params, inputs, jax.random.key(0))
        learn(params, inputs + 1, jax.random.key(1))
        assert len(traces) == 1
        plain_action, (plain, plain_errors) = self._learn(
            rule, forward, params, inputs, jax.random.key(0)
        )
        np.testing.assert_array_equal(action, plain_action)
        np.testing.assert_allclose(errors, plain_errors, atol=1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), grads, plain)
        assert jax.tree.structure(grads) == jax.tree.structure(params)
        assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))

    @pytest.mark.parametrize("name", [name for name in RULES if name not in NOISY])
    def test_a_batch_is_the_mean_of_its_examples(self, name):
        rule = RULES[name]
        params, inputs, forward = _setup("dense")
        decision = rule.act(jax.random.key(0), forward, params, inputs, has_aux=True)
        grads, errors = rule.update(decision, _outcome(rule, self.labels, decision))
        assert errors.shape == (BATCH,)
        total = jax.tree.map(jnp.zeros_like, params)
        for b in range(BATCH):
            one = rule.act(jax.random.key(0), forward, params, inputs[b : b + 1], has_aux=True)
            # The batch's action, so that only the learning is compared.
            one = one._replace(action=decision.action[b : b + 1])
            outcome = _outcome(rule, self.labels[b : b + 1], one)
            total = jax.tree.map(jnp.add, total, rule.update(one, outcome)[0])
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b / BATCH, atol=1e-6), grads, total)

    @pytest.mark.parametrize("name", [name for name in RULES if name not in NOISY])
    def test_a_small_step_downhill_shrinks_the_error(self, name):
        rule = RULES[name]
        params, inputs, forward = _setup("dense")
        decision = rule.act(jax.random.key(0), forward, params, inputs, has_aux=True)
        outcome = _outcome(rule, self.labels, decision)
        grads, errors = rule.update(decision, outcome)
        moved = jax.tree.map(lambda p, g: p - 1e-3 * g, params, grads)
        after = rule.act(jax.random.key(0), forward, moved, inputs, has_aux=True)
        if name == "reinforce":  # its error is no objective: what paid must become likelier
            log_odds = jnp.take_along_axis(
                jax.nn.log_softmax(after.outputs) - jax.nn.log_softmax(decision.outputs),
                decision.action[:, None],
                1,
            )
            assert errors @ log_odds[:, 0] > 0
            return
        _, errors_after = rule.update(after._replace(action=decision.action), outcome)
        size = jnp.square if rule.outcome == "reward" else jnp.asarray
        assert size(errors_after).mean() < size(errors).mean()

    @pytest.mark.parametrize("name", EACH)
    def test_vmap_over_seeds_is_a_loop(self, name):
        rule = RULES[name]
        network = networks.make_network("dense", 3, **SMALL)
        inputs = jax.random.uniform(jax.random.key(0), (BATCH, 4, 4, 1))
        keys = jax.random.split(jax.random.key(1), 2)
        params = [jax.jit(network.init)(k, inputs)["params"] for k in keys]

        @jax.jit
        def learn(params):
            return self._learn(
                rule,
                lambda p, x: (network.apply({"params": p}, x), None),
                params,
                inputs,
                jax.random.key(2),
            )[1]

        together = jax.jit(jax.vmap(learn))(jax.tree.map(lambda *x: jnp.stack(x), *params))
        for seed in range(2):
            jax.tree.map(
                lambda a, b, seed=seed: np.testing.assert_allclose(a[seed], b, atol=1e-5),
                together,
                learn(params[seed]),
            )

    @pytest.mark.parametrize("name", EACH)
    def test_wrong_shapes_are_refused(self, name):
        rule = RULES[name]
        layer, x = Dense(2), jnp.ones((1, 3))
        params = jax.jit(layer.init)(jax.random.key(1), x)
        with pytest.raises(ValueError, match=r"outputs must be \[batch, actions\], got \[\]"):
            rule.act(jax.random.key(0), lambda p, x: layer.apply(p, x).sum(), params, x)
        decision = rule.act(jax.random.key(0), layer.apply, params, x)
        with pytest.raises(ValueError, match=r"must be \[batch\], here \[1\], got \[2\]"):
            rule.update(decision, jnp.ones(2))


def test_an_outcome_must_be_reward_or_label():
    with pytest.raises(ValueError, match="unknown outcome 'gradient'"):
        rules.one_step_rule("x", softmax, lambda o, a, r: (o, r), outcome="gradient")


@pytest.mark.parametrize(
    ("signal", "got"),
    [
        (lambda q, a, r: q, "an array|ArrayImpl|BatchTracer"),
        (lambda q, a, r: (q, r, r), "tuple"),
        (lambda q, a, r: (r, r), r"\[\] and \[\]"),
        (lambda q, a, r: (q[:2], r), r"\[2\] and \[\]"),
        (lambda q, a, r: (q, q), r"\[3\] and \[3\]"),
        (lambda q, a, r: (q, (r, r)), r"\[3\] and tuple"),
        (lambda q, a, r: {"error": q, "rpe": r}, "dict"),
    ],
)
def test_a_teaching_signal_of_another_form_says_so(signal, got):
    rule, inputs = rules.one_step_rule("mine", softmax, signal), jnp.ones((5, 2))
    decision = rule.act(jax.random.key(0), lambda w, x: x @ w, jnp.ones((2, 3)), inputs)
    with pytest.raises(ValueError, match=rf"must return an output error \[3\].* got ({got})"):
        rule.update(decision, jnp.ones(5))


def test_a_prediction_error_of_many_numbers_says_so():
    for rpe in (lambda q, r: (r - q) * jnp.ones(3), lambda q, r: jnp.stack([q, r])):
        rule, inputs = rules.q_agrel(rpe=rpe), jnp.ones((5, 2))
        decision = rule.act(jax.random.key(0), lambda w, x: x @ w, jnp.ones((2, 3)), inputs)
        with pytest.raises(ValueError, match=r"rpe must return one number, δ \[\], got \["):
            rule.update(decision, jnp.ones(5))


def _plain_convolution(x, w, strides, padding):
    return lax.conv_general_dilated(
        x, w, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize("name", ["q_agrel", "broadcast", "node_perturbation"])
def test_an_own_policy_must_return_an_action(name):
    """Numbered from 1, for one: no unit is its last action."""
    network = networks.make_network("dense", 3, **SMALL)
    inputs = jnp.ones((BATCH, 4))
    params = jax.jit(network.init)(jax.random.key(0), inputs)
    learn = functools.partial(_learn, network, params, inputs)
    with pytest.raises(ValueError, match=r"the policy's action must be in \[0, 3\), got 3"):
        learn(rules.RULES[name](lambda key, q: jnp.int32(3)))
    with pytest.raises(TypeError, match="the policy's action must be whole numbers"):
        learn(rules.RULES[name](lambda key, q: q.max()))
    with pytest.raises(ValueError, match=r"policy must return one action, \[\], got \[3\]"):
        learn(rules.RULES[name](lambda key, q: jnp.arange(3)))
    compiled = jax.jit(lambda: learn(rules.RULES[name](lambda key, q: jnp.int32(3))))
    assert np.isnan(compiled()).all()


def _learn(network, params, inputs, rule):
    decision = rule.act(jax.random.key(1), network.apply, params, inputs)
    return rule.update(decision, jnp.ones(BATCH))[1]


def test_errors_are_amplified_where_more_came_than_was_expected_whatever_the_reward():
    rpe = rules.amplified_prediction_error(4.0)
    errors = rpe(jnp.array([0.5, -2.0, 0.5]), jnp.array([0.25, -1.0, 1.0]))
    np.testing.assert_allclose(errors, [-0.25, 4.0, 2.0])
