"""Look inside a trained AuGMEnT network: the activity of its units through one trial, frozen."""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from qagrel_jax.policies import max_boltzmann
from qagrel_jax.population.population import Setup
from qagrel_jax.rules import augment, augment_continuous


class Recording(NamedTuple):
    """One trial, step by step."""

    phase: np.ndarray  # int[steps], see ``qagrel_jax.tasks.base``
    clock: np.ndarray  # int[steps], steps already spent in the phase
    observation: np.ndarray  # float[steps, inputs], x
    regular: np.ndarray  # float[steps, regular], y^R
    memory: np.ndarray  # float[steps, memory], y^M
    q_values: np.ndarray  # float[steps, actions], q
    action: np.ndarray  # int[steps]; the last one, after the trial's end, means nothing
    reward: np.ndarray  # float[steps], seen together with the observation
    correct: bool  # the trial ended with the correct response


def record(
    setup: Setup, learner: augment.AugmentState, index: int, key: chex.PRNGKey, steps: int = 64
) -> Recording:
    """Run trial ``index`` of the task's test with β = ε = 0.

    Args:
      setup: the population's.
      learner: one network, between trials or not: it starts afresh, its weights as they are.
      index: which test trial.
      key: for the noise on the stimuli, and ties.
      steps: longest trial to expect.

    Returns:
      The ``Recording`` up to and including the trial's last observation.

    Raises:
      ValueError: the trial did not end within ``steps``.
    """
    recorded, correct = _run(setup, learner, jnp.int32(index), key, steps)
    done = np.asarray(recorded["done"])
    if not done.any():
        raise ValueError(f"trial {index} of {setup.task.name} did not end in {steps} steps")
    length = int(done.argmax()) + 1
    arrays = {k: np.asarray(v)[:length] for k, v in recorded.items() if k != "done"}
    return Recording(**arrays, correct=bool(np.asarray(correct)[length - 1]))


@functools.partial(jax.jit, static_argnames=("setup", "steps"))
def _run(
    setup: Setup, learner: augment.AugmentState, index: chex.Array, key: chex.PRNGKey, steps: int
) -> tuple[dict[str, chex.Array], chex.Array]:
    task, params = setup.task, setup.params
    trial_key, key = jax.random.split(key)
    trial = task.test_trial(task.draw(trial_key, params), index, params)
    rest = learner._replace(
        tags=jax.tree.map(jnp.zeros_like, learner.tags),
        trace=jnp.zeros_like(learner.trace),
        memory=jnp.zeros_like(learner.memory),
        observation=jnp.zeros_like(learner.observation),
        q_previous=jnp.zeros_like(learner.q_previous),
    )

    def body(carry: tuple, key: chex.PRNGKey) -> tuple:
        learner, world, seen = carry
        act, move = jax.random.split(key)
        learner, activity = augment_continuous.step(
            act, setup.config, learner, seen.observation, seen.reward, seen.done, False,
            max_boltzmann, substeps=setup.substeps,
        )  # fmt: skip
        record = {
            "phase": world.phase,
            "clock": world.clock,
            "observation": seen.observation,
            "regular": activity.regular,
            "memory": activity.memory,
            "q_values": activity.q_values,
            "action": activity.action,
            "reward": seen.reward,
            "done": seen.done,
        }
        world, after = task.step(move, world, activity.action, params)
        return (learner, world, after), (record, seen.correct)

    keys = jax.random.split(key, steps)
    return jax.lax.scan(body, (rest, *task.begin(trial, params)), keys)[1]
