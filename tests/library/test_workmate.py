"""WorkMATe against its printed equations, its gradient, and what it must not do."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qagrel_jax.population import Packed, Setup
from qagrel_jax.rules import memory, workmate
from qagrel_jax.rules.workmate import WorkmateConfig
from qagrel_jax.tasks import make_task
from tests.library.test_augment import given, world
from tests.reference.workmate import Workmate

SMALL = {"inputs": 4, "regular": 3, "memory": 6, "time_cells": 5}
CONFIG = WorkmateConfig(inputs=7)


def step(config, state, action, gate, *seen, **options):
    """A step in which action and gate are given."""
    return workmate.step((action, gate), config, state, *seen, choose=given, **options)


given_step = jax.jit(step)


def test_sizes_and_parameters_are_those_of_the_authors_code():
    assert (
        WorkmateConfig(
            inputs=7,
            regular=15,
            memory=30,
            blocks=2,
            actions=3,
            time_cells=20,
            feedback="tied",
            policy="max_boltzmann",
            weight_range=0.25,
            projection_range=0.5,
            learning_rate=0.15,
            tag_decay=0.8,
            discount=0.9,
            exploration=0.025,
            threshold=2.5,
        )
        == CONFIG
    )
    keys = jax.random.split(jax.random.key(0), 300)
    state = jax.vmap(lambda key: workmate.init(key, CONFIG), out_axes=-1)(keys)
    assert [w.shape[:-1] for w in state.weights] == [(1 + 27 + 2, 15), (30, 15), (16, 6)]
    assert state.projection.shape[:-1] == (27, 30) and state.feedback is None
    for drawn, limit in (*((w, 0.25) for w in state.weights), (state.projection, 0.5)):
        assert 0.998 * limit < np.abs(drawn).max() <= limit
        np.testing.assert_allclose([drawn.mean(), drawn.std()], [0, limit / 3**0.5], atol=0.01)
    for start in (*state.tags, state.memory, state.clock, state.q_previous):
        assert not np.any(start)


def test_time_cells_prefer_a_step_each():
    """The authors' tuning, written out: 1, .5, .25, .1 and nothing."""
    expected = [
        [1, 0.5, 0.25, 0.1, 0, 0],
        [0.5, 1, 0.5, 0.25, 0.1, 0],
        [0.25, 0.5, 1, 0.5, 0.25, 0.1],
    ]
    cells = jax.vmap(lambda clock: workmate.time_cells(clock, 6))(jnp.arange(3))
    np.testing.assert_allclose(cells, expected)
    together = workmate.time_cells(jnp.array([0, 2, 8, 9]), 6)
    np.testing.assert_allclose(together[:, :2].T, [expected[0], expected[2]])
    np.testing.assert_allclose(together[:, 2:].T, [[0] * 5 + [0.1], [0] * 6])


