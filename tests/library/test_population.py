"""Populations: a network's fate is its own, and finished networks stay as they are."""

import dataclasses

import chex
import jax
import numpy as np
import pytest

from qagrel_jax.population import Setup, recording
from qagrel_jax.population.packing import Packed
from qagrel_jax.rules.augment import AugmentConfig
from qagrel_jax.tasks import criterion as criteria
from qagrel_jax.tasks import make_task

STEPS = 64


def setup(feedback="tied", **criterion):
    task = make_task("saccade")
    easy = dataclasses.replace(task.criterion, **criterion)
    return Setup(task, task.params(), AugmentConfig(inputs=task.inputs, feedback=feedback), easy)


def start(networks, shared, **options):
    each = np.ones(networks)
    options = {"steps": STEPS} | options
    return Packed(shared, jax.random.key(3), 0.15 * each, 0.2 * each, **options)


def alone(packed, number):
    return jax.tree.map(np.asarray, packed.network(number))


def test_a_network_learns_the_same_in_any_company_and_any_block():
    shared = setup()
    few, many = start(8, shared), start(10, shared, block=5)
    for _ in range(6):
        few.advance()
        many.advance()
    for number in (0, 7):
        chex.assert_trees_all_close(alone(few, number), alone(many, number), rtol=1e-5, atol=1e-6)
    trials = many.networks.progress.trials
    assert trials.min() > 5 and len(set(trials.tolist())) > 2


def test_finished_networks_change_no_more_and_the_others_go_on():
    # One right pro-left trial, which chance brings sooner or later, or a limit to run into.
    shared = setup(conditions=1, windows=(1,), max_trials=80, test_allowed=())
    packed = start(8, shared)
    before = None
    while packed.learning.size:
        finished = np.setdiff1d(np.arange(8), packed.learning)
        before = {n: alone(packed, n) for n in finished}
        packed.advance()
        for number, network in before.items():
            chex.assert_trees_all_equal(alone(packed, number), network)
    assert before, "all finished in the same turn, so nothing was tested"
    status = packed.networks.progress.status
    assert set(status.tolist()) == {criteria.CONVERGED, criteria.GAVE_UP}
    for trials, state in zip(packed.trials_to_convergence(), status, strict=True):
        assert (trials is None) == (state == criteria.GAVE_UP)


def test_a_run_taken_up_again_goes_on_bit_for_bit():
    shared = setup()
    whole, first = start(8, shared), start(8, shared)
    for _ in range(2):
        whole.advance()
        first.advance()
    again = start(8, shared)
    again.restore(first.state())
    whole.advance()
    again.advance()
    chex.assert_trees_all_equal(again.networks, whole.networks)
    with pytest.raises(ValueError, match="expected"):
        start(8, setup("separate")).restore(first.state())


def test_feedback_that_starts_tied_is_tied_feedback():
    """w' = Wᵀ at the start and the same changes: the same learning, and w' = Wᵀ at the end."""
    tied = start(8, setup())
    mixed = start(8, setup("separate"), tied=np.arange(8) < 4)
    for _ in range(6):
        tied.advance()
        mixed.advance()
    moved = 0
    for number in range(8):
        ours, theirs = (alone(packed, number).learner for packed in (mixed, tied))
        forward = ours.weights.regular_q[1:], ours.weights.memory_q
        gap = max(np.abs(f - b).max() for f, b in zip(forward, ours.feedback, strict=True))
        if number < 4:
            assert gap < 1e-6
            chex.assert_trees_all_close(ours.weights, theirs.weights, rtol=1e-4, atol=1e-5)
        else:
            assert gap > 0.01
        moved = max(moved, np.abs(ours.tags.memory_q).max())
    assert moved > 0


def test_every_turn_has_random_numbers_of_its_own():
    packed = start(8, setup())
    before = packed.state()
    after = []
    for turn in (0, 1):
        packed.restore(before | {"turn": np.int64(turn)})
        packed.advance()
        assert packed.turn == turn + 1
        after.append(np.array(packed.networks.learner.weights.memory_q))
    assert (after[0] != after[1]).any((0, 1)).all()


def fixating(learner):
    """The same networks with Q values of 1, 0, 0 whatever they see: they fixate and wait."""
    learner = jax.tree.map(np.zeros_like, learner)
    learner.weights.regular_q[0, 0] = 1.0
    return learner


WAITING = 1 + 2 + 3 + 8  # blank, fixation, cue and delay, and nothing said at GO


