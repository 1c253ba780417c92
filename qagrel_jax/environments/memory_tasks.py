"""The working-memory tasks of ``qagrel_jax.tasks`` as environments."""

from typing import Any

import chex
import jax.numpy as jnp

from qagrel_jax import checks
from qagrel_jax.environments.environment import Environment
from qagrel_jax.tasks import base
from qagrel_jax.tasks.base import Task, TrialState


def from_task(task: Task, params: Any = None) -> Environment:
    """Make an ``Environment`` of a working-memory task; an episode is a trial.

    A trial that is over is *terminated*. ``population.Packed`` trains many networks on a task much
    faster; this is for learners of your own.

    Args:
      task: from ``make_task``.
      params: of the task; None for its defaults.

    Returns:
      The ``Environment``. It does not reset itself.

    Raises:
      TypeError: an argument of another type.

    >>> import jax
    >>> from qagrel_jax import make_task
    >>> saccade = from_task(make_task("saccade"))
    >>> state, observation = saccade.reset(jax.random.key(0))
    >>> state, observation, reward, *ended = saccade.step(jax.random.key(1), state, 0)
    >>> observation.shape, float(reward), [bool(e) for e in ended]
    ((4,), 0.0, [False, False])
    """
    checks.instance("task", task, Task, "make_task gives one by its name")
    params = task.params() if params is None else params
    checks.instance("params", params, task.params)

    def reset(key: chex.PRNGKey) -> tuple[TrialState, chex.Array]:
        state, timestep = task.reset(key, params)
        return state, base.as_documented(timestep).observation

    def step(key: chex.PRNGKey, state: TrialState, action: chex.Array) -> tuple:
        state, timestep = task.step(key, state, action, params)
        timestep = base.as_documented(timestep)
        never = jnp.zeros_like(timestep.done)
        return state, timestep.observation, timestep.reward, timestep.done, never

    return Environment(task.inputs, task.actions, reset, step)
