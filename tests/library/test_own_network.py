"""Other people's networks: half precision, masked actions, an environment between two programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qagrel_jax import networks, policies, rules
from tests.combinations import every_value

RULES = {
    "q_agrel": rules.q_agrel(),
    "agrel": rules.agrel(),
    "backprop": rules.backprop(),
    "broadcast": rules.broadcast(),
    "node_perturbation": rules.node_perturbation(),
    "reinforce": rules.reinforce(),
    "stochastic_units": rules.stochastic_units(),
}
HALF = [jnp.bfloat16, pytest.param(jnp.float16, marks=pytest.mark.slow)]
REWARDS, LABELS = np.array([1.0, 0.0, 0.3, -2.0]), np.array([0, 1, 2, 1])


def _told(rule):
    return LABELS if rule.outcome == "label" else REWARDS.astype(np.float32)


def _dense(dtype=None):
    network = networks.DenseNet(3, hidden=(5, 4))
    inputs = jax.random.normal(jax.random.key(1), (4, 6), dtype)
    params = jax.jit(network.init)(jax.random.key(0), inputs)
    return network.apply, jax.tree.map(lambda w: w.astype(dtype or w.dtype), params), inputs


class TestHalfPrecision:
    @pytest.mark.parametrize("dtype", [*HALF, pytest.param(jnp.float32, marks=pytest.mark.slow)])
    def test_the_share_of_other_actions_is_the_policys(self, dtype):
        """ε = .02 over 1,000 actions: half of max-Boltzmann's draws, too, would be rounded away."""
        q_values = jnp.zeros(1000, dtype).at[7].set(1)
        others = {"epsilon_greedy": 0.02 * 999 / 1000, "softmax": 999 / (999 + np.e)}
        others["max_boltzmann"] = 0.02 * others["softmax"]
        draws = 4_000
        for name, share in {"greedy": 0.0, **others}.items():
            probabilities = getattr(policies, f"{name}_probabilities")(q_values)
            np.testing.assert_allclose(1 - probabilities[7], share, atol=1e-5)
            np.testing.assert_allclose(probabilities.sum(), 1, atol=1e-5)
            policy = jax.jit(jax.vmap(policies.make_policy(name), (0, None)))
            actions = policy(jax.random.split(jax.random.key(2), draws), q_values)
            error = np.sqrt(share * (1 - share) / draws)  # standard error of a binomial share
            assert abs((np.asarray(actions) != 7).mean() - share) <= 5 * error

    @pytest.mark.parametrize("dtype", HALF)
    def test_greedy_reaches_every_one_of_equal_values(self, dtype):
        policy = jax.jit(jax.vmap(policies.greedy, (0, None)))
        actions = policy(jax.random.split(jax.random.key(0), 10_000), jnp.ones(1000, dtype))
        assert len(np.unique(actions)) == 1000

    @pytest.mark.parametrize("dtype", HALF)
    @pytest.mark.parametrize("name", ["q_agrel", "agrel", "backprop", "reinforce"])
    def test_errors_are_computed_in_float32_and_go_back_in_the_networks_dtype(self, name, dtype):
        """A network whose parameters are its outputs: its grads are the output errors."""
        rule, outputs = RULES[name], jax.random.normal(jax.random.key(3), (4, 3)).astype(dtype)
        decision = rule.act(jax.random.key(1), lambda params, _: params, outputs, None)
        grads, errors = rule.update(decision, _told(rule))
        q, rows, chosen = np.asarray(outputs, np.float64), np.arange(4), decision.action
        p = np.exp(q) / np.exp(q).sum(1, keepdims=True)
        onehot, correct = np.eye(3), REWARDS > 0
        delta = np.where(correct, 1 - p[rows, chosen], -1)
        expanded = np.where(delta < 0, delta, delta / (1 - delta))
        surplus = REWARDS - np.square(p).sum(1)
        expected = {
            "q_agrel": (REWARDS - q[rows, chosen], (q[rows, chosen] - REWARDS), onehot[chosen]),
            "agrel": (delta, -expanded, onehot[chosen]),
            "backprop": (-np.log(p[rows, LABELS]), np.ones(4), p - onehot[LABELS]),
            "reinforce": (surplus, -surplus, onehot[chosen] - p),
        }[name]
        np.testing.assert_allclose(errors, expected[0], rtol=1e-5, atol=1e-6)
        assert (decision.outputs.dtype, grads.dtype) == (jnp.float32, dtype)
        exact = np.asarray(expected[1][:, None] * expected[2] / 4)
        np.testing.assert_allclose(grads, np.asarray(exact, dtype), rtol=2e-2 / 8, atol=1e-6)

    @pytest.mark.parametrize("dtype", HALF)
    @pytest.mark.parametrize("name", RULES)
    def test_grads_are_those_of_the_network_in_float32(self, name, dtype):
        """To half precision, with the same choices, whatever the dtype of the rewards."""
        rule, (forward, params, inputs) = RULES[name], _dense(dtype)
        wide = jax.tree.map(lambda x: x.astype(jnp.float32), (params, inputs))
        act = jax.jit(lambda params, inputs: rule.act(jax.random.key(4), forward, params, inputs))
        half = act(params, inputs)
        full = act(*wide)._replace(action=half.action)
        update = jax.jit(rule.update)
        for told in (_told(rule), *((np.float16(REWARDS),) if rule.outcome == "reward" else ())):
            grads, errors = update(half, told)
            expected, expected_errors = update(full, told)
            assert errors.dtype == jnp.float32
            np.testing.assert_allclose(errors, expected_errors, atol=0.03)
            for got, true in zip(*map(jax.tree.leaves, (grads, expected)), strict=True):
                assert got.dtype == dtype
                if name not in ("node_perturbation", "stochastic_units"):  # they draw other noise
                    assert np.abs(np.float32(got) - true).max() <= 0.05 * np.abs(true).max()


