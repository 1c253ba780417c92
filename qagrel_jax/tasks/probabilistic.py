"""Probabilistic classification: add up the evidence of up to four symbols, then choose a color.

Inputs: fixation mark; four target units, color × side (red left, red right, green left, green
right); 10 symbols × 4 positions. Symbols have weights +∞ .9 .7 .5 .3 −.3 −.5 −.7 −.9 −∞. With W the
sum of those shown, opposite infinities canceling, the reward is baited at the red target with

    P(red) = 10^W / (1 + 10^W),

otherwise at the green one. After fixation the targets come with the first symbol and one more
symbol follows every ``symbol_steps``, at random free positions, drawn with replacement; then a
delay, then the mark goes off: GO. The correct response is the target with the higher P; the reward
comes only if the chosen target is the baited one.

Shaping levels (``params.level``, 0 to 7; the paper counts from 1) set how many symbols there are,
2 4 6 8 10 10 10 10 (the extreme ones first), and how many are shown, 1 1 1 1 1 2 3 4.

What the paper leaves open, with the default first: ``symbols_stay`` on until the end of the
"delay", of the "sequence", or each for its own "step"; ``targets_stay`` on until the end of the
"delay" or to the "response"; at P = ½ (``ties``) "either" response is right, or the "baited" one.

Reference:
  Rombouts, Bohte & Roelfsema (2015), PLoS Comput Biol 11(3): e1004060; after Yang & Shadlen (2007).
"""

import dataclasses
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from qagrel_jax import settings
from qagrel_jax.tasks import base
from qagrel_jax.tasks.criterion import Criterion

SYMBOLS, POSITIONS = 10, 4
INPUTS = 1 + 4 + SYMBOLS * POSITIONS
# In the order in which shaping brings them in; the infinite ones are counted apart.
WEIGHTS = (0.0, 0.0, 0.9, -0.9, 0.7, -0.7, 0.5, -0.5, 0.3, -0.3)
INFINITE = (1, -1, 0, 0, 0, 0, 0, 0, 0, 0)
LEVEL_SYMBOLS = (2, 4, 6, 8, 10, 10, 10, 10)
LEVEL_LENGTH = (1, 1, 1, 1, 1, 2, 3, 4)
LEVEL_WINDOWS = (1000, 1500, 2000, 2500, 3000, 10000, 10000, 20000)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Params(base.TrialParams):
    """``base.TrialParams``, durations of HOLD, and what the paper leaves open.

    Attributes:
      symbol_steps: steps from one symbol to the next.
      delay_steps: steps between the last symbol's and GO.
      symbols_stay: "delay", "sequence" or "step".
      targets_stay: "delay" or "response".
      ties: "either" or "baited".
      level: shaping level, 0 to 7.

    Raises:
      ValueError: a value out of range.
      TypeError: a value of another type.
    """

    symbol_steps: int = settings.static(1)
    delay_steps: int = settings.static(2)
    symbols_stay: str = settings.static("delay")
    targets_stay: str = settings.static("delay")
    ties: str = settings.static("either")
    level: chex.Numeric = 7

    def __post_init__(self) -> None:
        super().__post_init__()
        settings.at_least(self, 1, "symbol_steps")
        settings.at_least(self, 0, "delay_steps")
        settings.one_of(self, "symbols_stay", ("delay", "sequence", "step"))
        settings.one_of(self, "targets_stay", ("delay", "response"))
        settings.one_of(self, "ties", ("either", "baited"))
        settings.whole_leaf(self, 0, "level", high=len(LEVEL_SYMBOLS) - 1)


class Trial(NamedTuple):
    """A sequence of symbols and what it says."""

    symbols: chex.Array  # int32[4], indices into WEIGHTS
    positions: chex.Array  # int32[4], all different
    length: chex.Array  # int32[], how many of them are shown
    red_right: chex.Array  # bool[], the red target's side
    probability: chex.Array  # float[], P(red)
    red_baited: chex.Array  # bool[], choosing the red target is rewarded


class Noise(NamedTuple):
    """A trial's raw randomness, the same at every shaping level."""

    symbols: chex.Array  # float[4], uniform
    positions: chex.Array  # int32[4], a permutation
    red_right: chex.Array  # bool[], the red target's side
    bait: chex.Array  # float[], uniform


def draw(key: chex.PRNGKey, params: Params) -> Noise:
    """Draw a trial's raw randomness."""
    del params
    symbols, positions, side, bait = jax.random.split(key, 4)
    return Noise(
        jax.random.uniform(symbols, (POSITIONS,)),
        jnp.argsort(jax.random.uniform(positions, (POSITIONS,))).astype(jnp.int32),
        jax.random.bernoulli(side),
        jax.random.uniform(bait),
    )


