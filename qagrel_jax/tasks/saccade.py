"""Saccade / antisaccade: look at a remembered cue, or away from it, as the fixation mark said.

Inputs ``[pro mark, anti mark, cue left, cue right]``. The mark's identity gives the rule and stays
on until GO; the cue is on for ``cue_steps`` and must be remembered through ``delay_steps`` with the
mark alone. GO is the mark's disappearance. Four trial types, equally likely: rule × side.

With ``curriculum`` the delay grows from one shaping level to the next: it starts at a fifth of
``delay_steps``, rounded up, and doubles until it is ``delay_steps``. ``RECOLLECT`` holds the
parameters and ``recollect_criterion`` the criterion that RECOLLECT was tested with: no step between
the last observation of a trial and the next trial's mark, and more than 85 % correct over the last
100 trials of each type.

Reference:
  Rombouts, Bohte & Roelfsema (2015), PLoS Comput Biol 11(3): e1004060; after Gottlieb & Goldberg
  (1999). Curriculum and second criterion: van den Berg, Roelfsema & Bohte (2024), PLoS ONE 19(12):
  e0316453.
"""

import dataclasses
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from qagrel_jax import checks, settings
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
      curriculum: let the delay grow to ``delay_steps``, see ``delays``.
      level: shaping level, from 0, the shortest delay; only a curriculum has more than one.

    Raises:
      ValueError: a value out of range.
      TypeError: a value of another type.
    """

    cue_steps: int = settings.static(1)
    delay_steps: int = settings.static(2)
    curriculum: bool = settings.static(False)

    def __post_init__(self) -> None:
        super().__post_init__()
        settings.at_least(self, 1, "cue_steps")
        settings.at_least(self, 0, "delay_steps")
        checks.flag("curriculum", self.curriculum)
        settings.whole_leaf(self, 0, "level", high=len(delays(self)) - 1)


def delays(params: Params) -> tuple[int, ...]:
    """Return the delay of each shaping level, in steps.

    >>> delays(Params(delay_steps=16, curriculum=True))
    (4, 8, 16)
    """
    if not params.curriculum:
        return (params.delay_steps,)
    steps = [-(-params.delay_steps // 5)]
    while steps[-1] < params.delay_steps:
        steps.append(min(2 * steps[-1], params.delay_steps))
    return tuple(steps)


class Trial(NamedTuple):
    """One of the four trial types."""

    kind: chex.Array  # int32[], an index into CONDITIONS
    delay: chex.Array  # int32[], steps between cue and GO


def draw(key: chex.PRNGKey, params: Params) -> chex.Array:
    """Draw a trial type, all four equally likely: int32[]."""
    del params
    return jnp.floor(jax.random.uniform(key) * len(CONDITIONS)).astype(jnp.int32)


def build(noise: chex.Array, params: Params) -> Trial:
    """Make the trial that ``draw`` drew, at shaping level ``params.level``."""
    return Trial(noise, jnp.asarray(delays(params), jnp.int32)[params.level])


def test_trial(noise: chex.Array, index: chex.Array, params: Params) -> Trial:
    """Trial ``index`` of the frozen test: each type once."""
    del noise
    return build(jnp.asarray(index, jnp.int32) % len(CONDITIONS), params)


def condition(trial: Trial) -> chex.Array:
    """Accuracy is counted per trial type: int32[]."""
    return trial.kind


def begin(trial: Trial, params: Params) -> tuple[base.TrialState, base.TimeStep]:
    """Start a given trial."""
    return base.begin(trial, _observe, params)


def step(
    key: chex.PRNGKey, state: base.TrialState, action: chex.Array, params: Params
) -> tuple[base.TrialState, base.TimeStep]:
    """Answer one action; see ``qagrel_jax.tasks.base``. Nothing here is random."""
    del key
    hold_steps = params.cue_steps + state.trial.delay
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


RECOLLECT = Params(blank_steps=0)
"""RECOLLECT's task at a delay of two steps: the mark follows the last trial's end at once."""


def recollect_criterion(params: Params) -> Criterion:
    """Return RECOLLECT's criterion, at each level of the curriculum if ``params`` has one."""
    return Criterion(
        conditions=len(CONDITIONS),
        windows=(100,) * len(delays(params)),
        accuracy=0.86,  # more than 85 of 100
        max_trials=500_000,
        test_allowed=(0, 0, 0, 0),
    )


TASK = base.Task(
    name="saccade",
    params=Params,
    inputs=INPUTS,
    input_groups={"pro mark": 1, "anti mark": 1, "cue left": 1, "cue right": 1},
    go_signal="mark off",
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
    levels=lambda params: len(delays(params)),
)

reset = TASK.reset
"""Start a random trial: ``(key, params) -> (state, timestep)``."""
