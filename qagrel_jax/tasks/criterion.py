"""When has a network learned its task? Accuracy over the last trials, shaping levels, frozen test.

Accuracy is counted per condition over its last ``windows[level]`` trials. When every condition's
window is full and accurate enough, the network moves up a shaping level (windows start afresh); at
the last level it takes the frozen test (β = ε = 0), if the task has one, and has converged if it
passes. **A failed test does not end training**: the network keeps learning and is tested again
``retest_after`` trials later if its windows still meet the criterion. The test's trials count
neither towards the trials to convergence nor in the windows.

Where a trial holds several responses, a criterion may also ask for a number of consecutive correct
ones (``consecutive``), counted on from trial to trial.

All arrays may carry one more axis at their end, over networks.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from qagrel_jax import checks

TRAINING, TESTING, CONVERGED, GAVE_UP = range(4)
"""What a network is doing. One that has diverged gave up, too."""

LARGEST = 2**31 - 1
"""Trials are counted in 32 bits."""


@dataclasses.dataclass(frozen=True)
class Criterion:
    """A task's learning criterion; see the module's docstring.

    Attributes:
      conditions: number of conditions whose accuracy is counted separately.
      windows: trials per condition, one entry for each shaping level.
      accuracy: needed in every condition's window, "at least".
      max_trials: a network gives up after this many training trials.
      test_allowed: errors allowed in each group of the frozen test; empty for no test.
      test_repeats: trials in each group; the task decides how many there are of one type.
      retest_after: training trials from a failed test to the next.
      consecutive: correct responses needed one after another besides full windows, counted on from
        trial to trial and looked at after each; 0 for none.

    Raises:
      ValueError: a value out of range.
      TypeError: text or nothing in place of a number.
    """

    conditions: int
    windows: tuple[int, ...]
    accuracy: float
    max_trials: int
    test_allowed: tuple[int, ...] = ()
    test_repeats: int = 1
    retest_after: int = 1
    consecutive: int = 0

    def __post_init__(self) -> None:
        for name in ("conditions", "max_trials", "test_repeats", "retest_after"):
            checks.whole(name, getattr(self, name), 1, LARGEST)
        checks.whole("consecutive", self.consecutive, 0, LARGEST)
        checks.wholes("windows", self.windows, high=LARGEST)
        if not self.windows:
            raise ValueError("windows must be at least one number of trials, got none")
        checks.number("accuracy", self.accuracy, 0, 1, above=True)
        checks.wholes("test_allowed", self.test_allowed, low=0, high=LARGEST)
        # A static argument of compiled functions has to have a hash: no lists, no arrays.
        for name in ("conditions", "max_trials", "test_repeats", "retest_after", "consecutive"):
            object.__setattr__(self, name, int(getattr(self, name)))
        for name in ("windows", "test_allowed"):
            object.__setattr__(self, name, tuple(int(n) for n in getattr(self, name)))
        object.__setattr__(self, "accuracy", float(self.accuracy))

    @property
    def required(self) -> tuple[int, ...]:
        """Correct trials needed in each level's window."""
        return tuple(math.ceil(round(self.accuracy * w, 6)) for w in self.windows)


class Progress(NamedTuple):
    """How far one network has come."""

    status: chex.Array  # int32[], TRAINING … GAVE_UP
    trials: chex.Array  # int32[], training trials ended so far
    level: chex.Array  # int32[], shaping level, from 0
    outcomes: chex.Array  # uint32[conditions, words], the window's outcomes as bits
    slot: chex.Array  # int32[conditions], where the next outcome goes
    seen: chex.Array  # int32[conditions], outcomes in the window
    hits: chex.Array  # int32[conditions], correct ones among them
    test_index: chex.Array  # int32[], trial of the frozen test
    test_errors: chex.Array  # int32[], errors in the current group of the test
    next_test: chex.Array  # int32[], trials before which there is no test
    tests: chex.Array  # int32[], tests taken
    streak: chex.Array  # int32[], correct responses since the last error, up to the last trial
    passed: chex.Array | None = None  # int32[levels], trials when each level was passed, 0 if not
    # yet, -1 if that is not known; None where there is one level


