"""What answers an action with a reward: working-memory tasks, classification, curve tracing."""

from qagrel_jax import checks
from qagrel_jax.tasks import (
    base,
    classification,
    criterion,
    curve_tracing,
    match_to_category,
    match_to_sample,
    probabilistic,
    reversal_bandit,
    saccade,
    symbols,
    twelve_ax,
    twelve_ax_levels,
    vectors,
    vibrotactile,
)
from qagrel_jax.tasks.base import FIXATE, LEFT, RIGHT, Task, TimeStep, TrialState

TASKS: dict[str, Task] = {
    task.TASK.name: task.TASK
    for task in (
        *(saccade, match_to_category, probabilistic, vibrotactile),
        *(twelve_ax, reversal_bandit),
        *(match_to_sample, twelve_ax_levels),
    )
}
"""The working-memory tasks by name: AuGMEnT's four, 12AX, a reversal bandit, and WorkMATe's two."""


def make_task(name: str) -> Task:
    """Look a working-memory task up by name.

    Args:
      name: a key of ``TASKS``.

    Returns:
      The ``Task``.

    Raises:
      ValueError: an unknown name.
      TypeError: no name.

    >>> make_task("saccade").inputs
    4
    """
    checks.option("task", name, TASKS)
    return TASKS[name]


__all__ = [
    "FIXATE",
    "LEFT",
    "RIGHT",
    "TASKS",
    "Task",
    "TimeStep",
    "TrialState",
    "base",
    "classification",
    "criterion",
    "curve_tracing",
    "make_task",
    "match_to_category",
    "match_to_sample",
    "probabilistic",
    "reversal_bandit",
    "saccade",
    "symbols",
    "twelve_ax",
    "twelve_ax_levels",
    "vectors",
    "vibrotactile",
]
