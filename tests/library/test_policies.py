"""Policies: exact probabilities, draws that follow them, ties, bad parameters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qagrel_jax import policies

Q = jnp.array([0.5, 2.0, -1.0, 2.0])
E = np.exp(np.asarray(Q, np.float64))

# Worked out by hand from the definitions.
EXACT = {
    "greedy": ({}, np.array([0, 0.5, 0, 0.5])),
    "epsilon_greedy": ({"epsilon": 0.2}, np.array([0.05, 0.45, 0.05, 0.45])),
    "softmax": ({"temperature": 1.0}, E / E.sum()),
    "max_boltzmann": (
        {"epsilon": 0.2, "temperature": 1.0},
        0.8 * np.array([0, 0.5, 0, 0.5]) + 0.2 * E / E.sum(),
    ),
}


@pytest.mark.parametrize("name", policies.POLICIES)
def test_probabilities_are_exact(name):
    parameters, expected = EXACT[name]
    probabilities = getattr(policies, f"{name}_probabilities")(Q, **parameters)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-6)


@pytest.mark.parametrize("name", policies.POLICIES)
def test_draws_follow_the_probabilities(name):
    parameters, expected = EXACT[name]
    draws = 200_000
    keys = jax.random.split(jax.random.key(3), draws)
    act = jax.jit(jax.vmap(lambda k: getattr(policies, name)(k, Q, **parameters)))
    actions = act(keys)
    counts = np.bincount(actions, minlength=4)
    # Five standard errors of a binomial count.
    tolerance = 5 * np.sqrt(expected * (1 - expected) / draws) + 1e-12
    assert (np.abs(counts / draws - expected) <= tolerance).all()
    assert actions.dtype == jnp.int32


def test_an_impossible_action_is_never_drawn():
    keys = jax.random.split(jax.random.key(0), 100_000)
    q = jnp.array([1.0, 1.0, 0.999])
    assert set(np.unique(jax.vmap(policies.greedy, (0, None))(keys, q))) == {0, 1}


def test_temperature_scales_the_differences():
    np.testing.assert_allclose(
        policies.softmax_probabilities(Q, 0.5), policies.softmax_probabilities(2 * Q, 1.0), 1e-6
    )


@pytest.mark.parametrize("epsilon", [-0.01, 1.01, float("nan")])
def test_epsilon_out_of_range(epsilon):
    with pytest.raises(ValueError, match=r"epsilon must be in \[0, 1\], got"):
        policies.epsilon_greedy_probabilities(Q, epsilon)
    with pytest.raises(ValueError, match="epsilon"):
        policies.make_policy("max_boltzmann", epsilon=epsilon)


@pytest.mark.parametrize("temperature", [1e-30, 1e-37, 1e-40, 1e-300])
@pytest.mark.parametrize("compile_it", [False, True])
def test_a_tiny_temperature_leaves_the_best_actions(temperature, compile_it):
    q_values = jnp.array([0.1, 90.0, 90.0, -jnp.inf])
    function = functools.partial(policies.softmax_probabilities, temperature=temperature)
    probabilities = (jax.jit(function) if compile_it else function)(q_values)
    assert probabilities.tolist() == [0.0, 0.5, 0.5, 0.0]


@pytest.mark.parametrize("temperature", [1e35, 1e38, 1e39, 1e300])
@pytest.mark.parametrize("compile_it", [False, True])
def test_a_huge_temperature_leaves_every_action_that_is_allowed(temperature, compile_it):
    q_values = jnp.array([1.0, 2.0, -jnp.inf])
    function = functools.partial(policies.softmax_probabilities, temperature=temperature)
    probabilities = (jax.jit(function) if compile_it else function)(q_values)
    assert probabilities.tolist() == [0.5, 0.5, 0.0]


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_temperature_out_of_range(temperature):
    with pytest.raises(ValueError, match="temperature must be positive"):
        policies.softmax(jax.random.key(0), Q, temperature)


def test_a_schedule_may_be_traced():
    probabilities = jax.jit(policies.max_boltzmann_probabilities)(Q, 0.2, 1.0)
    np.testing.assert_allclose(probabilities, EXACT["max_boltzmann"][1], rtol=1e-6)


def test_an_unknown_policy_lists_the_valid_ones():
    with pytest.raises(ValueError, match="'best'; valid: greedy, epsilon_greedy"):
        policies.make_policy("best")


def test_made_policies_are_the_plain_ones():
    policy = policies.make_policy("epsilon_greedy", epsilon=0.3)
    key = jax.random.key(5)
    assert policy(jax.random.clone(key), Q) == policies.epsilon_greedy(key, Q, 0.3)


NOTHING = {
    "nan": [np.nan, 0.0, 1.0],
    "+inf": [np.inf, 0.0, 1.0],
    "+inf twice": [np.inf, np.inf, 1.0],
    "nan and +inf": [np.nan, np.inf, -np.inf],
    "all masked": [-np.inf, -np.inf, -np.inf],
}


@pytest.mark.parametrize("q_values", NOTHING.values(), ids=NOTHING)
@pytest.mark.parametrize("name", policies.POLICIES)
def test_where_there_is_nothing_to_choose(name, q_values):
    """A ValueError; compiled, NaN and -1."""
    q_values = jnp.array(q_values)
    probabilities, act = getattr(policies, f"{name}_probabilities"), getattr(policies, name)
    with pytest.raises(ValueError, match=r"Q values must be numbers|every action is masked"):
        probabilities(q_values)
    with pytest.raises(ValueError, match=r"Q values must be numbers|every action is masked"):
        act(jax.random.key(0), q_values)
    assert jnp.isnan(jax.jit(probabilities)(q_values)).all()
    assert jax.jit(act)(jax.random.key(1), q_values) == -1


@pytest.mark.parametrize("name", policies.POLICIES)
def test_masked_actions_are_left_out_compiled_or_not(name):
    masked = jnp.array([-jnp.inf, 2.0, -jnp.inf, 0.5])
    allowed = jnp.array([2.0, 0.5])
    probabilities = getattr(policies, f"{name}_probabilities")
    for function in (probabilities, jax.jit(probabilities)):
        expected = np.zeros(4)
        expected[[1, 3]] = probabilities(allowed)
        np.testing.assert_allclose(function(masked), expected, rtol=1e-6)
    assert jax.jit(getattr(policies, name))(jax.random.key(0), masked) in (1, 3)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("epsilon_greedy", {"epsilon": -0.1}),
        ("epsilon_greedy", {"epsilon": 1.1}),
        ("max_boltzmann", {"epsilon": -0.1}),
        ("max_boltzmann", {"temperature": 0.0}),
        ("max_boltzmann", {"temperature": -1.0}),
        ("softmax", {"temperature": -1.0}),
    ],
)
def test_a_schedule_that_leaves_the_range_chooses_nothing(name, parameters):
    """Compiled, so that nothing can be raised: no policy is made up for it."""
    probabilities = jax.jit(getattr(policies, f"{name}_probabilities"))(Q, **parameters)
    assert np.isnan(probabilities).all()
    act = jax.jit(lambda key, numbers: policies.make_policy(name, **numbers)(key, Q))
    assert act(jax.random.key(0), parameters) == -1


@pytest.mark.parametrize("name", policies.POLICIES)
def test_left_out_epsilon_is_a_fiftieth_and_the_temperature_one(name):
    """What ``q_agrel()`` and ``agrel()`` choose by: with the same keys the same choices."""
    policy, takes = policies.POLICIES[name]
    told = {"epsilon": 0.02, "temperature": 1.0}
    keys = jax.random.split(jax.random.key(0), 2000)
    by_default, as_told = (
        jax.jit(jax.vmap(functools.partial(policy, **given), (0, None)))(jax.random.clone(keys), Q)
        for given in ({}, {parameter: told[parameter] for parameter in takes})
    )
    np.testing.assert_array_equal(by_default, as_told)
    probabilities = getattr(policies, f"{name}_probabilities")
    given = {parameter: told[parameter] for parameter in takes}
    np.testing.assert_allclose(probabilities(Q), probabilities(Q, **given), rtol=1e-6)