@pytest.mark.parametrize("feedback", ["tied", "kolen_pollack"])
@pytest.mark.parametrize("blocks", [1, 3])
def test_every_number_of_many_steps_agrees_with_the_printed_equations(x64, feedback, blocks):
    config = WorkmateConfig(
        **SMALL, blocks=blocks, feedback=feedback, weight_range=1.0, threshold=0.5, tag_decay=0.6
    )
    start = workmate.init(jax.random.key(3), config)
    observation, reward, ended, action = (x[..., 0] for x in world(400, 1, seed=2))
    gate = np.random.default_rng(4).integers(0, blocks + 1, 400)

    def body(state, seen):
        state, activity = step(config, state, *seen)
        return state, (state, activity)

    steps = action, gate, observation, reward, ended
    ours = jax.jit(lambda *xs: jax.lax.scan(body, start, xs)[1])(*steps)
    ours = jax.tree.map(np.asarray, ours)
    reference = Workmate(
        *start.weights,
        start.projection,
        3,
        feedback=start.feedback,
        theta=0.5,
        lam=0.6,
        cells=5,
    )
    for t in range(400):
        state, activity = jax.tree.map(lambda x, t=t: x[t], ours)
        pairs = {"memory seen": (activity.memory, reference.S.copy())}
        q_values = reference.forward(observation[t])
        rpe = reference.learn(action[t], gate[t], reward[t], ended[t])
        opened = [float(gate[t] == k and not ended[t]) for k in range(blocks)]
        pairs |= {
            "q": (activity.q_values, q_values[:3]),
            "q of gates": (activity.gate_q_values, q_values[3:]),
            "gate": (activity.gate, opened),
            "match": (activity.match, reference.match),
            "regular": (activity.regular, reference.h),
            "rpe": (activity.rpe, rpe),
            "memory": (state.memory, reference.S),
            "clock": (state.clock, reference.t),
            "previous q": (state.q_previous, reference.q_previous),
            "input weights": (state.weights.input_regular, reference.W_x),
            "memory weights": (state.weights.memory_regular, reference.W_S),
            "q weights": (state.weights.q, reference.W_q),
            "projection": (state.projection, reference.P),
            "input tags": (state.tags.input_regular, reference.tag_x),
            "memory tags": (state.tags.memory_regular, reference.tag_S),
            "q tags": (state.tags.q, reference.tag_q),
        }
        if reference.back is not None:
            pairs["feedback"] = state.feedback, reference.back
        for name, (mine, theirs) in pairs.items():
            assert np.abs(mine - np.asarray(theirs)).max() < 1e-11, (t, name)
    moved = [np.abs(w - v).max() for w, v in zip(state.weights, start.weights, strict=True)]
    assert min(moved) > 0.02, "nothing was learned, so nothing was tested"


def test_learning_follows_the_gradient_of_the_prediction_error(x64):
    config = WorkmateConfig(**SMALL, tag_decay=0.0, weight_range=1.0)
    observation, _, _, action = (x[..., 0] for x in world(5, 1, seed=3))
    state, gates = workmate.init(jax.random.key(2), config), [0, 2, 1, 2, 0]
    for t in range(5):
        before, last = state, t == 4
        seen = observation[t], 0.7 * last, False
        state, activity = given_step(config, state, action[t], gates[t], *seen, plastic=last)
    target = 0.7 + 0.9 * (activity.q_values[action[4]] + activity.gate_q_values[gates[4]])
    # What the memory held in step 3, when the choices were made whose value is learned.
    stored = {0: observation[0], 1: observation[2]}

    def error(weights):
        times = [[1, 0.5, 0.25, 0.1, 0], [0.25, 0.5, 1, 0.5, 0.25], [0.1, 0.25, 0.5, 1, 0.5]]
        seen = jnp.concatenate([observation[3], jnp.array(times[2])])
        held = [jnp.concatenate([stored[k], jnp.array(times[k])]) for k in range(2)]
        projected = [seen @ before.projection[:, 3 * k : 3 * k + 3] for k in range(2)]
        held = [held[k] @ before.projection[:, 3 * k : 3 * k + 3] for k in range(2)]
        match = [1 - jnp.abs(projected[k] - held[k]).mean() for k in range(2)]
        inputs = jnp.concatenate([jnp.ones(1), seen, jnp.stack(match)])
        drive = inputs @ weights.input_regular + jnp.concatenate(held) @ weights.memory_regular
        hidden = jnp.concatenate([jnp.ones(1), 1 / (1 + jnp.exp(2.5 - drive))])
        q_values = hidden @ weights.q
        return 0.5 * (target - q_values[action[3]] - q_values[3 + gates[3]]) ** 2

    gradient = jax.grad(error)(before.weights)
    for new, old, slope in zip(state.weights, before.weights, gradient, strict=True):
        assert np.abs(slope).max() > 1e-4
        np.testing.assert_allclose(new - old, -0.15 * slope, atol=1e-14)


def test_the_end_of_a_trial_forgets_all_but_the_weights():
    state = workmate.init(jax.random.key(0), CONFIG)
    for t in range(3):
        state, _ = given_step(CONFIG, state, 1, t % 3, jnp.ones(7), 0.0, False)
    assert np.any(state.memory) and int(state.clock) == 3
    ended, activity = given_step(CONFIG, state, 1, 0, jnp.zeros(7), 1.5, True)
    assert float(activity.rpe) == pytest.approx(1.5 - float(state.q_previous), rel=1e-6)
    chex.assert_trees_all_equal(ended, workmate.at_rest(ended))
    assert not np.any(activity.gate) and np.any(ended.weights.q != state.weights.q)
    chex.assert_trees_all_equal(ended.projection, state.projection)


