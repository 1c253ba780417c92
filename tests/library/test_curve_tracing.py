"""Curve tracing: what is drawn is two curves without contact, and only the right end pays."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qagrel_jax.tasks import curve_tracing
from qagrel_jax.tasks.curve_tracing import BLUE, GREEN, RED, Params, longest_curve

TRIALS = 200


def _many(params, seed=0):
    keys = jax.random.split(jax.random.key(seed), TRIALS)
    trials, images = jax.jit(jax.vmap(lambda key: curve_tracing.reset(key, params)))(keys)
    return jax.tree.map(np.asarray, trials), np.asarray(images)


def _neighbors(pixel, n):
    row, column = divmod(int(pixel), n)
    beside = ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1))
    return {r * n + c for r, c in beside if 0 <= r < n and 0 <= c < n}


@pytest.mark.parametrize(
    ("grid", "length", "apart"),
    [
        (15, 9, False),
        pytest.param(36, 30, False, marks=pytest.mark.slow),
        pytest.param(6, 7, False, marks=pytest.mark.slow),
        (15, 9, True),
    ],
)
def test_two_paths_that_touch_neither_themselves_nor_each_other(grid, length, apart):
    trials, images = _many(Params(grid, length, 3, length, apart=apart))
    assert set(trials.length.tolist()) <= set(range(3, length + 1))
    assert {3, length} <= set(trials.length.tolist()) or length > 20
    for target, distractor, n_pixels, image in zip(*trials, images, strict=True):
        curves = [curve[:n_pixels].tolist() for curve in (target, distractor)]
        assert (target[n_pixels:] == -1).all()
        assert (distractor[n_pixels:] == -1).all()
        both = [*curves[0], *curves[1]]
        assert len(set(both)) == 2 * n_pixels
        assert min(both) >= 0
        assert max(both) < grid**2
        for curve in curves:
            for place, pixel in enumerate(curve):
                expected = {*curve[max(place - 1, 0) : place], *curve[place + 1 : place + 2]}
                assert _neighbors(pixel, grid) & set(both) == expected
        expected = np.zeros((grid**2, 4))
        for curve, first in zip(curves, (RED, GREEN), strict=True):
            expected[curve[0], first] = 1
            expected[curve[1:-1], GREEN] = 1
            expected[curve[-1], BLUE] = 1
        np.testing.assert_array_equal(image.reshape(-1, 4), expected)


def test_both_curves_are_everywhere_and_go_every_way():
    trials, _ = _many(Params(7, 3, 3, 3))
    for curves in (trials.target, trials.distractor):
        assert len(set(curves[:, 0].tolist())) > 40  # of 49 pixels
        assert set(np.diff(curves[:, :2])[:, 0].tolist()) == {-7, -1, 1, 7}


def test_draws_of_zero_take_no_pixel_that_is_taken(monkeypatch):
    """Every pixel and every move that is free is as good as the first."""
    params = Params(6, 5, 5, 5)
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape=(), *_, **__: jnp.zeros(shape))
    trial, _ = curve_tracing.reset(jax.random.key(0), params)
    for curve in (trial.target[:5].tolist(), trial.distractor[:5].tolist()):
        assert len(set(curve)) == 5
        for pixel, following in itertools.pairwise(curve):
            assert following in _neighbors(pixel, 6)
    assert not set(trial.target[:5].tolist()) & set(trial.distractor[:5].tolist())


def test_the_first_stage_is_two_pixels_anywhere():
    trials, images = _many(Params(15, 9, 2, 2))
    assert (trials.distractor == -1).all()
    assert (trials.target[:, :2] >= 0).all()
    assert (trials.target[:, 2:] == -1).all()
    assert (trials.target[:, 0] != trials.target[:, 1]).all()
    assert (images.sum((1, 2)) == [1, 0, 0, 1]).all()
    for target, image in zip(trials.target, images, strict=True):
        assert image.reshape(-1, 4)[target[0], RED] == 1
        assert image.reshape(-1, 4)[target[1], BLUE] == 1


def test_only_the_end_of_the_target_pays():
    params = Params(9, 4, 4, 4, correct_reward=1.2)
    trial, _ = curve_tracing.reset(jax.random.key(3), params)
    rewards, correct = jax.vmap(lambda a: curve_tracing.step(trial, a, params))(jnp.arange(81))
    assert np.flatnonzero(correct).tolist() == [int(trial.target[3])]
    np.testing.assert_array_equal(rewards, np.where(correct, np.float32(1.2), 0))
    assert rewards[trial.distractor[3]] == 0


def test_a_curriculum_changes_lengths_without_compiling_again():
    compiled = []

    @jax.jit
    def length(key, params):
        compiled.append(params)
        return curve_tracing.reset(key, params)[0].length

    params = Params(15, 9, jnp.int32(3), jnp.int32(3))
    for n in (3, 5, 9):
        asked = dataclasses.replace(params, shortest=jnp.int32(n), longest=jnp.int32(n))
        assert length(jax.random.key(0), asked) == n
    assert len(compiled) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid": 2}, "grid must be at least 4, got 2"),
        ({"grid": 3, "max_length": 3}, "grid must be at least 4, got 3"),
        ({"grid": 4, "max_length": 3, "apart": True}, "grid must be at least 5, got 4"),
        ({"max_length": 46}, "two curves of 46 pixels hardly fit into 15 x 15 pixels"),
        ({"max_length": 33, "apart": True}, "max_length must be at most 32"),
        ({"grid": 36, "max_length": 101}, "max_length must be at most 100"),
        ({"longest": 10}, "2 <= shortest <= longest <= max_length, got 3, 10, 9"),
        ({"longest": jnp.int32(12)}, "2 <= shortest <= longest <= max_length, got 3, 12, 9"),
        ({"longest": np.array(1)}, "longest must be at least 2, got 1"),
        ({"shortest": 1}, "shortest must be at least 2, got 1"),
        ({"shortest": 7, "longest": 5}, "2 <= shortest <= longest <= max_length, got 7, 5, 9"),
        ({"correct_reward": -1}, "correct_reward must be at least 0, got -1"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Params(**options)


@pytest.mark.parametrize("apart", [False, True])
def test_common_neighbors_are_those_of_a_loop_over_pixels(apart):
    params = Params(grid=8, max_length=5, longest=5, apart=apart)
    trials, _ = jax.vmap(curve_tracing.reset, (0, None))(
        jax.random.split(jax.random.key(4), 60), params
    )
    found = jax.vmap(curve_tracing.have_common_neighbor, (0, None))(trials, params)

    def beside(curve):
        steps = ((0, 1), (0, -1), (1, 0), (-1, 0))
        pixels = [divmod(int(pixel), 8) for pixel in curve if pixel >= 0]
        return {(row + down, column + right) for row, column in pixels for down, right in steps}

    # Curves never touch, so that a common neighbor is a pixel of neither.
    expected = [
        bool(beside(target) & beside(distractor))
        for target, distractor in zip(trials.target, trials.distractor, strict=True)
    ]
    assert found.tolist() == expected
    assert 5 < sum(expected) < 55 if not apart else not any(expected)


@pytest.mark.parametrize(
    ("grid", "apart"),
    [
        (5, False),
        pytest.param(5, True, marks=pytest.mark.slow),
        (15, True),
        pytest.param(36, False, marks=pytest.mark.slow),
    ],
)
def test_the_longest_curves_can_be_drawn(grid, apart):
    length = longest_curve(grid, apart)
    params = Params(grid, length, length, length, apart=apart)
    trial, _ = jax.jit(curve_tracing.reset, static_argnums=1)(jax.random.key(0), params)
    assert (trial.target >= 0).all()
    assert (trial.distractor >= 0).all()


def test_an_action_that_does_not_exist_is_not_rewarded():
    """Compiled policies give -1 where there is nothing to choose."""
    params = Params(grid=6, max_length=5, shortest=2, longest=5)
    keys = jax.random.split(jax.random.key(0), 20)
    trials, _ = jax.jit(jax.vmap(lambda key: curve_tracing.reset(key, params)))(keys)
    for action in (-1, 36):
        reward, correct = jax.vmap(lambda trial, a=action: curve_tracing.step(trial, a, params))(
            trials
        )
        assert not reward.any() and not correct.any()


def test_a_batch_of_trials_is_to_be_mapped():
    params = Params(5, 3, 3, 3)
    keys = jax.random.split(jax.random.key(0), 3)
    trials, _ = jax.vmap(lambda key: curve_tracing.reset(key, params))(keys)
    actions = trials.target[:, 2]
    with pytest.raises(ValueError, match=r"action must be \[\], got \[3\]: of one trial; jax.vmap"):
        curve_tracing.step(trials, actions, params)
    _, correct = jax.vmap(lambda trial, a: curve_tracing.step(trial, a, params))(trials, actions)
    assert correct.tolist() == [True] * 3


def test_sizes_and_reward_left_out_are_the_published_ones():
    assert curve_tracing.Params() == curve_tracing.Params(15, 9, 3, 9, 1.2, False)
