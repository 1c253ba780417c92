"""Saccade / antisaccade: look at a remembered cue, or away from it, as the fixation mark said.

Inputs ``[pro mark, anti mark, cue left, cue right]``. The mark's identity gives the rule and stays
on until GO; the cue is on for ``cue_steps`` and must be remembered through ``delay_steps`` with the
mark alone. GO is the mark's disappearance. Four trial types, equally likely: rule × side.

Reference:
  Rombouts, Bohté & Roelfsema (2015), PLoS Comput Biol 11(3): e1004060; after Gottlieb & Goldberg
  (1999).
"""

import dataclasses
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from qagrel_jax.tasks import base
from qagrel_jax.tasks.criterion import Criterion

INPUTS = 4
CONDITIONS = ("pro left", "pro right", "anti left", "anti right")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Params(base.TrialParams):
    """``base.TrialParams`` and the two durations of HOLD.

    Attributes:
      cue_steps: steps the cue is on.
      delay_steps: steps between cue and GO.

    Raises:
      ValueError: a value out of range.
    """

    cue_steps: int = base.static(1)
    delay_steps: int = base.static(2)

    def __post_init__(self) -> None:
        super().__post_init__()
        base.at_least(self, 1, "cue_steps")
        base.at_least(self, 0, "delay_steps")


class Trial(NamedTuple):
    """One of the four trial types."""

    kind: chex.Array  # int32[], an index into CONDITIONS


def draw(key: chex.PRNGKey, params: Params) -> chex.Array:
    """Draw a trial type, all four equally likely: int32[]."""
    del params
    return jnp.floor(jax.random.uniform(key) * len(CONDITIONS)).astype(jnp.int32)


def build(noise: chex.Array, params: Params) -> Trial:
    """Make the trial that ``draw`` drew."""
    del params
    return Trial(noise)


def test_trial(noise: chex.Array, index: chex.Array, params: Params) -> Trial:
    """Trial ``index`` of the frozen test: each type once."""
    del noise, params
    return Trial(jnp.asarray(index, jnp.int32) % len(CONDITIONS))


def condition(trial: Trial) -> chex.Array:
    """Accuracy is counted per trial type: int32[]."""
    return trial.kind


def reset(key: chex.PRNGKey, params: Params) -> tuple[base.TrialState, base.TimeStep]:
    """Start a random trial; see ``qagrel_jax.tasks.base``."""
    return begin(build(draw(key, params), params), params)


def begin(trial: Trial, params: Params) -> tuple[base.TrialState, base.TimeStep]:
    """Start a given trial."""
    return base.begin(trial, _observe, params)


def step(
    key: chex.PRNGKey, state: base.TrialState, action: chex.Array, params: Params
) -> tuple[base.TrialState, base.TimeStep]:
    """Answer one action; see ``qagrel_jax.tasks.base``. Nothing here is random."""
    del key
    hold_steps = params.cue_steps + params.delay_steps
    return base.advance(state, action, hold_steps, _observe, _judge, params)


def _observe(phase: chex.Array, clock: chex.Array, trial: Trial, params: Params) -> chex.Array:
    anti, right = trial.kind // 2, trial.kind % 2
    mark = phase != base.GO
    cue = (phase == base.HOLD) & (clock < params.cue_steps)
    seen = [mark & (anti == 0), mark & (anti == 1), cue & (right == 0), cue & (right == 1)]
    return jnp.stack(seen).astype(jnp.float32)


def _judge(trial: Trial, action: chex.Array, params: Params) -> base.Verdict:
    del params
    anti, right = trial.kind // 2, trial.kind % 2
    correct = action == jnp.where(anti == right, base.LEFT, base.RIGHT)
    return base.Verdict(correct, correct)


TASK = base.Task(
    name="saccade",
    params=Params,
    inputs=INPUTS,
    input_groups={"pro mark": 1, "anti mark": 1, "cue left": 1, "cue right": 1},
    go_signal="mark off",
    reset=reset,
    step=step,
    draw=draw,
    build=build,
    test_trial=test_trial,
    condition=condition,
    begin=begin,
    criterion=Criterion(
        conditions=4, windows=(50,), accuracy=0.9, max_trials=25_000, test_allowed=(0, 0, 0, 0)
    ),
    examples={name: index for index, name in enumerate(CONDITIONS)},
)
