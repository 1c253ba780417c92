"""Vibrotactile discrimination: was the second vibration slower or faster than the first?

Inputs: skin contact, then 10 units whose rate rises with frequency x and 10 whose rate falls,
1/(1 + e^{w(θ_c − x)}), w = ±``slope``, centers θ_c evenly from 5.5 to 49.5 Hz. F1 ~ U[5, 50] Hz is
on for ``stimulus_steps`` and gone during ``delay_steps``; F2 ~ U[5, 50] Hz, at least
``least_difference`` away, is GO and stays on until the response: left if F2 < F1, right if F2 > F1.

What the paper leaves open, with the default first: ``slope`` is per Hz; ``noise`` on the rates is
"proportional" (sd a fraction of the rate) or "additive" (the same fraction of the highest rate);
it is drawn once for each stimulus, or anew every step with ``noise_each_step``. After a failed
frozen test ten trials pass before the next, and a network gives up after 100,000 (``TASK``).

Reference:
  Rombouts, Bohte & Roelfsema (2015), PLoS Comput Biol 11(3): e1004060; after Hernández et al.
  (1997).
"""

import dataclasses
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from qagrel_jax import checks, settings
from qagrel_jax.tasks import base
from qagrel_jax.tasks.criterion import Criterion

CENTERS = 10
INPUTS = 1 + 2 * CENTERS
LOWEST, HIGHEST = 5.0, 50.0
BINS = 9
TEST_F1 = (20.0, 30.0, 40.0)
TEST_OFFSETS = (-10.0, -8.0, -6.0, -4.0, -2.0, 2.0, 4.0, 6.0, 8.0, 10.0)
TEST_REPEATS = 20


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Params(base.TrialParams):
    """``base.TrialParams``, the durations of HOLD, and the stimuli.

    Attributes:
      stimulus_steps: steps the first vibration is on.
      delay_steps: steps between the vibrations.
      slope: w of the sigmoids, per Hz.
      noise_sd: sd of the noise on the rates, a fraction.
      noise: "proportional" to the rate, or "additive".
      noise_each_step: draw the noise anew every step.
      least_difference: smallest |F2 − F1|, Hz.

    Raises:
      ValueError: a value out of range.
      TypeError: a value of another type.
    """

    stimulus_steps: int = settings.static(1)
    delay_steps: int = settings.static(2)
    slope: float = settings.static(5.0)
    noise_sd: float = settings.static(0.075)
    noise: str = settings.static("proportional")
    noise_each_step: bool = settings.static(False)
    least_difference: float = settings.static(2.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        settings.at_least(self, 1, "stimulus_steps")
        settings.at_least(self, 0, "delay_steps", "noise_sd", "slope", "least_difference")
        checks.flag("noise_each_step", self.noise_each_step)
        settings.one_of(self, "noise", ("proportional", "additive"))
        if self.least_difference > (HIGHEST - LOWEST) / 2:
            raise ValueError(f"least_difference must be at most 22.5, got {self.least_difference}")


class Trial(NamedTuple):
    """Two vibrations and the noise on the units' rates."""

    frequencies: chex.Array  # float[2], Hz
    jitter: chex.Array  # float[2, 20], standard normal, for either stimulus


class Noise(NamedTuple):
    """A trial's raw randomness."""

    uniform: chex.Array  # float[2], picks the two frequencies
    jitter: chex.Array  # float[2, 20], standard normal


def draw(key: chex.PRNGKey, params: Params) -> Noise:
    """Draw what decides the frequencies, and the noise on the rates."""
    del params
    uniform, jitter = jax.random.split(key)
    return Noise(jax.random.uniform(uniform, (2,)), jax.random.normal(jitter, (2, 2 * CENTERS)))


def build(noise: Noise, params: Params) -> Trial:
    """Make the trial that ``draw`` drew: F2 is uniform over what is left of [5, 50] Hz."""
    first = LOWEST + (HIGHEST - LOWEST) * noise.uniform[0]
    below = jnp.maximum(first - params.least_difference - LOWEST, 0)
    above = jnp.maximum(HIGHEST - params.least_difference - first, 0)
    length = noise.uniform[1] * (below + above)
    second = jnp.where(
        length < below, LOWEST + length, first + params.least_difference + length - below
    )
    return Trial(jnp.stack([first, second]), noise.jitter)


def test_trial(noise: Noise, index: chex.Array, params: Params) -> Trial:
    """Trial ``index`` of the frozen test: F1 of 20, 30, 40 Hz, F2 ±2 … ±10 Hz off, 20 times."""
    del params
    group = jnp.asarray(index) // TEST_REPEATS % (len(TEST_F1) * len(TEST_OFFSETS))
    first = jnp.asarray(TEST_F1)[group // len(TEST_OFFSETS)]
    offset = jnp.asarray(TEST_OFFSETS)[group % len(TEST_OFFSETS)]
    return Trial(jnp.stack([first, first + offset]), noise.jitter)


def condition(trial: Trial) -> chex.Array:
    """Accuracy is counted per 5-Hz bin of F1: int32[], 0 … 8."""
    width = (HIGHEST - LOWEST) / BINS
    index = jnp.floor((trial.frequencies[0] - LOWEST) / width)
    return jnp.clip(index, 0, BINS - 1).astype(jnp.int32)


def begin(trial: Trial, params: Params) -> tuple[base.TrialState, base.TimeStep]:
    """Start a given trial."""
    return base.begin(trial, _observe, params)


def step(
    key: chex.PRNGKey, state: base.TrialState, action: chex.Array, params: Params
) -> tuple[base.TrialState, base.TimeStep]:
    """Answer one action; see ``qagrel_jax.tasks.base``."""
    if params.noise_each_step:
        jitter = jax.random.normal(key, (2, 2 * CENTERS))
        state = state._replace(trial=state.trial._replace(jitter=jitter))
    hold_steps = params.stimulus_steps + params.delay_steps
    return base.advance(state, action, hold_steps, _observe, _judge, params)


def _observe(phase: chex.Array, clock: chex.Array, trial: Trial, params: Params) -> chex.Array:
    first = (phase == base.HOLD) & (clock < params.stimulus_steps)
    second = phase == base.GO
    frequency = jnp.where(second, trial.frequencies[1], trial.frequencies[0])
    jitter = jnp.where(second, trial.jitter[1], trial.jitter[0])
    rising = jax.nn.sigmoid(params.slope * (frequency - jnp.linspace(5.5, 49.5, CENTERS)))
    rates = jnp.concatenate([rising, 1 - rising])
    scale = rates if params.noise == "proportional" else 1.0
    rates = rates + params.noise_sd * jitter * scale
    return jnp.concatenate([jnp.ones(1), jnp.where(first | second, rates, 0.0)])


def _judge(trial: Trial, action: chex.Array, params: Params) -> base.Verdict:
    del params
    slower = trial.frequencies[1] < trial.frequencies[0]
    correct = action == jnp.where(slower, base.LEFT, base.RIGHT)
    return base.Verdict(correct, correct)


def _test_allowed() -> tuple[int, ...]:
    """At least 50 % correct at ±2 Hz, more than 75 % elsewhere, for each F1 and each offset."""
    per_offset = [10 if abs(offset) == 2 else 4 for offset in TEST_OFFSETS]
    return tuple(per_offset * len(TEST_F1))


TASK = base.Task(
    name="vibrotactile",
    params=Params,
    inputs=INPUTS,
    input_groups={"contact": 1, "rising": INPUTS // 2, "falling": INPUTS // 2},
    go_signal="second vibration",
    step=step,
    draw=draw,
    build=build,
    test_trial=test_trial,
    condition=condition,
    begin=begin,
    criterion=Criterion(
        conditions=BINS,
        windows=(50,),
        accuracy=0.8,
        max_trials=100_000,
        test_allowed=_test_allowed(),
        test_repeats=TEST_REPEATS,
        # Testing after every trial lets networks pass by luck, and costs more than training.
        retest_after=10,
    ),
    examples={
        "20 then 14 Hz": (0 * 10 + 2) * TEST_REPEATS,
        "20 then 26 Hz": (0 * 10 + 7) * TEST_REPEATS,
        "40 then 34 Hz": (2 * 10 + 2) * TEST_REPEATS,
        "40 then 46 Hz": (2 * 10 + 7) * TEST_REPEATS,
    },
)

reset = TASK.reset
"""Start a random trial: ``(key, params) -> (state, timestep)``."""