@pytest.mark.parametrize("feedback", ["tied", "kolen_pollack"])
def test_a_frozen_network_is_greedy_in_both_choices_and_keeps_every_weight_to_the_bit(feedback):
    config = WorkmateConfig(inputs=4, exploration=1.0, feedback=feedback)
    one = jax.jit(workmate.step, static_argnames="plastic")
    state = workmate.init(jax.random.key(0), config)
    keys = jax.random.split(jax.random.key(1), 100)
    for t in range(60):  # first let it learn, so that tags and memory are there
        state, _ = one(keys[t], config, state, jnp.full(4, t % 2), 1.5 * (t % 3), t % 5 == 0)
    frozen = state
    for t in range(60, 100):
        seen = jnp.full(4, t % 2), 1.5 * (t % 3), t % 5 == 0
        frozen, activity = one(keys[t], config, frozen, *seen, plastic=False)
        assert int(activity.action) == int(np.argmax(activity.q_values))
        gate = np.eye(3)[int(np.argmax(activity.gate_q_values))][:2] * (t % 5 != 0)
        np.testing.assert_array_equal(activity.gate, gate)
    for new, old in zip(
        jax.tree.leaves((frozen.weights, frozen.feedback, frozen.projection)),
        jax.tree.leaves((state.weights, state.feedback, state.projection)),
        strict=True,
    ):
        assert np.asarray(new).tobytes() == np.asarray(old).tobytes()


def test_the_two_choices_are_drawn_independently():
    config = WorkmateConfig(inputs=7, exploration=1.0, policy="epsilon_greedy")
    state = workmate.init(jax.random.key(0), config)
    seen = jnp.ones(7), 0.0, False
    each = jax.jit(jax.vmap(lambda key: workmate.step(key, config, state, *seen)[1]))
    activity = each(jax.random.split(jax.random.key(1), 1800))
    gates = np.concatenate([activity.gate, 1 - activity.gate.sum(1, keepdims=True)], 1).argmax(1)
    counts = np.zeros((3, 3))
    np.add.at(counts, (np.asarray(activity.action), gates), 1)
    assert (abs(counts - 200) < 60).all()


def test_the_networks_axis_is_the_plain_step():
    networks, steps = 3, 12
    config = WorkmateConfig(**SMALL, feedback="kolen_pollack")
    observation, reward, ended, action = world(steps, networks)
    gate = np.random.default_rng(1).integers(0, 3, (steps, networks))
    keys = jax.random.split(jax.random.key(5), networks)
    together = jax.vmap(lambda key: workmate.init(key, config), out_axes=-1)(keys)
    alone = [jax.tree.map(lambda x, n=n: x[..., n], together) for n in range(networks)]
    observation, reward = jnp.asarray(observation, jnp.float32), jnp.asarray(reward, jnp.float32)
    for t in range(steps):
        seen = observation[t], reward[t], ended[t]
        together, _ = given_step(config, together, action[t], gate[t], *seen)
        for n in range(networks):
            seen = observation[t, :, n], reward[t, n], ended[t, n]
            alone[n], _ = given_step(config, alone[n], action[t, n], gate[t, n], *seen)
    for n in range(networks):
        mine = jax.tree.map(lambda x, n=n: x[..., n], together)
        chex.assert_trees_all_close(mine, alone[n], atol=1e-6)


def test_many_networks_step_with_one_key():
    keys = jax.random.split(jax.random.key(0), 4)
    state = jax.vmap(lambda key: workmate.init(key, CONFIG), out_axes=-1)(keys)
    one = jax.jit(workmate.step)
    state, activity = one(jax.random.key(1), CONFIG, state, jnp.ones((7, 4)), 0.0, False)
    assert activity.action.shape == (4,) and activity.gate.shape == (2, 4)


