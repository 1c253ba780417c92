"""Do the functions of a working-memory task return what a population needs of them?"""

from __future__ import annotations

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp

from qagrel_jax import checks
from qagrel_jax.random_keys import root_key
from qagrel_jax.tasks.base import Task, TimeStep, TrialState, as_documented


def check(task: Task, params: Any) -> None:
    """Check what a task's functions return; nothing is computed.

    Args:
      task: one of one's own, perhaps.
      params: its parameters.

    Raises:
      TypeError: ``begin`` or ``step`` does not return ``(TrialState, TimeStep)``, ``condition`` no
        whole number.
      ValueError: a state that ``step`` gives other shapes or dtypes, an observation that is not
        [inputs], a reward, end or condition that is not one value, a trial of the frozen test of
        other shapes or dtypes than the others.

    >>> import qagrel_jax as qj
    >>> task = qj.make_task("saccade")
    >>> check(task._replace(condition=lambda trial: 0.0), task.params())
    Traceback (most recent call last):
    TypeError: task.condition must return one whole number, got float32[]
    """
    params = dataclasses.replace(params, level=jnp.int32(0))
    number, key = jax.ShapeDtypeStruct((), jnp.int32), root_key(0)
    noise = jax.eval_shape(lambda: task.draw(key, params))
    trial = jax.eval_shape(lambda noise: task.build(noise, params), noise)
    condition = jax.eval_shape(task.condition, trial)
    if not checks.is_one(condition, jnp.integer):
        raise TypeError(
            f"task.condition must return one whole number, got {checks.shapes(condition)}"
        )
    state = _checked("begin", jax.eval_shape(lambda t: task.begin(t, params), trial), task.inputs)
    after = _checked(
        "step",
        jax.eval_shape(lambda s, action: task.step(key, s, action, params), state, number),
        task.inputs,
    )
    _alike("task.step", "the state of task.begin", after, state)
    if task.criterion.test_allowed:
        test = jax.eval_shape(lambda n, index: task.test_trial(n, index, params), noise, number)
        _alike("task.test_trial", "the trial of task.build", test, trial)


TRIALS = 256
"""Drawn at each shaping level to look at their conditions."""


def check_conditions(task: Task, params: Any) -> None:
    """Check that the trials of some draws count for conditions that the criterion has.

    Others would fill no window, and no network would ever converge.

    Args:
      task: one that ``check`` has passed.
      params: its parameters.

    Raises:
      ValueError: a condition's number that the criterion has not.
    """

    def one(key: chex.PRNGKey, level: chex.Array) -> chex.Array:
        at_level = dataclasses.replace(params, level=level)
        return task.condition(task.build(task.draw(key, params), at_level))

    keys = jax.random.split(root_key(0), TRIALS)
    levels = jnp.arange(task.levels(params), dtype=jnp.int32)
    found = jax.jit(jax.vmap(jax.vmap(one, (0, None)), (None, 0)))(keys, levels)
    low, high = int(found.min()), int(found.max())
    if low < 0 or high >= task.criterion.conditions:
        raise ValueError(
            f"task.condition must return numbers from 0 to {task.criterion.conditions - 1}, one "
            f"for each of criterion.conditions, got {low if low < 0 else high}"
        )


def _checked(function: str, moment: Any, inputs: int) -> TrialState:
    """Return the state of what ``begin`` or ``step`` returned."""
    pair = isinstance(moment, tuple) and len(moment) == 2
    if not (pair and isinstance(moment[0], TrialState) and isinstance(moment[1], TimeStep)):
        kinds = ", ".join(type(part).__name__ for part in moment) if pair else type(moment).__name__
        raise TypeError(f"task.{function} must return (TrialState, TimeStep), got {kinds}")
    seen = jax.eval_shape(as_documented, moment[1])
    for name, shape in (("observation", [inputs]), ("reward", []), ("done", []), ("correct", [])):
        found = list(getattr(seen, name).shape)
        if found != shape:
            raise ValueError(f"task.{function} must return {name} {shape}, got {found}")
    return moment[0]


def _alike(function: str, other: str, found: Any, wanted: Any) -> None:
    told, expected = (checks.shapes(tree).replace("'", "") for tree in (found, wanted))
    if told != expected:
        raise ValueError(f"{function} must return what is like {other}, {expected}, got {told}")
