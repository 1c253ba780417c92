"""Delayed match-to-category: do two motion directions fall on the same side of a learned boundary?

Inputs: fixation mark, then 20 direction units with circular Gaussian tuning (sd 12°), one every
18°. Twelve directions 30° apart; the boundary is the diameter through 0° and 180°, so six fall on
either side. Each presentation shows its direction with Gaussian noise (sd 5°). The second cue is
GO: it stays on, with the mark, until the response. Left if both categories are the same, right if
not. The two directions are drawn independently, all twelve equally likely. When a network gives up
is our choice: after 100,000 trials (``TASK``).

Reference:
  Rombouts, Bohte & Roelfsema (2015), PLoS Comput Biol 11(3): e1004060; after Freedman & Assad
  (2006).
"""

import dataclasses
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from qagrel_jax import settings
from qagrel_jax.tasks import base
from qagrel_jax.tasks.criterion import Criterion

UNITS = 20
INPUTS = 1 + UNITS
DIRECTIONS = 12


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Params(base.TrialParams):
    """``base.TrialParams``, the durations of HOLD, and the tuning.

    Attributes:
      cue_steps: steps the first cue is on.
      delay_steps: steps between the cues.
      direction_noise: sd of the direction shown, degrees.
      tuning_width: sd of the direction units' tuning, degrees.

    Raises:
      ValueError: a value out of range.
      TypeError: a value of another type.
    """

    cue_steps: int = settings.static(1)
    delay_steps: int = settings.static(2)
    direction_noise: float = settings.static(5.0)
    tuning_width: float = settings.static(12.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        settings.at_least(self, 1, "cue_steps")
        settings.at_least(self, 0, "delay_steps", "direction_noise")
        settings.at_least(self, 1e-3, "tuning_width")


class Trial(NamedTuple):
    """Two cues and what they look like this time."""

    first: chex.Array  # int32[], 0 … 11
    second: chex.Array  # int32[], 0 … 11
    shown: chex.Array  # float[2], directions with noise, degrees


class Noise(NamedTuple):
    """A trial's raw randomness."""

    cues: chex.Array  # int32[2], ``first`` and ``second`` of the trial
    jitter: chex.Array  # float[2], standard normal


def draw(key: chex.PRNGKey, params: Params) -> Noise:
    """Draw both cues and the noise on them."""
    del params
    cues, jitter = jax.random.split(key)
    return Noise(
        jax.random.randint(cues, (2,), 0, DIRECTIONS, jnp.int32), jax.random.normal(jitter, (2,))
    )


def build(noise: Noise, params: Params) -> Trial:
    """Make the trial that ``draw`` drew."""
    center = 15.0 + 30.0 * noise.cues.astype(float)
    return Trial(noise.cues[0], noise.cues[1], center + params.direction_noise * noise.jitter)


def test_trial(noise: Noise, index: chex.Array, params: Params) -> Trial:
    """Trial ``index`` of all 144 pairs: first cue = index // 12, second = index % 12."""
    cues = jnp.stack([jnp.asarray(index) // DIRECTIONS % DIRECTIONS, index % DIRECTIONS])
    return build(noise._replace(cues=cues.astype(jnp.int32)), params)


def condition(trial: Trial) -> chex.Array:
    """Accuracy is counted per first cue: int32[]."""
    return trial.first


def begin(trial: Trial, params: Params) -> tuple[base.TrialState, base.TimeStep]:
    """Start a given trial."""
    return base.begin(trial, _observe, params)


def step(
    key: chex.PRNGKey, state: base.TrialState, action: chex.Array, params: Params
) -> tuple[base.TrialState, base.TimeStep]:
    """Answer one action; see ``qagrel_jax.tasks.base``. All noise was drawn at the start."""
    del key
    hold_steps = params.cue_steps + params.delay_steps
    return base.advance(state, action, hold_steps, _observe, _judge, params)


def _observe(phase: chex.Array, clock: chex.Array, trial: Trial, params: Params) -> chex.Array:
    first = (phase == base.HOLD) & (clock < params.cue_steps)
    second = phase == base.GO
    direction = jnp.where(second, trial.shown[1], trial.shown[0])
    centers = jnp.arange(UNITS, dtype=float) * (360.0 / UNITS)
    distance = jnp.abs((centers - direction + 180.0) % 360.0 - 180.0)
    rates = jnp.exp(-0.5 * (distance / params.tuning_width) ** 2)
    return jnp.concatenate([jnp.ones(1), jnp.where(first | second, rates, 0.0)])


def _judge(trial: Trial, action: chex.Array, params: Params) -> base.Verdict:
    del params
    half = DIRECTIONS // 2
    same = (trial.first < half) == (trial.second < half)
    correct = action == jnp.where(same, base.LEFT, base.RIGHT)
    return base.Verdict(correct, correct)


TASK = base.Task(
    name="match_to_category",
    params=Params,
    inputs=INPUTS,
    input_groups={"mark": 1, "direction": INPUTS - 1},
    go_signal="second cue",
    step=step,
    draw=draw,
    build=build,
    test_trial=test_trial,
    condition=condition,
    begin=begin,
    criterion=Criterion(conditions=12, windows=(50,), accuracy=0.8, max_trials=100_000),
    examples={
        "75° then 105° (same)": 2 * 12 + 3,
        "75° then 285° (different)": 2 * 12 + 9,
        "255° then 105° (different)": 8 * 12 + 3,
        "255° then 285° (same)": 8 * 12 + 9,
    },
)

reset = TASK.reset
"""Start a random trial: ``(key, params) -> (state, timestep)``."""
