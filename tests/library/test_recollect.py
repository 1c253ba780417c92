"""RECOLLECT against its printed equations, its gradient, and what it must not do."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qagrel_jax import policies
from qagrel_jax.population import epsilon_greedy_from_gumbel
from qagrel_jax.rules import augment, memory, recollect
from qagrel_jax.rules.recollect import RecollectConfig
from tests.library.networks_axis import check_as_each_alone
from tests.library.test_augment import given, world
from tests.reference.recollect import Recollect

CONFIG = RecollectConfig(inputs=4)
given_step = jax.jit(functools.partial(recollect.step, choose=given))


def test_sizes_and_parameters_are_the_published_ones():
    """van den Berg, Roelfsema & Bohte (2024), and their code."""
    assert (
        RecollectConfig(
            inputs=4,
            memory=7,
            actions=3,
            feedback="tied",
            slope="published",
            policy="epsilon_greedy",
            end_input=False,
            weight_range=0.25,
            learning_rate=0.1,
            gate_rate=0.6,
            tag_decay=0.4,
            discount=0.9,
            exploration=0.025,
            threshold=0.0,
            steepness=2.0,
        )
        == CONFIG
    )
    keys = jax.random.split(jax.random.key(0), 500)
    state = jax.vmap(lambda key: recollect.init(key, CONFIG), out_axes=-1)(keys)
    assert [w.shape[:-1] for w in state.weights] == [(5, 7), (5, 7), (8, 3)]
    for drawn in state.weights:
        assert 0.249 < np.abs(drawn).max() <= 0.25
        np.testing.assert_allclose([drawn.mean(), drawn.std()], [0, 0.25 / 3**0.5], atol=0.01)
    for start in (*state.tags, *state.traces, state.memory, state.q_previous):
        assert not np.any(start)


VARIANTS = {
    "published": {},
    "corrected": {"slope": "corrected", "threshold": 0.3},
    "kolen_pollack": {"feedback": "kolen_pollack"},
    "end input": {"end_input": True, "feedback": "kolen_pollack", "slope": "corrected"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_number_of_a_thousand_steps_agrees_with_the_printed_equations(x64, variant):
    config = RecollectConfig(inputs=4, weight_range=1.0, **VARIANTS[variant])
    start = recollect.init(jax.random.key(3), config)
    observation, reward, ended, action = (x[..., 0] for x in world(1000, 1, seed=2))

    def body(state, step):
        action, *seen = step
        state, activity = recollect.step(action, config, state, *seen, choose=given)
        return state, (state, activity)

    steps = action, observation, reward, ended
    ours = jax.jit(lambda *xs: jax.lax.scan(body, start, xs)[1])(*steps)
    ours = jax.tree.map(np.asarray, ours)
    reference = Recollect(
        *start.weights,
        feedback=start.feedback,
        theta=config.threshold,
        corrected=config.slope == "corrected",
    )
    for t in range(1000):
        state, activity = jax.tree.map(lambda x, t=t: x[t], ours)
        end = [float(ended[t])] if config.end_input else []
        q_values = reference.forward([*observation[t], *end])
        rpe = reference.learn(action[t], reward[t])
        pairs = {
            "q": (activity.q_values, q_values),
            "rpe": (activity.rpe, rpe),
            "gate": (activity.gate, reference.g),
            "candidate": (activity.candidate, reference.c),
            "memory": (state.memory, reference.y),
            "previous q": (state.q_previous, reference.q_previous),
            "gate weights": (state.weights.gate, reference.W_g),
            "candidate weights": (state.weights.candidate, reference.W_c),
            "q weights": (state.weights.q, reference.W_q),
            "gate tags": (state.tags.gate, reference.tag_g),
            "candidate tags": (state.tags.candidate, reference.tag_c),
            "q tags": (state.tags.q, reference.tag_q),
            "gate traces": (state.traces.gate, reference.e_g),
            "candidate traces": (state.traces.candidate, reference.e_c),
        }
        if reference.back is not None:
            pairs["feedback"] = state.feedback, reference.back
        for name, (mine, theirs) in pairs.items():
            assert np.abs(mine - theirs).max() < 1e-11, (t, name)
    moved = [np.abs(w - v).max() for w, v in zip(state.weights, start.weights, strict=True)]
    assert min(moved) > 0.02, "nothing was learned, so nothing was tested"


def test_with_the_corrected_slope_learning_follows_the_gradient_of_the_prediction_error(x64):
    config = RecollectConfig(inputs=5, tag_decay=0.0, slope="corrected")
    observation, reward, _, action = world(7, 1, seed=3, inputs=5)
    observation, reward, action = observation[..., 0], reward[:, 0] + 0.7, action[:, 0]
    start = recollect.init(jax.random.key(2), config)
    state = start
    for t in range(7):
        before, last = state, t == 6
        seen = observation[t], reward[t], False
        state, activity = given_step(action[t], config, state, *seen, last)
    target = reward[6] + config.discount * activity.q_values[action[6]]

    def error(weights):
        memory = jnp.zeros(config.memory)
        for x in observation[:6]:
            inputs = jnp.concatenate([jnp.ones(1), x])
            gate, candidate = (
                1 / (1 + jnp.exp(-2 * (inputs @ w))) for w in (weights.gate, weights.candidate)
            )
            memory = gate * memory + (1 - gate) * candidate
        q_values = weights.q[0] + memory @ weights.q[1:]
        return 0.5 * (target - q_values[action[5]]) ** 2

    gradient = jax.grad(error)(before.weights)
    rates = config.learning_rate * np.array([config.gate_rate, 1, 1])
    for new, old, slope, rate in zip(state.weights, before.weights, gradient, rates, strict=True):
        assert np.abs(slope).max() > 1e-4
        np.testing.assert_allclose(new - old, -rate * slope, atol=1e-14)


def test_the_end_of_a_trial_resets_nothing_and_keeps_the_value_of_what_follows():
    state = recollect.init(jax.random.key(0), CONFIG)
    for _ in range(3):
        state, _ = given_step(jnp.int32(1), CONFIG, state, jnp.ones(4), 0.0, False)
    seen = jnp.zeros(4), 1.5
    ended, activity = given_step(jnp.int32(2), CONFIG, state, *seen, True)
    going_on, _ = given_step(jnp.int32(2), CONFIG, state, *seen, False)
    chex.assert_trees_all_equal(ended, going_on)
    expected = 1.5 + 0.9 * float(activity.q_values[2]) - float(state.q_previous)
    assert float(activity.rpe) == pytest.approx(expected, rel=1e-5)
    for kept in (*ended.tags, *ended.traces, ended.memory, ended.q_previous):
        assert np.any(kept)


def test_the_end_input_is_on_when_the_trial_has_ended_and_off_otherwise():
    config = RecollectConfig(inputs=4, end_input=True)
    state = recollect.init(jax.random.key(0), config)
    assert [w.shape for w in state.weights] == [(6, 7), (6, 7), (8, 3)]
    off, quiet = given_step(jnp.int32(0), config, state, jnp.ones(4), 0.0, False)
    on, loud = given_step(jnp.int32(0), config, state, jnp.ones(4), 0.0, True)
    assert not np.any(off.traces.gate[-1]) and np.any(on.traces.gate[-1])
    assert (quiet.gate != loud.gate).all() and (quiet.candidate != loud.candidate).all()


@pytest.mark.parametrize("feedback", ["tied", "kolen_pollack"])
def test_a_frozen_network_is_greedy_and_keeps_every_array_to_the_bit(feedback):
    config = RecollectConfig(inputs=4, exploration=1.0, feedback=feedback, end_input=True)
    step = jax.jit(recollect.step, static_argnames="plastic")
    state = recollect.init(jax.random.key(0), config)
    keys = jax.random.split(jax.random.key(1), 100)
    for t in range(60):  # first let it learn, so that tags and traces are there
        state, _ = step(keys[t], config, state, jnp.full(4, t % 2), 1.5 * (t % 3), t % 5 == 0)
    frozen = state
    for t in range(60, 100):
        seen = jnp.full(4, t % 2), 1.5 * (t % 3), t % 5 == 0
        frozen, activity = step(keys[t], config, frozen, *seen, plastic=False)
        assert int(activity.action) == int(np.argmax(activity.q_values))
        assert abs(float(activity.rpe)) > 1e-3 and np.any(frozen.tags.gate)
    for new, old in zip(
        jax.tree.leaves((frozen.weights, frozen.feedback)),
        jax.tree.leaves((state.weights, state.feedback)),
        strict=True,
    ):
        assert np.asarray(new).tobytes() == np.asarray(old).tobytes()
    assert len(jax.tree.leaves((state.weights, state.feedback))) == 3 + (feedback != "tied")


RULES = {
    "augment": augment.AugmentConfig(inputs=4),
    "augment, independent": augment.AugmentConfig(inputs=4, feedback="kolen_pollack"),
    "recollect": CONFIG,
    "recollect, kolen_pollack": RecollectConfig(inputs=4, feedback="kolen_pollack"),
}


@pytest.mark.parametrize("name", RULES)
def test_q_values_of_zero_leave_every_action_open_and_the_first_trial_teaches(name):
    config = dataclasses.replace(RULES[name], exploration=0.0)
    rule = memory.rule_of(config)
    state = rule.init(jax.random.key(0), config)
    outputs = [w for w in state.weights._fields if w == "q" or w.endswith("_q")]
    zeros = {w: jnp.zeros_like(getattr(state.weights, w)) for w in outputs}
    state = state._replace(weights=state.weights._replace(**zeros))
    seen = jnp.ones(4), 0.0, False
    every = jax.jit(jax.vmap(lambda key: rule.step(key, config, state, *seen)[1].action))
    actions = every(jax.random.split(jax.random.key(1), 300))
    step = jax.jit(rule.step)
    counts = np.bincount(actions, minlength=3)
    assert (abs(counts - 100) < 45).all()

    after, activity = step(jax.random.key(2), config, state, *seen)
    assert not np.any(activity.q_values)
    after, _ = step(jax.random.key(3), config, after, jnp.zeros(4), 1.5, True)
    for field in outputs:
        changed = np.abs(getattr(after.weights, field)).max(0)
        assert (changed > 0).tolist() == [a == int(activity.action) for a in range(3)]


def test_uniform_numbers_drawn_beforehand_give_epsilon_greedys_own_actions():
    keys = jax.random.split(jax.random.key(0), 500)
    q_values = jax.random.normal(jax.random.key(1), (3, 500)).at[:, :50].set(0.5)
    gumbel = jax.vmap(lambda key: jax.random.gumbel(key, (3,)), out_axes=-1)(keys)
    ours = epsilon_greedy_from_gumbel(gumbel, q_values, jnp.full(500, 0.5))
    act = jax.vmap(lambda k, q: policies.epsilon_greedy(k, q, 0.5), in_axes=(0, -1))
    np.testing.assert_array_equal(ours, act(jax.random.clone(keys), q_values))


def test_each_policy_explores_as_it_says():
    state = recollect.init(jax.random.key(0), CONFIG)
    steep = jnp.zeros_like(state.weights.q).at[0].set(jnp.array([9.0, 0.0, -9.0]))
    state = state._replace(weights=state.weights._replace(q=steep))
    keys = jax.random.split(jax.random.key(1), 300)
    for policy, least, most in (("epsilon_greedy", 70, 130), ("max_boltzmann", 0, 3)):
        config = RecollectConfig(inputs=4, policy=policy, exploration=1.0)
        step = jax.jit(lambda k, c=config: recollect.step(k, c, state, jnp.ones(4), 0.0, False))
        actions = [int(step(jax.random.clone(key))[1].action) for key in keys]
        assert least <= actions.count(2) <= most


def test_the_networks_axis_is_the_plain_step():
    networks, steps = 3, 12
    config = RecollectConfig(inputs=4, end_input=True, feedback="kolen_pollack")
    observation, reward, ended, action = world(steps, networks)
    observation, reward = jnp.asarray(observation, jnp.float32), jnp.asarray(reward, jnp.float32)
    keys = jax.random.split(jax.random.key(5), networks)
    together = jax.vmap(lambda key: recollect.init(key, config), out_axes=-1)(keys)
    alone = [jax.tree.map(lambda x, n=n: x[..., n], together) for n in range(networks)]
    for t in range(steps):
        seen = observation[t], reward[t], ended[t]
        together, _ = given_step(action[t], config, together, *seen)
        for n in range(networks):
            seen = observation[t, :, n], reward[t, n], ended[t, n]
            alone[n], _ = given_step(action[t, n], config, alone[n], *seen)
    for n in range(networks):
        mine = jax.tree.map(lambda x, n=n: x[..., n], together)
        chex.assert_trees_all_close(mine, alone[n], atol=1e-6)


@pytest.mark.parametrize("policy", ["epsilon_greedy", "max_boltzmann"])
def test_many_networks_step_by_default_as_each_alone(policy):
    options = {"end_input": True, "exploration": 0.5, "policy": policy}
    config = RecollectConfig(inputs=4, **options)
    keys = jax.random.split(jax.random.key(5), 3)
    together = jax.vmap(lambda key: recollect.init(key, config), out_axes=-1)(keys)
    observations, *_ = world(8, 3)
    check_as_each_alone(recollect.step, config, [config] * 3, together, observations)


def test_sizes_given_as_arrays_can_be_static():
    config = RecollectConfig(np.array(4), memory=jnp.int32(7), weight_range=np.array(0.25))
    assert hash(config) == hash(CONFIG)


@pytest.mark.parametrize("choose", ["greedy", 3, lambda: 0])
def test_a_chooser_that_is_none_is_named(choose):
    state = recollect.init(jax.random.key(0), CONFIG)
    with pytest.raises(TypeError, match="choose must be a function"):
        recollect.step(0, CONFIG, state, jnp.ones(4), 0.0, False, choose=choose)


def test_kolen_pollack_has_two_other_names():
    for name in ("kolen_pollack", "separate", "reciprocal"):
        config = RecollectConfig(inputs=4, feedback=name)
        assert config.feedback == "kolen_pollack"
        assert recollect.init(jax.random.key(0), config).feedback.shape == (7, 3)
    assert recollect.init(jax.random.key(0), CONFIG).feedback is None


def test_feedback_that_starts_tied_stays_tied():
    config = RecollectConfig(inputs=4, feedback="kolen_pollack")
    state = recollect.init(jax.random.key(0), config)
    tied = recollect.tie_feedback(state, jnp.bool_(True))
    chex.assert_trees_all_equal(recollect.tie_feedback(state, jnp.bool_(False)), state)
    for observation, reward, ended, action in zip(*world(50, 1), strict=True):
        seen = jnp.asarray(observation[:, 0], jnp.float32), reward[0], ended[0]
        tied, _ = given_step(action[0], config, tied, *seen)
    np.testing.assert_allclose(tied.feedback, tied.weights.q[1:], atol=1e-6)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("inputs", 0),
        ("memory", True),
        ("feedback", "both"),
        ("slope", "steep"),
        ("policy", "greedy"),
        ("end_input", "yes"),
        ("learning_rate", -0.1),
        ("gate_rate", float("inf")),
        ("tag_decay", 1.5),
        ("steepness", -1.0),
    ],
)
def test_a_bad_parameter_is_named_with_its_value(field, value):
    with pytest.raises((ValueError, TypeError), match=rf"{field}.*{value}"):
        RecollectConfig(**{"inputs": 4, field: value})


def test_a_configuration_of_no_rule_is_refused():
    with pytest.raises(
        TypeError, match=r"AugmentConfig, RecollectConfig, WorkmateConfig, got \{'inputs': 4\}"
    ):
        memory.rule_of({"inputs": 4})