@pytest.mark.slow
def test_networks_learn_to_compare_and_need_fewer_trials_for_new_letters():
    """In a population: those of few that pass the first set pass the second much faster."""
    task = make_task("match_to_sample")
    params = task.params(sets=2)
    criterion = task.criterion.__class__(1, (100, 100), 0.85, 12_000)
    setup = Setup(task, params, WorkmateConfig(inputs=7), criterion)
    packed = Packed(setup, jax.random.key(0), networks=16)
    while packed.learning.size:
        packed.advance()
    passed = np.asarray(packed.networks.progress.passed)
    both = passed[:, passed[1] > 0]
    assert both.shape[1] >= 5
    assert np.median(both[1] - both[0]) < 0.25 * np.median(both[0])
    trials = [t or 0 for t in packed.trials_to_convergence()]
    assert trials == passed[1].tolist()


def test_feedback_that_starts_tied_stays_tied():
    config = WorkmateConfig(inputs=4, feedback="reciprocal")
    state = workmate.init(jax.random.key(0), config)
    assert config.feedback == "kolen_pollack" and state.feedback.shape == (15, 6)
    tied = workmate.tie_feedback(state, jnp.bool_(True))
    chex.assert_trees_all_equal(workmate.tie_feedback(state, jnp.bool_(False)), state)
    for observation, reward, ended, action in zip(*world(50, 1), strict=True):
        seen = jnp.asarray(observation[:, 0], jnp.float32), reward[0], ended[0]
        tied, _ = given_step(config, tied, action[0], action[0], *seen)
    np.testing.assert_allclose(tied.feedback, tied.weights.q[1:], atol=1e-6)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("inputs", 0),
        ("memory", True),
        ("memory", 31),
        ("blocks", 0),
        ("time_cells", -1),
        ("feedback", "both"),
        ("policy", "greedy"),
        ("learning_rate", -0.1),
        ("projection_range", float("inf")),
        ("tag_decay", 1.5),
    ],
)
def test_a_bad_parameter_is_named_with_its_value(field, value):
    with pytest.raises((ValueError, TypeError), match=rf"{field}.*{value}"):
        WorkmateConfig(**{"inputs": 4, field: value})


def test_randomness_is_a_key_or_a_pair():
    state, seen = workmate.init(jax.random.key(0), CONFIG), (jnp.ones(7), 0.0, False)
    _, activity = workmate.step([2, 1], CONFIG, state, *seen, choose=given)
    assert int(activity.action) == 2 and activity.gate.tolist() == [0, 1]
    for pair, says in (((3, 0), "the action"), ((0, 3), "the internal action")):
        with pytest.raises(ValueError, match=rf"{says} that choose returns must be in \[0, 3\)"):
            workmate.step(pair, CONFIG, state, *seen, choose=given)
    with pytest.raises(TypeError, match="a pair for the two choices, got 3 parts"):
        workmate.step((1, 2, 3), CONFIG, state, *seen, choose=given)
    with pytest.raises(TypeError, match="randomness"):
        workmate.step(3, CONFIG, state, *seen)


def test_a_state_of_other_sizes_is_refused():
    state = workmate.init(jax.random.key(0), CONFIG)
    for other in ({"memory": 20}, {"time_cells": 3}, {"blocks": 3}, {"regular": 4}):
        config = WorkmateConfig(inputs=7, **other)
        with pytest.raises(ValueError, match="state must be of the sizes of config"):
            given_step(config, state, 0, 0, jnp.ones(7), 0.0, False)


def test_a_choice_of_nothing_makes_the_error_not_a_number():
    state = workmate.init(jax.random.key(0), CONFIG)
    for action, gate in ((-1, 0), (0, 3), (0, -1)):
        _, activity = given_step(CONFIG, state, action, gate, jnp.ones(7), 0.0, False)
        assert np.isnan(activity.rpe)
        _, activity = given_step(CONFIG, state, action, gate, jnp.ones(7), 0.0, True)
        assert np.isfinite(activity.rpe)


def test_it_is_among_the_rules_with_memory():
    assert memory.rule_of(CONFIG) is memory.RULES["workmate"]
    assert memory.RULES["workmate"].choices(CONFIG) == (3, 3)