def test_a_frozen_test_asks_its_trials_in_order_of_networks_that_neither_learn_nor_explore():
    shared = setup(test_allowed=(1, 1, 1, 1))
    shared = dataclasses.replace(shared, config=dataclasses.replace(shared.config, exploration=1.0))
    packed = start(12, shared, steps=WAITING + 1)
    packed.networks = packed.networks._replace(learner=fixating(packed.networks.learner))
    packed.networks.progress.status[:] = criteria.TESTING
    packed.networks.progress.test_index[:] = np.arange(12) % 3
    before = packed.network(0).learner.weights
    packed.advance()
    progress, world = packed.networks.progress, packed.networks.world
    # One trial has ended in every network, and the next one begun.
    np.testing.assert_array_equal(progress.test_index, np.arange(12) % 3 + 1)
    np.testing.assert_array_equal(world.trial.kind, progress.test_index)
    np.testing.assert_array_equal((world.phase, world.clock), 0)
    for number in range(12):
        chex.assert_trees_all_equal(packed.network(number).learner.weights, before)
    assert (progress.trials == 0).all() and (progress.seen == 0).all()


def test_trials_are_of_the_networks_shaping_level():
    task = make_task("probabilistic")
    shared = Setup(task, task.params(), AugmentConfig(inputs=45), task.criterion)
    level = np.repeat(np.arange(8), 12)
    packed = start(96, shared, steps=32)  # longer than any trial
    trial = packed.networks.world.trial
    assert (trial.length == 1).all() and set(trial.symbols.ravel().tolist()) == {0, 1}
    packed.networks.progress.level[:] = level
    packed.advance()
    trial = packed.networks.world.trial
    np.testing.assert_array_equal(packed.networks.progress.level, level)
    np.testing.assert_array_equal(trial.length, np.array([1, 1, 1, 1, 1, 2, 3, 4])[level])
    for one, available in enumerate([2, 4, 6, 8, 10, 10, 10, 10]):
        drawn = trial.symbols[:, level == one]
        assert available - 2 <= drawn.max() < available


def test_a_recording_shows_the_trial_asked_for_to_a_network_that_neither_learns_nor_explores():
    shared = setup()
    shared = dataclasses.replace(shared, config=dataclasses.replace(shared.config, exploration=1.0))
    learner = fixating(start(1, shared).networks.learner)
    learner = jax.tree.map(lambda x: x[..., 0], learner)
    for index, (mark, cue) in enumerate([(0, 2), (0, 3), (1, 2), (1, 3)]):
        trial = recording.record(shared, learner, index, jax.random.key(5))
        seen = np.zeros((WAITING + 1, 4))
        seen[1:6, mark] = 1  # pro or anti, until GO
        seen[3, cue] = 1  # left or right
        np.testing.assert_array_equal(trial.observation, seen)
        np.testing.assert_array_equal(trial.phase, [0, 1, 1, 2, 2, 2, *[3] * 8, 4])
        np.testing.assert_array_equal(trial.clock, [0, 0, 1, 0, 1, 2, *range(8), 0])
        # Each step's prediction error would change the 1, that of the reward among them.
        np.testing.assert_array_equal(trial.q_values, np.tile([1.0, 0.0, 0.0], (WAITING + 1, 1)))
        np.testing.assert_array_equal(trial.action, 0)
        np.testing.assert_allclose(trial.reward, np.where(np.arange(WAITING + 1) == 3, 0.2, 0))
        assert not trial.correct


def test_a_recording_is_one_whole_trial():
    shared = setup()
    packed = start(8, shared)
    trial = recording.record(shared, packed.network(0).learner, 2, jax.random.key(0))
    assert trial.phase[0] == 0 and trial.phase[-1] == 4
    assert trial.memory.shape == (len(trial.phase), 4)
    with pytest.raises(ValueError, match="did not end in 1 steps"):
        recording.record(shared, packed.network(0).learner, 2, jax.random.key(1), steps=1)


def test_bad_populations_are_named():
    shared = setup()
    with pytest.raises(ValueError, match="settings for each network, got 0 and 0"):
        start(0, shared)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        start(2, shared, steps=0)
    with pytest.raises(ValueError, match="substeps must be at least 1, got 0"):
        dataclasses.replace(shared, substeps=0)
    with pytest.raises(ValueError, match=r"saccade has 4 inputs, got config.inputs = 5"):
        dataclasses.replace(shared, config=AugmentConfig(inputs=5))
    with pytest.raises(ValueError, match=r"saccade has 3 actions, got config.actions = 2"):
        dataclasses.replace(shared, config=AugmentConfig(inputs=4, actions=2))
    with pytest.raises(ValueError, match="tag_decay must be in"):
        Packed(shared, jax.random.key(0), np.full(2, 0.15), np.array([0.2, 1.5]))


def test_settings_reach_their_network():
    rates = np.where(np.arange(8) < 4, 0.0, 0.3)
    packed = Packed(setup(), jax.random.key(0), rates, np.full(8, 0.2), steps=STEPS)
    before = np.array(packed.networks.learner.weights.memory_q)
    packed.advance()
    moved = np.abs(packed.networks.learner.weights.memory_q - before).max((0, 1))
    assert not moved[:4].any() and moved[4:].all()
