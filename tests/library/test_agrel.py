"""AGREL against a literal loop, the cross-entropy gradient it must equal on average, and XOR."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qagrel_jax.networks import ThreeLayer
from qagrel_jax.policies import softmax_probabilities
from qagrel_jax.rules._agrel import agrel, expand, prediction_error
from qagrel_jax.rules._backprop import backprop
from qagrel_jax.tasks import vectors

INPUTS, HIDDEN, ACTIONS = 5, 4, 3


def network_and_params(feedback="tied", seed=0, dtype=jnp.float32, spread=1.0):
    network = ThreeLayer(ACTIONS, HIDDEN, feedback, spread)
    key_x, key_p = jax.random.split(jax.random.key(seed))
    inputs = jax.random.normal(key_x, (1, INPUTS), dtype)
    params = jax.jit(network.init)(key_p, inputs)
    return network, jax.tree.map(lambda p: p.astype(dtype), params), inputs


# --- f(δ) -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("delta", "expected"), [(-1.0, -1.0), (0.0, 0.0), (0.5, 1.0), (0.8, 4.0), (0.9, 9.0)]
)
def test_expand_by_hand(delta, expected, x64):
    np.testing.assert_allclose(expand(jnp.float64(delta)), expected, atol=1e-12)


@pytest.mark.parametrize("bound", [0.5, 4.0, 100.0])
def test_expand_stops_at_its_bound(bound, x64):
    edge = bound / (1 + bound)
    deltas = jnp.array([edge - 1e-6, edge + 1e-6, 0.999999, 1.0])
    values = expand(deltas, bound)
    assert jnp.isfinite(values).all() and (values <= bound).all()
    np.testing.assert_allclose(values[0], (edge - 1e-6) / (1 - edge + 1e-6), rtol=1e-9)
    np.testing.assert_array_equal(values[1:], [bound] * 3)


def test_expand_never_decreases():
    values = expand(jnp.linspace(-1, 1, 2001))
    assert (jnp.diff(values) >= 0).all()


@pytest.mark.parametrize("bound", [0, -1.0, float("inf"), float("nan")])
def test_bad_bound(bound):
    with pytest.raises(ValueError, match=f"bound must be positive and finite, got {bound}"):
        agrel(bound)
    with pytest.raises(ValueError, match="bound"):
        expand(jnp.zeros(()), bound)


def test_prediction_error_by_hand():
    assert float(prediction_error(jnp.float32(0.25), jnp.float32(1))) == 0.75
    assert float(prediction_error(jnp.float32(0.25), jnp.float32(0))) == -1
    assert jnp.isnan(prediction_error(jnp.float32(0.25), jnp.float32("nan")))


# --- the rule -------------------------------------------------------------------------------------


def literal_update(v, w, w_feedback, x, winner, rewarded, bound=100.0):
    """The paper's equations, synapse by synapse; returns Δv, Δw for β = 1."""
    x = np.concatenate([[1.0], x])
    y = np.zeros(v.shape[1])
    for j in range(v.shape[1]):
        y[j] = 1 / (1 + np.exp(-sum(v[i, j] * x[i] for i in range(len(x)))))
    z = [sum(w[j, k] * y[j] for j in range(len(y))) for k in range(w.shape[1])]
    p = np.exp(z) / np.sum(np.exp(z))
    delta = 1 - p[winner] if rewarded else -1.0
    f = min(delta / (1 - delta), bound) if delta >= 0 else delta
    dv, dw = np.zeros_like(v), np.zeros_like(w)
    for j in range(len(y)):
        dw[j, winner] = f * y[j]
        for i in range(len(x)):
            dv[i, j] = f * x[i] * y[j] * (1 - y[j]) * w_feedback[j, winner]
    return dv, dw, delta


@pytest.mark.parametrize("feedback", ["tied", "kolen_pollack"])
def test_matches_the_local_equations(feedback, x64):
    network, params, inputs = network_and_params(feedback, dtype=jnp.float64)
    rule, weights = agrel(), params["params"]

    @jax.jit
    def learn(winner, reward):
        decision = rule.act(jax.random.key(1), network.apply, params, inputs)
        return rule.update(decision._replace(action=winner[None]), reward[None])

    w = np.asarray(weights["output"]["kernel"])
    w_feedback = np.asarray(weights["output"].get("feedback_kernel", w))
    assert feedback == "tied" or not np.allclose(w, w_feedback)
    for winner, reward in itertools.product(range(ACTIONS), (0.0, 1.0)):
        grads, delta = learn(jnp.int32(winner), jnp.float64(reward))
        dv, dw, d = literal_update(
            np.asarray(weights["hidden"]["kernel"]), w, w_feedback, inputs[0], winner, reward > 0
        )
        hidden, output = grads["params"]["hidden"], grads["params"]["output"]
        np.testing.assert_allclose(-hidden["kernel"], dv, atol=1e-12)
        np.testing.assert_allclose(-output["kernel"], dw, atol=1e-12)
        np.testing.assert_allclose(delta, [d], atol=1e-12)
        if feedback == "kolen_pollack":  # gets what its forward partner gets
            np.testing.assert_allclose(-output["feedback_kernel"], dw, atol=1e-12)