def start(criterion: Criterion) -> Progress:
    """Nothing learned yet: all zeros."""
    words = -(-max(criterion.windows) // 32)
    counts = jnp.zeros(criterion.conditions, jnp.int32)
    zero, levels = jnp.int32(0), len(criterion.windows)
    return Progress(
        status=zero,
        trials=zero,
        level=zero,
        outcomes=jnp.zeros((criterion.conditions, words), jnp.uint32),
        slot=counts,
        seen=counts,
        hits=counts,
        test_index=zero,
        test_errors=zero,
        next_test=zero,
        tests=zero,
        streak=zero,
        passed=jnp.zeros(levels, jnp.int32) if levels > 1 else None,
    )


def update(
    criterion: Criterion,
    progress: Progress,
    ended: chex.Array,
    correct: chex.Array,
    condition: chex.Array,
    run: chex.Array | None = None,
) -> Progress:
    """Take note of one step.

    Args:
      criterion: the task's.
      progress: so far.
      ended: bool[], whether a trial ended; if not, nothing changes.
      correct: bool[], whether it ended with the correct response; of several, whether all were.
      condition: int32[], which condition it counts for.
      run: int32[], consecutive correct responses at the trial's end; None where a trial has one
        response.

    Returns:
      The new ``Progress``. Converged networks and those that gave up change no more.
    """
    p = progress
    trained = ended & (p.status == TRAINING)
    tested = ended & (p.status == TESTING)

    window = _at_level(criterion.windows, p.level)
    p = _record(p, window, trained, correct, condition)
    met = ((p.seen >= window[None]) & (p.hits >= _at_level(criterion.required, p.level)[None])).all(
        0
    )
    if criterion.consecutive:
        gained = correct.astype(jnp.int32) if run is None else run
        streak = jnp.where(correct, p.streak, 0) + gained
        p = p._replace(streak=jnp.where(trained, streak, p.streak))
        met = met & (p.streak >= criterion.consecutive)
    ready = trained & met & (p.trials >= p.next_test)
    promoted = ready & (p.level < len(criterion.windows) - 1)
    finished = ready & ~promoted
    fresh, level = promoted[None], p.level
    p = p._replace(
        level=p.level + promoted.astype(jnp.int32),
        outcomes=jnp.where(promoted[None, None], jnp.uint32(0), p.outcomes),
        slot=jnp.where(fresh, 0, p.slot),
        seen=jnp.where(fresh, 0, p.seen),
        hits=jnp.where(fresh, 0, p.hits),
    )
    status = p.status
    if criterion.test_allowed:
        failed, passed, p = _test(criterion, p, tested, correct)
        status = jnp.where(finished, TESTING, status)
        status = jnp.where(failed, TRAINING, status)
        p = p._replace(tests=p.tests + finished.astype(jnp.int32))
        finished = passed
    status = jnp.where(finished, CONVERGED, status)
    if p.passed is not None:
        here = jax.lax.broadcasted_iota(jnp.int32, p.passed.shape, 0) == level[None]
        now = here & (promoted | finished)[None]
        p = p._replace(passed=jnp.where(now, p.trials[None], p.passed))
    exhausted = (status == TRAINING) & (p.trials >= criterion.max_trials)
    return p._replace(status=jnp.where(exhausted, GAVE_UP, status).astype(jnp.int32))


def _record(
    p: Progress, window: chex.Array, trained: chex.Array, correct: chex.Array, condition: chex.Array
) -> Progress:
    """Put one outcome into its condition's window, over the oldest one if the window is full."""
    row = jax.lax.broadcasted_iota(jnp.int32, p.slot.shape, 0)
    here = (row == condition[None]) & trained[None]
    column = jax.lax.broadcasted_iota(jnp.int32, p.outcomes.shape, 1)
    word = here[:, None] & (column == (p.slot // 32)[:, None])
    bit = (p.slot % 32).astype(jnp.uint32)
    old = (jnp.where(word, p.outcomes, 0).sum(1, dtype=jnp.uint32) >> bit) & 1
    cleared = p.outcomes & ~(jnp.uint32(1) << bit)[:, None]
    new = correct.astype(jnp.uint32)[None] << bit
    # A slot still empty holds a 0, so taking the old outcome away is right from the start.
    gained = jnp.where(here, correct.astype(jnp.int32)[None] - old.astype(jnp.int32), 0)
    return p._replace(
        trials=p.trials + trained.astype(jnp.int32),
        outcomes=jnp.where(word, cleared | new[:, None], p.outcomes),
        slot=jnp.where(here, (p.slot + 1) % window[None], p.slot),
        seen=jnp.where(here, jnp.minimum(p.seen + 1, window[None]), p.seen),
        hits=p.hits + gained,
    )


def _test(
    criterion: Criterion, p: Progress, tested: chex.Array, correct: chex.Array
) -> tuple[chex.Array, chex.Array, Progress]:
    """Mark one trial of the frozen test; the first group with too many errors fails it."""
    errors = p.test_errors + (tested & ~correct).astype(jnp.int32)
    allowed = _at_level(criterion.test_allowed, p.test_index // criterion.test_repeats)
    failed = tested & (errors > allowed)
    index = p.test_index + tested.astype(jnp.int32)
    passed = tested & ~failed & (index >= len(criterion.test_allowed) * criterion.test_repeats)
    group_over = tested & (index % criterion.test_repeats == 0)
    over = failed | passed
    later = p.trials + jnp.minimum(criterion.retest_after, LARGEST - p.trials)
    return (
        failed,
        passed,
        p._replace(
            test_index=jnp.where(over, 0, index),
            test_errors=jnp.where(over | group_over, 0, errors),
            next_test=jnp.where(failed, later, p.next_test),
        ),
    )


def _at_level(values: tuple[int, ...], level: chex.Array) -> chex.Array:
    return jnp.asarray(values, jnp.int32)[jnp.minimum(level, len(values) - 1)]
