"""Timing several ways of doing one thing against each other on a machine that drifts.

Each round times every subject once, in an order that rotates from round to round, so that whatever
the machine does meanwhile (clock, neighbors) meets all of them alike; ratios are taken within a
round, then their median over rounds.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

SETTLE_SECONDS = 0.05
"""Between subjects: a library's threads spin on for some milliseconds after their work."""


class Subject(NamedTuple):
    """Something to be timed."""

    name: str
    steps: int  # done by one call
    call: Callable[[], None]  # returns when the work is done
    images_per_step: int
    compile_seconds: float | None = None  # before the first call
    program_bytes: int | None = None  # memory the compiled program needs
    text: Callable[[], str] | None = None  # of the compiled program, as XLA writes it


class Spread(NamedTuple):
    """Median and quartiles over rounds."""

    median: float
    low: float
    high: float


def warm_up(subject: Subject, seconds: float) -> int:
    """Call ``subject`` until it is warm; return how many calls make a round of ``seconds``."""
    subject.call()
    began = time.perf_counter()
    subject.call()
    return max(1, round(seconds / (time.perf_counter() - began)))


def interleave(
    subjects: Sequence[Subject],
    calls: Sequence[int],
    repeats: int,
    on_round: Callable[[int], None] = lambda done: None,
) -> dict[str, list[float]]:
    """Time all subjects, round by round.

    Args:
      subjects: warm ones.
      calls: of each in a round.
      repeats: rounds.
      on_round: called with the number of rounds done.

    Returns:
      Seconds per step of each subject, one value a round, in the order of the rounds.
    """
    seconds: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    for done in range(repeats):
        for offset in range(len(subjects)):
            index = (offset + done) % len(subjects)
            subject, count = subjects[index], calls[index]
            time.sleep(SETTLE_SECONDS)
            began = time.perf_counter()
            for _ in range(count):
                subject.call()
            elapsed = time.perf_counter() - began
            seconds[subject.name].append(elapsed / (count * subject.steps))
        on_round(done + 1)
    return seconds


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Spread:
    """Spread of the ratios within rounds.

    >>> ratio([2.0, 6.0, 4.0], [1.0, 2.0, 4.0]).median
    2.0
    """
    return spread([a / b for a, b in zip(numerator, denominator, strict=True)])


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles of ``values``.

    >>> spread([5.0, 1.0, 2.0, 3.0, 4.0])
    Spread(median=3.0, low=2.0, high=4.0)
    """
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)