@pytest.mark.parametrize("label", range(ACTIONS))
def test_expected_update_is_the_cross_entropy_gradient(label, x64):
    network, params, inputs = network_and_params(dtype=jnp.float64, seed=label)
    rule = agrel()
    p = softmax_probabilities(network.apply(params, inputs)[0])
    assert p.min() > 1 / 101  # the bound does not bind

    @jax.jit
    def learn(winner):
        decision = rule.act(jax.random.key(1), network.apply, params, inputs)
        reward = (winner == label).astype(float)
        return rule.update(decision._replace(action=winner[None]), reward[None])[0]

    expected = jax.tree.map(jnp.zeros_like, params)
    for winner in range(ACTIONS):
        grads = learn(jnp.int32(winner))
        expected = jax.tree.map(lambda e, g, w=winner: e + p[w] * g, expected, grads)

    def loss(params):
        return -jax.nn.log_softmax(network.apply(params, inputs)[0])[label]

    for ours, true in zip(
        jax.tree.leaves(expected), jax.tree.leaves(jax.grad(loss)(params)), strict=True
    ):
        np.testing.assert_allclose(ours, true, atol=1e-10)


def test_where_the_bound_binds_the_expected_update_is_smaller_of_the_same_sign(x64):
    rule, logits = agrel(bound=10.0), jnp.array([[0.0, 6.0, 1.0]])
    decision = rule.act(jax.random.key(0), lambda p, x: x + p, jnp.zeros((1, 3)), logits)
    p = np.asarray(softmax_probabilities(logits[0]))
    assert p[0] < 1 / 11
    expected = sum(
        p[s] * rule.update(decision._replace(action=jnp.array([s])), jnp.array([1.0 * (s == 0)]))[0]
        for s in range(3)
    )
    # By hand: the right unit gets p·10 instead of 1 − p; the wrong ones get −p as ever.
    np.testing.assert_allclose(-expected[0], [10 * p[0], -p[1], -p[2]], atol=1e-12)


def test_winner_is_drawn_from_the_softmax():
    logits = jnp.array([0.0, 1.0, 2.0])
    rule = agrel()
    decision = rule.act(
        jax.random.key(0), lambda p, x: x + p, jnp.zeros(()), jnp.tile(logits, (20000, 1))
    )
    frequency = np.bincount(decision.action, minlength=3) / 20000
    np.testing.assert_allclose(frequency, jax.nn.softmax(logits), atol=0.015)


def test_only_the_winners_synapses_change():
    network, params, inputs = network_and_params()
    rule = agrel()
    decision = rule.act(jax.random.key(2), network.apply, params, inputs)
    grads, _ = rule.update(decision, jnp.zeros(1))
    onto = jnp.abs(grads["params"]["output"]["kernel"]).sum(0)
    assert (onto > 0).tolist() == [k == int(decision.action[0]) for k in range(ACTIONS)]


def test_jit_changes_nothing():
    network, params, inputs = network_and_params("kolen_pollack")
    rule = agrel()

    def trial(key, params):
        decision = rule.act(key, network.apply, params, inputs)
        return rule.update(decision, jnp.ones(1))

    plain = trial(jax.random.key(3), params)
    compiled = jax.jit(trial)(jax.random.key(3), params)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(compiled), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("rule", [agrel(), backprop()], ids=lambda rule: rule.name)
def test_learns_xor(rule):
    task = vectors.xor()
    network = ThreeLayer(2, 8, spread=2.0)
    optimizer = optax.sgd(0.2)

    def trial(params, draw, choose):
        pattern, seen = vectors.reset(draw, task)
        decision = rule.act(choose, network.apply, params, seen[None])
        reward = vectors.step(task, pattern, decision.action[0])
        outcome = task.labels[pattern] if rule.outcome == "label" else reward
        grads, _ = rule.update(decision, outcome[None])
        updates, _ = optimizer.update(grads, optimizer.init(params))
        return optax.apply_updates(params, updates)

    def learn(key):
        init, rest = jax.random.split(key)
        params = network.init(init, task.inputs[:1])

        def body(i, params):
            return trial(params, *jax.random.split(jax.random.fold_in(rest, i)))

        params = jax.lax.fori_loop(0, 3000, body, params)
        return vectors.expected_reward(task, network.apply(params, task.inputs))

    # A few networks get stuck in local minima, as with error-backpropagation.
    learned = jax.jit(jax.vmap(learn))(jax.random.split(jax.random.key(0), 10))
    assert (learned > 0.9).sum() >= 9
