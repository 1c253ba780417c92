"""AuGMEnT in shorter steps: one substep is AuGMEnT itself, several are the stated equations."""

import copy
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qagrel_jax.rules import augment, augment_continuous
from qagrel_jax.rules.augment import AugmentConfig
from tests.library.test_augment import given, states, world
from tests.reference.augment import Augment


def first(x):
    return np.moveaxis(np.asarray(x), -1, 0)


def arrays(reference):
    own = (reference.trace, reference.S, reference.x, reference.q_previous)
    return *reference.weights, *(reference.back or ()), *reference.tags, *own


@pytest.mark.parametrize("policy", ["max_boltzmann", "epsilon_greedy"])
def test_one_substep_is_augment_to_the_bit(policy):
    config = AugmentConfig(
        inputs=4, feedback="kolen_pollack", leak=0.9, policy=policy, exploration=0.5
    )
    whole = jax.jit(augment.step)
    parts = jax.jit(functools.partial(augment_continuous.step, substeps=1))
    ours = theirs = start = augment.init(jax.random.key(0), config)
    observation, reward, ended, _ = world(40, 1)
    for t, key in enumerate(jax.random.split(jax.random.key(1), 40)):
        seen = jnp.asarray(observation[t, :, 0], jnp.float32), reward[t, 0], ended[t, 0]
        ours, activity = parts(key, config, ours, *seen)
        theirs, expected = whole(jax.random.clone(key), config, theirs, *seen)
        chex.assert_trees_all_equal((ours, activity), (theirs, expected))
    assert float(jnp.abs(ours.weights.memory_q - start.weights.memory_q).max()) > 0.01


@pytest.mark.parametrize("feedback", ["tied", "kolen_pollack"])
def test_several_substeps_agree_with_the_stated_equations(x64, feedback):
    networks, substeps = 3, 4
    config = AugmentConfig(inputs=4, feedback=feedback)
    state = states(config, networks)
    reference = Augment(
        *map(first, state.weights),
        feedback=None if feedback == "tied" else [first(f) for f in state.feedback],
        dt=1 / substeps,
    )
    step = jax.jit(functools.partial(augment_continuous.step, choose=given, substeps=substeps))
    for observation, reward, ended, action in zip(*world(200, networks), strict=True):
        state, activity = step(action, config, state, observation, reward, ended)
        q_values = reference.forward(first(observation))
        np.testing.assert_allclose(first(activity.q_values), q_values, atol=1e-9)
        reference.learn(action, reward, ended)
        between_trials = copy.deepcopy(reference)
        for _ in range(substeps - 1):
            reference.forward(first(observation))
            reference.learn(action, np.zeros(networks), np.zeros(networks, bool))
        # Nothing is held on to once the trial has ended.
        for after, before in zip(arrays(reference), arrays(between_trials), strict=True):
            after[ended] = before[ended]
        pairs = [
            *zip(state.weights, reference.weights, strict=True),
            *zip((t / substeps for t in state.tags), reference.tags, strict=True),
            (state.memory, reference.S),
            (state.q_previous, reference.q_previous),
        ]
        for mine, theirs in pairs:
            np.testing.assert_allclose(first(mine), theirs, atol=1e-9)
    assert np.abs(reference.W_M).max() > 0.26, "nothing was learned, so nothing was tested"


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.5])
def test_steps_are_a_fraction_of_an_action(fraction):
    with pytest.raises(ValueError, match=rf"fraction must be in \(0, 1\], got {fraction}"):
        augment_continuous.in_steps_of(AugmentConfig(inputs=4), fraction)


@pytest.mark.parametrize(("leak", "of_half"), [(0.81, 0.9), ((0.81, 0.25), (0.9, 0.5))])
def test_two_half_steps_keep_what_a_whole_one_keeps(leak, of_half):
    config = AugmentConfig(inputs=4, memory=2, leak=leak)
    assert augment_continuous.in_steps_of(config, 0.5).leak == pytest.approx(of_half)


def test_substeps_below_one_are_refused():
    config = AugmentConfig(inputs=4)
    state = augment.init(jax.random.key(0), config)
    with pytest.raises(ValueError, match="substeps must be at least 1, got 0"):
        augment_continuous.step(
            jax.random.key(1), config, state, jnp.zeros(4), 0.0, False, substeps=0
        )