class TestMasks:
    Q = jnp.array([0.5, -jnp.inf, 2.0, -jnp.inf, 2.0, 1.0])

    @pytest.mark.parametrize("dtype", [jnp.float32, *HALF])
    @pytest.mark.parametrize("name", policies.POLICIES)
    def test_no_policy_chooses_what_is_not_allowed(self, name, dtype):
        """The probabilities are those of the allowed actions alone."""
        allowed = np.array([0, 2, 4, 5])
        exact = getattr(policies, f"{name}_probabilities")
        probabilities = exact(self.Q.astype(dtype))
        np.testing.assert_array_equal(probabilities[np.array([1, 3])], 0)
        np.testing.assert_allclose(probabilities[allowed], exact(self.Q[allowed]), rtol=1e-6)
        policy = jax.jit(jax.vmap(getattr(policies, name), (0, None)))
        actions = policy(jax.random.split(jax.random.key(0), 2_000), self.Q.astype(dtype))
        assert set(np.unique(actions)) <= set(allowed.tolist())

    @pytest.mark.parametrize("name", policies.POLICIES)
    def test_nothing_left_to_choose_is_an_error(self, name):
        for q_values, says in (
            (jnp.full(3, -jnp.inf), "every action is masked"),
            (jnp.array([0.0, jnp.nan]), "Q values must be numbers"),
            (jnp.array([0.0, jnp.inf]), "Q values must be numbers"),
            (jnp.zeros(0), "at least one action"),
        ):
            with pytest.raises(ValueError, match=says):
                getattr(policies, name)(jax.random.key(0), q_values)
            with pytest.raises(ValueError, match=says):
                getattr(policies, f"{name}_probabilities")(q_values)

    @pytest.mark.parametrize("name", policies.POLICIES)
    def test_compiled_it_is_no_action(self, name):
        policy = jax.jit(policies.make_policy(name))
        assert policy(jax.random.key(0), jnp.full(3, -jnp.inf)) == -1
        assert policy(jax.random.key(1), jnp.array([1.0, jnp.nan])) == -1

    @pytest.mark.parametrize("name", RULES)
    def test_rules_learn_beside_a_mask(self, name):
        """Finite changes, none to the output unit that is masked; an error where all are."""
        rule, (network, params, inputs) = RULES[name], _dense()

        def forward(params, inputs, allowed=(True, False, True)):
            return jnp.where(jnp.array(allowed)[None], network(params, inputs), -jnp.inf)

        for seed in range(5):
            decision = rule.act(jax.random.key(seed), forward, params, inputs)
            told = np.array([0, 2, 2, 0]) if rule.outcome == "label" else _told(rule)
            grads, errors = rule.update(decision, told)
            assert 1 not in decision.action
            assert np.isfinite(errors).all()
            assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
            if name != "node_perturbation":  # there every unit hears the one global signal
                np.testing.assert_array_equal(grads["params"]["Dense_2"]["kernel"][:, 1], 0)
        with pytest.raises(ValueError, match="every action is masked"):
            rule.act(jax.random.key(0), lambda p, x: forward(p, x, (False,) * 3), params, inputs)


@pytest.mark.parametrize(("name", "feedback"), every_value(RULES, ["tied", "reciprocal"]))
def test_act_and_update_compile_apart(name, feedback):
    """An environment in Python between two programs, each compiled once."""
    rule, network = RULES[name], networks.DenseNet(3, hidden=(5,), feedback=feedback)
    inputs = jax.random.normal(jax.random.key(1), (4, 6))
    params = jax.jit(network.init)(jax.random.key(0), inputs)
    traced = []

    def forward(params, inputs):
        traced.append(1)
        return network.apply(params, inputs), {"seen": inputs.sum()}

    @jax.jit
    def act(key, params, inputs):
        return rule.act(key, forward, params, inputs, has_aux=True)

    @jax.jit
    def update(decision, told):
        traced.append(1)
        return rule.update(decision, told)

    for seed in range(3):
        decision = act(jax.random.key(seed), params, inputs)
        told = _told(rule)
        if rule.outcome == "reward":  # the environment: plain Python
            told = np.array([float(a == b) for a, b in zip(decision.action, LABELS, strict=True)])
        grads, errors = update(decision, told)
        plain = rule.act(jax.random.key(seed), network.apply, params, inputs)
        expected, expected_errors = rule.update(plain, told)
        np.testing.assert_array_equal(decision.action, plain.action)
        np.testing.assert_allclose(errors, expected_errors, rtol=1e-5, atol=1e-6)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), grads, expected
        )
        np.testing.assert_allclose(decision.aux["seen"], inputs.sum(), rtol=1e-6)
        if not seed:
            first = len(traced)
    assert len(traced) == first
