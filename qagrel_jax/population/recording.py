"""Look inside a network trained on a working-memory task: its units through one trial."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from qagrel_jax import checks
from qagrel_jax.population.population import Population, Setup
from qagrel_jax.tasks import base


class Recording(NamedTuple):
    """One trial, step by step."""

    phase: np.ndarray  # int[steps], see ``qagrel_jax.tasks.base``
    clock: np.ndarray  # int[steps], steps already spent in the phase
    observation: np.ndarray  # float[steps, inputs], x
    units: dict[str, np.ndarray]
    # float[steps, units] of each of the rule's ``groups``
    q_values: np.ndarray  # float[steps, actions], q
    action: np.ndarray  # int[steps]; the last one, after the trial's end, means nothing
    reward: np.ndarray  # float[steps], seen together with the observation
    correct: bool  # the trial ended with the correct response

    @property
    def regular(self) -> np.ndarray:
        """float[steps, regular], y^R of AuGMEnT, h of WorkMATe."""
        return self.units["regular"]

    @property
    def memory(self) -> np.ndarray:
        """float[steps, memory], y^M of AuGMEnT, y of RECOLLECT, S of WorkMATe."""
        return self.units["memory"]


def record(setup: Setup, learner: Any, index: int, key: chex.PRNGKey, steps: int = 64) -> Recording:
    """Run trial ``index`` of the task's test with β = ε = 0.

    Args:
      setup: the population's.
      learner: one network, in the rule's state, such as ``packed.network(0).learner``. It starts as
        its rule's ``at_rest`` leaves it. RECOLLECT, which nothing resets, starts with what it
        remembers, be it from the middle of a trial.
      index: which test trial.
      key: for the noise on the stimuli, and ties.
      steps: longest trial to expect.

    Returns:
      The ``Recording`` up to and including the trial's last observation.

    Raises:
      ValueError: the trial did not end within ``steps``; ``steps`` below 1, ``index`` below 0;
        the state of several networks.
      TypeError: one of them is no number, ``setup`` no ``Setup``, ``learner`` a ``Population`` or
        not in the rule's state, ``key`` no random key.
    """
    checks.instance("setup", setup, Setup)
    if isinstance(learner, Population):
        raise TypeError("learner must be one network's state, got a Population: give its .learner")
    checks.instance("learner", learner, setup.rule.state)
    if networks := jnp.shape(learner.q_previous):
        raise ValueError(
            f"learner must be one network's state, got that of {networks[0]}: "
            "packed.network(0).learner is one"
        )
    checks.random_key("key", key)
    checks.whole("index", index, 0)
    checks.whole("steps", steps)
    recorded, correct = _run(setup, learner, jnp.int32(index), key, steps)
    done = np.asarray(recorded["done"])
    if not done.any():
        raise ValueError(f"trial {index} of {setup.task.name} did not end in {steps} steps")
    length = int(done.argmax()) + 1
    del recorded["done"]
    arrays = jax.tree.map(lambda x: np.asarray(x)[:length], recorded)
    # Mapping sorted them.
    arrays["units"] = {name: arrays["units"][name] for name in setup.rule.groups}
    return Recording(**arrays, correct=bool(np.asarray(correct)[length - 1]))


@functools.partial(jax.jit, static_argnames=("setup", "steps"))
def _run(
    setup: Setup, learner: Any, index: chex.Array, key: chex.PRNGKey, steps: int
) -> tuple[dict[str, Any], chex.Array]:
    task = setup.task
    params = dataclasses.replace(setup.params, level=task.levels(setup.params) - 1)
    trial_key, key = jax.random.split(key)
    trial = task.test_trial(task.draw(trial_key, params), index, params)

    def body(carry: tuple, key: chex.PRNGKey) -> tuple:
        learner, state, seen = carry
        act, move = jax.random.split(key)
        seen_now = seen.observation, seen.reward, seen.done
        learner, activity = setup.step(act, setup.config, learner, *seen_now, plastic=False)
        record = {
            "phase": state.phase,
            "clock": state.clock,
            "observation": seen.observation,
            "units": setup.rule.recorded(activity),
            "q_values": activity.q_values,
            "action": activity.action,
            "reward": seen.reward,
            "done": seen.done,
        }
        state, after = task.step(move, state, activity.action, params)
        return (learner, state, base.as_documented(after)), (record, seen.correct)

    keys = jax.random.split(key, steps)
    state, first = task.begin(trial, params)
    begun = setup.rule.at_rest(learner), state, base.as_documented(first)
    return jax.lax.scan(body, begun, keys)[1]