def build(noise: Noise, params: Params) -> Trial:
    """Make the trial that ``draw`` drew, at shaping level ``params.level``."""
    available = jnp.asarray(LEVEL_SYMBOLS)[params.level]
    symbols = jnp.floor(noise.symbols * available.astype(float)).astype(jnp.int32)
    return _trial(noise, symbols, jnp.asarray(LEVEL_LENGTH, jnp.int32)[params.level])


def test_trial(noise: Noise, index: chex.Array, params: Params) -> Trial:
    """Four symbols for red (index 0, 1) or for green (2, 3); red is left at 0, 2, right at 1, 3."""
    del params
    index = jnp.asarray(index)
    symbols = jnp.array([2, 4, 6, 8], jnp.int32) + (index // 2 % 2).astype(jnp.int32)
    noise = noise._replace(
        positions=jnp.arange(POSITIONS, dtype=jnp.int32), red_right=index % 2 == 1
    )
    return _trial(noise, symbols, jnp.int32(POSITIONS))


def condition(trial: Trial) -> chex.Array:
    """Accuracy is counted over all trials alike: int32[], 0."""
    return jnp.zeros_like(trial.length)


def begin(trial: Trial, params: Params) -> tuple[base.TrialState, base.TimeStep]:
    """Start a given trial."""
    return base.begin(trial, _observe, params)


def step(
    key: chex.PRNGKey, state: base.TrialState, action: chex.Array, params: Params
) -> tuple[base.TrialState, base.TimeStep]:
    """Answer one action; see ``qagrel_jax.tasks.base``. All chance was drawn at the start."""
    del key
    hold_steps = state.trial.length * params.symbol_steps + params.delay_steps
    return base.advance(state, action, hold_steps, _observe, _judge, params)


def _trial(noise: Noise, symbols: chex.Array, length: chex.Array) -> Trial:
    shown = jnp.arange(POSITIONS) < length
    evidence = jnp.where(shown, jnp.asarray(WEIGHTS)[symbols], 0.0).sum()
    infinite = jnp.where(shown, jnp.asarray(INFINITE)[symbols], 0).sum()
    # Weights are tenths: rounding makes sums that should be 0 exactly 0, so that ties are seen.
    evidence = jnp.round(evidence * 10) / 10
    finite = jax.nn.sigmoid(evidence * jnp.log(10.0))
    probability = jnp.where(infinite > 0, 1.0, jnp.where(infinite < 0, 0.0, finite))
    baited = noise.bait < probability
    return Trial(symbols, noise.positions, length, noise.red_right, probability, baited)


def _observe(phase: chex.Array, clock: chex.Array, trial: Trial, params: Params) -> chex.Array:
    sequence = trial.length * params.symbol_steps
    order = jnp.arange(POSITIONS)
    on = (order < trial.length) & (clock >= order * params.symbol_steps) & (phase == base.HOLD)
    if params.symbols_stay == "sequence":
        on = on & (clock < sequence)
    if params.symbols_stay == "step":
        on = on & (clock < (order + 1) * params.symbol_steps)
    where = trial.positions * SYMBOLS + trial.symbols
    units = jnp.where(on[:, None], jax.nn.one_hot(where, POSITIONS * SYMBOLS), 0.0).sum(0)

    targets_on = phase == base.HOLD
    if params.targets_stay == "response":
        targets_on = targets_on | (phase == base.GO)
    right = trial.red_right
    targets = jnp.stack([~right, right, right, ~right]) & targets_on
    mark = (phase != base.GO).astype(jnp.float32)
    return jnp.concatenate([mark[None], targets.astype(jnp.float32), units])


def _judge(trial: Trial, action: chex.Array, params: Params) -> base.Verdict:
    chose_red = (action == base.RIGHT) == trial.red_right
    rewarded = chose_red == trial.red_baited
    tie = rewarded if params.ties == "baited" else jnp.bool_(True)
    better = chose_red == (trial.probability > 0.5)
    return base.Verdict(jnp.where(trial.probability == 0.5, tie, better), rewarded)


TASK = base.Task(
    name="probabilistic",
    params=Params,
    inputs=INPUTS,
    input_groups={
        "mark": 1,
        "targets": 4,  # red left, red right, green left, green right
        **{f"symbol {position}": SYMBOLS for position in range(1, POSITIONS + 1)},
    },
    go_signal="mark off",
    step=step,
    draw=draw,
    build=build,
    test_trial=test_trial,
    condition=condition,
    begin=begin,
    criterion=Criterion(conditions=1, windows=LEVEL_WINDOWS, accuracy=0.85, max_trials=500_000),
    examples={
        "for red, red left": 0,
        "for red, red right": 1,
        "for green, red left": 2,
        "for green, red right": 3,
    },
    levels=lambda params: len(LEVEL_SYMBOLS),
)

reset = TASK.reset
"""Start a random trial: ``(key, params) -> (state, timestep)``."""
