"""Bias and variance of one update: closed forms, brute force, and sampling against enumeration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qagrel_jax import rules
from qagrel_jax.networks import DenseNet
from qagrel_jax.policies import max_boltzmann_probabilities, softmax_probabilities
from qagrel_jax.tasks import classification
from qagrel_jax.update_statistics import (
    ALL,
    Moments,
    Statistics,
    exact_gradient,
    exact_moments,
    jackknife,
    objective_gradients,
    of_batch,
    pool,
    sampled_moments,
    statistics,
)

ACTIONS = 3


def _problem(images=5, feedback="tied", seed=0):
    """A network of two hidden layers with lively outputs, images and labels."""
    network = DenseNet(num_actions=ACTIONS, hidden=(5, 4), feedback=feedback)
    image_key, label_key, key = jax.random.split(jax.random.key(seed), 3)
    inputs = jax.random.uniform(image_key, (images, 6), jnp.result_type(float))
    labels = jax.random.randint(label_key, (images,), 0, ACTIONS)
    variables = jax.jit(network.init)(key, inputs)
    params = jax.tree.map(lambda w: w.astype(inputs.dtype), variables["params"])
    params["Dense_2"]["kernel"] *= 10
    fixed = {name: value for name, value in variables.items() if name != "params"}
    return lambda p, x: network.apply({"params": p, **fixed}, x), params, inputs, labels


def _policy(q):
    return max_boltzmann_probabilities(q, 0.3)


RULES = {
    "q_agrel": (rules.q_agrel(lambda key, q: _draw(key, q)), _policy),
    "agrel": (rules.agrel(), softmax_probabilities),
    "reinforce": (rules.reinforce(), softmax_probabilities),
    "broadcast": (rules.broadcast(strength=0.3), _policy),
    "backprop": (rules.backprop(), softmax_probabilities),
}
LOSSES = {
    "q_agrel": "prediction_error",
    "agrel": "cross_entropy",
    "backprop": "cross_entropy",
    "reinforce": "expected_reward",
}


def _losses(forward, params, inputs, labels):
    """The three objectives, example by example and action by action."""

    def total(name, params):
        losses = []
        for x, label in zip(inputs, labels, strict=True):
            q = forward(params, x[None])[0]
            p = jnp.exp(q) / jnp.exp(q).sum()
            pi = jax.lax.stop_gradient(_policy(q))
            rewards = [1.0 * (action == label) for action in range(ACTIONS)]
            losses.append(
                {
                    "cross_entropy": -jnp.log(p[label]),
                    "prediction_error": sum(
                        pi[s] * 0.5 * (rewards[s] - q[s]) ** 2 for s in range(ACTIONS)
                    ),
                    "expected_reward": -sum(p[s] * rewards[s] for s in range(ACTIONS)),
                }[name]
            )
        return sum(losses) / len(losses)

    names = ("cross_entropy", "prediction_error", "expected_reward")
    return {name: jax.jit(jax.grad(lambda p, n=name: total(n, p)))(params) for name in names}


@pytest.mark.usefixtures("x64")
def test_expected_updates_are_their_closed_forms():
    problem = _problem(images=3)
    gradients = _losses(*problem)
    forward, *given = problem
    ours = jax.jit(lambda *given: objective_gradients(forward, *given, _policy))(*given)
    for name, gradient in gradients.items():
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-10), ours[name], gradient
        )
    for name, loss in LOSSES.items():
        exact = _exact(*RULES[name], problem)
        for layer, mean in exact.mean.items():
            true = gradients[loss][layer]["kernel"]
            assert jnp.abs(true).max() > 1e-3
            np.testing.assert_allclose(mean, true, atol=1e-10, err_msg=f"{name} {layer}")
        found = statistics(exact, exact_gradient(gradients[loss]))
        for layer in (*exact.mean, ALL):
            np.testing.assert_allclose(found[layer].angle, 0, atol=1e-4)
            np.testing.assert_allclose(found[layer].norm_ratio, 1, atol=1e-10)
            np.testing.assert_allclose(found[layer].bias, 0, atol=1e-6)


def _exact(rule, probabilities, problem):
    forward, *given = problem
    return jax.jit(lambda *given: exact_moments(rule, probabilities, forward, *given))(*given)


def _every_update(name, problem, batch):
    """Every batch of images and actions: probability, batch, and the update, layer by layer."""
    forward, params, inputs, labels = problem
    rule, probabilities = RULES[name]

    @jax.jit
    def learn(rows, actions):
        decision = rule.act(jax.random.key(0), forward, params, inputs[rows])
        told = labels[rows]
        if rule.outcome == "reward":
            told = classification.reward(jax.random.key(0), told, actions)
        grads, _ = rule.update(decision._replace(action=actions), told)
        pi = jax.vmap(probabilities)(decision.outputs)[jnp.arange(batch), actions]
        return pi.prod(), {layer: leaf["kernel"] for layer, leaf in grads.items()}

    drawn = []
    for rows in itertools.product(range(len(labels)), repeat=batch):
        for actions in itertools.product(range(ACTIONS), repeat=batch):
            chance, update = jax.tree.map(np.asarray, learn(jnp.array(rows), jnp.array(actions)))
            drawn.append((chance / len(labels) ** batch, rows, update))
    return drawn


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("name", "batch"), [*((name, 1) for name in RULES), ("q_agrel", 2)])
def test_variance_is_that_of_all_there_can_be(name, batch):
    problem = _problem(images=3)
    drawn = _every_update(name, problem, batch)
    exact = of_batch(_exact(*RULES[name], problem), batch)
    for layer, mean in exact.mean.items():
        expected = sum(chance * u[layer] for chance, _, u in drawn)
        np.testing.assert_allclose(mean, expected, atol=1e-12)
        total = sum(chance * np.sum((u[layer] - expected) ** 2) for chance, _, u in drawn)
        between = 0.0
        for rows in {rows for _, rows, _ in drawn}:
            of_rows = [(chance, u[layer]) for chance, there, u in drawn if there == rows]
            share = sum(chance for chance, _ in of_rows)
            given = sum(chance * u for chance, u in of_rows) / share
            between += share * np.sum((given - expected) ** 2)
        np.testing.assert_allclose(exact.images[layer], between, atol=1e-12)
        np.testing.assert_allclose(exact.choices[layer], total - between, atol=1e-12)
        assert name in ("backprop",) or total - between > 1e-4


@pytest.mark.parametrize(
    ("name", "feedback", "batch"),
    [pytest.param("agrel", "tied", 1, marks=pytest.mark.slow), ("q_agrel", "random", 4)],
)
def test_sampled_statistics_agree_with_exact_ones(name, feedback, batch):
    """Within four standard errors, which themselves are small."""
    forward, params, inputs, labels = problem = _problem(images=20, feedback=feedback)
    _, probabilities = RULES[name]
    rule = rules.agrel() if name == "agrel" else rules.q_agrel(_draw)

    def learn(batch_key, choice_key):
        rows = jax.random.randint(batch_key, (batch,), 0, len(labels))
        choice_key, reward_key = jax.random.split(choice_key)
        decision = rule.act(choice_key, forward, params, inputs[rows])
        reward = classification.reward(reward_key, labels[rows], decision.action)
        return rule.update(decision, reward)[0]

    sample = jax.jit(lambda key: sampled_moments(key, learn, 1000))
    each = [sample(key) for key in jax.random.split(jax.random.key(5), 10)]
    groups = jax.tree.map(lambda *arrays: jnp.stack(arrays), *each)
    tied = _problem(images=20)[0]
    gradients = jax.jit(lambda p: objective_gradients(tied, p, inputs, labels, probabilities))
    reference = exact_gradient(gradients(params)["cross_entropy"])
    exact = statistics(of_batch(_exact(rule, probabilities, problem), batch), reference)
    found, errors = jax.jit(lambda g: (statistics(pool(g), reference), jackknife(g, reference)))(
        groups
    )
    compared = [n for n in Statistics._fields if (name, n) not in UNBIASED]
    for layer, statistic in itertools.product(exact, compared):
        true, value, error = (float(getattr(x[layer], statistic)) for x in (exact, found, errors))
        assert abs(value - true) < 4 * error + 1e-6, (layer, statistic, value, true, error)
        # Of AGREL a few rare right choices make up much of the variance.
        assert error < 0.3 * abs(true) + 0.02, (layer, statistic, true, error)


UNBIASED = {("agrel", "angle"), ("agrel", "bias")}
"""Zero, where an estimate of a length has no symmetric error: looked at exactly above."""


def _draw(key, q):
    return jax.random.categorical(key, jnp.log(_policy(q)))


@pytest.mark.parametrize("name", ["node_perturbation", "stochastic_units"])
def test_a_rule_with_noise_of_its_own_cannot_be_enumerated(name):
    with pytest.raises(ValueError, match=f"rule {name} has noise of its own"):
        exact_moments(rules.make_rule(name), softmax_probabilities, *_problem())


def test_groups_pooled_are_one_long_sample():
    updates = np.random.default_rng(0).normal(1, 2, size=(3, 5, 2, 9))  # [group, sample, pair, w]
    w = updates.mean(2)
    apart = np.square(updates[:, :, 0] - updates[:, :, 1]).sum(-1) / 2
    means = w.mean(1)
    spread = np.square(w - means[:, None]).sum((1, 2)) / 4
    groups = Moments(
        {"a": jnp.asarray(means)},
        {"a": jnp.asarray(spread - apart.mean(1) / 2)},
        {"a": jnp.asarray(apart.mean(1))},
        jnp.full(3, 5.0),
    )
    pooled = pool(groups)
    everything = w.reshape(15, 9)
    np.testing.assert_allclose(pooled.mean["a"], everything.mean(0), rtol=1e-5)
    np.testing.assert_allclose(pooled.choices["a"], apart.mean(), rtol=1e-5)
    whole = np.square(everything - everything.mean(0)).sum() / 14
    np.testing.assert_allclose(pooled.images["a"], whole - apart.mean() / 2, rtol=1e-4)
    assert float(pooled.count) == 15
    unequal = groups._replace(count=jnp.array([5.0, 5.0, 6.0]))
    with pytest.raises(ValueError, match=r"groups must have one count, got \[5.0, 6.0\]"):
        pool(unequal)


def test_standard_errors_are_the_jackknifes():
    """sqrt((n − 1)/n Σ (θ_i − θ̄)²), with θ_i of all groups but the i-th."""
    generator, count = np.random.default_rng(2), 4
    groups = Moments(
        {"a": jnp.asarray(3 + generator.normal(size=(count, 6)))},
        {"a": jnp.asarray(generator.uniform(1, 2, count))},
        {"a": jnp.asarray(generator.uniform(1, 2, count))},
        jnp.full(count, 50.0),
    )
    reference = exact_gradient({"a": {"kernel": jnp.arange(6.0)}})
    found = jackknife(groups, reference)["a"]
    without = [
        statistics(pool(jax.tree.map(lambda x, i=i: np.delete(x, i, 0), groups)), reference)["a"]
        for i in range(count)
    ]
    for name in Statistics._fields:
        each = np.array([getattr(one, name) for one in without], float)
        expected = np.sqrt((count - 1) / count * np.square(each - each.mean()).sum())
        assert expected > 1e-3, name
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-3, err_msg=name)


def test_statistics_by_hand():
    moments = Moments(
        mean={"a": jnp.array([3.0, 4.0]), "b": jnp.array([0.0])},
        images={"a": jnp.array(50.0), "b": jnp.array(0.0)},
        choices={"a": jnp.array(25.0), "b": jnp.array(0.0)},
        count=jnp.array(jnp.inf),
    )
    gradient = {"a": {"kernel": jnp.array([5.0, 0.0])}, "b": {"kernel": jnp.array([5.0])}}
    found = statistics(moments, exact_gradient(gradient))
    np.testing.assert_allclose(
        found["a"],
        (np.degrees(np.arccos(0.6)), 1, 20**0.5 / 5, 3, 2, 1, 15 / (5 * 10)),
        rtol=1e-6,
    )
    assert np.isnan(found["b"].angle) and np.isnan(found["b"].variance)
    np.testing.assert_allclose(found[ALL].angle, np.degrees(np.arccos(0.6 / 2**0.5)), rtol=1e-6)
    # Estimated from 25 batches: |ū|² is 25 − (50 + 25/2)/25 = 22.5.
    found = statistics(moments._replace(count=jnp.array(25.0)), exact_gradient(gradient))
    np.testing.assert_allclose(found["a"].variance, 75 / 22.5, rtol=1e-6)
    np.testing.assert_allclose(found["a"].bias, 17.5**0.5 / 5, rtol=1e-6)
    # And a reference from as many, of which |g|² is 25 − (50 + 25/2)/25, too.
    sampled = exact_gradient(gradient)._replace(count=jnp.array(25.0), **_varied("a", "b"))
    found = statistics(moments, sampled)
    np.testing.assert_allclose(found["a"].norm_ratio, (25 / 22.5) ** 0.5, rtol=1e-6)
    np.testing.assert_allclose(found["a"].bias, (17.5 / 22.5) ** 0.5, rtol=1e-6)


def _varied(*names):
    return {part: {name: jnp.array(v) for name in names} for part, v in VARIANCES.items()}


VARIANCES = {"images": 50.0, "choices": 25.0}


def test_bad_arguments():
    problem = _problem()
    exact = exact_moments(*RULES["agrel"], *problem)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        of_batch(exact, 0)
    with pytest.raises(ValueError, match="only exact moments can be divided"):
        of_batch(exact._replace(count=jnp.array(9.0)), 2)
    with pytest.raises(ValueError, match="samples must be at least 2, got 1"):
        sampled_moments(jax.random.key(0), lambda a, b: {}, 1)
    with pytest.raises(ValueError, match="at least 2 groups, got 1"):
        jackknife(jax.tree.map(lambda x: x[None], exact), exact)


def test_updates_in_half_precision_are_summed_in_float32():
    def learn(batch_key, choice_key):
        noise = jax.random.normal(choice_key) + jax.random.normal(batch_key)
        return {"out": {"kernel": (1 + noise).astype(jnp.bfloat16)}}

    moments = sampled_moments(jax.random.key(0), learn, 4000)
    assert moments.mean["out"].dtype == jnp.float32
    for found, expected in ((moments.mean, 1), (moments.choices, 1), (moments.images, 1)):
        np.testing.assert_allclose(found["out"], expected, atol=0.1)


def test_parameters_without_a_kernel_are_refused():
    inputs, labels = jnp.ones((2, 3)), jnp.array([0, 1])
    for params, error in (({"w": jnp.ones((3, 2))}, ValueError), (jnp.ones((3, 2)), TypeError)):

        def forward(params, x):
            return x @ jax.tree.leaves(params)[0]

        with pytest.raises(error, match=r"'kernel'|must be a dictionary"):
            exact_moments(rules.q_agrel(), softmax_probabilities, forward, params, inputs, labels)
        with pytest.raises(error, match=r"'kernel'|must be a dictionary"):
            sampled_moments(jax.random.key(0), lambda batch_key, choice_key, p=params: p, 20)


def test_moments_of_a_batch_can_be_compiled():
    exact = Moments(
        {"out": jnp.ones(2)}, {"out": jnp.array(3.0)}, {"out": jnp.array(1.0)}, jnp.array(jnp.inf)
    )
    compiled = jax.jit(of_batch, static_argnums=1)(exact, 4)
    assert float(compiled.images["out"]) == 0.75


def test_variances_of_two_samples_are_unbiased():
    """Of weights, each with a variance of 1 over batches and one of 4 over choices."""
    number = 40_000

    def learn(batch_key, choice_key):
        drawn = (jax.random.normal(key, (number,)) for key in (batch_key, choice_key))
        return {"a": {"kernel": next(drawn) + 2 * next(drawn)}}

    found = sampled_moments(jax.random.key(0), learn, 2)
    np.testing.assert_allclose(found.images["a"] / number, 1, atol=0.15)
    np.testing.assert_allclose(found.choices["a"] / number, 4, atol=0.15)
