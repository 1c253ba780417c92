"""What answers an action with a reward: working-memory tasks, one a file, and classification."""

from qagrel_jax import checks
from qagrel_jax.tasks import (
    classification,
    criterion,
    match_to_category,
    probabilistic,
    saccade,
    vectors,
    vibrotactile,
)
from qagrel_jax.tasks.base import FIXATE, LEFT, RIGHT, Task, TimeStep, TrialState

TASKS: dict[str, Task] = {
    task.TASK.name: task.TASK for task in (saccade, match_to_category, probabilistic, vibrotactile)
}
"""The working-memory tasks of AuGMEnT (Rombouts, Bohté & Roelfsema 2015), by name."""


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
    "classification",
    "criterion",
    "make_task",
    "match_to_category",
    "probabilistic",
    "saccade",
    "vectors",
    "vibrotactile",
]
