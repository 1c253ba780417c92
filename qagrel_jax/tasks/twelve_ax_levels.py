"""12AX in short trials that grow by levels: go at X after A while the last digit was 1, and so on.

Seven inputs, which show one symbol at a time (``qagrel_jax.tasks.symbols``). A trial is a digit,
a letter A or B, and at last an X or Y. Targets are the X of AX where the last digit is a 1, and the
Y of BY where it is a 2. Respond "go" to a target and "hold" to every other symbol. The trial ends
with the response to the last symbol, which is rewarded if it is right, or with a "go" too early,
which is not. Half the trials begin as one of 1AX and 2BY, half as one of the six others.

A shaping level adds to some trials what has to be ignored (d is one of Q, R, A and B, each drawn
alone):

    0    1AX
    1    21AX                  a digit before
    2    1ddAX  or  21ddAX     one or two letters d after the digit
    3    1AddX  or  21AddX     one or two between the last two symbols
    4    d1dAX  or  2d1dAX     two to four anywhere before the last two symbols

From level 1 on half the trials are of the present level, the others of those before, all equally
likely; from level 2 on half of the longer trials have the digit before. What is a target depends on
what is shown, in 3 for example on the last letter d. The next level comes with more than 85 correct
of its last 100 trials, after 100 trials at the earliest (in the authors' program after 86). When a
network gives up is our choice: after 200,000 (``TASK``), five times the limit of programs derived
from the authors'.

Reference:
  Kruijne, Bohte, Roelfsema & Olivers (2021), Flexible working memory through selective gating and
  attentional tagging, Neural Comput 33(1): 1-40; trials, rewards and the criterion's accuracy are
  those of the authors' program. After O'Reilly & Frank (2006); ``twelve_ax`` has longer trials, and
  a response to every stimulus.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from qagrel_jax import checks, settings
from qagrel_jax.tasks import base, symbols
from qagrel_jax.tasks.criterion import Criterion

SYMBOLS = "12ABXYQR"
INPUTS = symbols.UNITS
LEVELS = 5
LONGEST = 8
HOLD, GO = 0, 1
"""The two responses."""

TARGETS = ("1AX", "2BY")
OTHERS = ("1AY", "1BX", "1BY", "2AX", "2AY", "2BX")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Params:
    """Rewards, and the level.

    Attributes:
      correct_reward: for the right response to a trial's last symbol.
      level: shaping level, from 0; a leaf, so it may be traced.

    Raises:
      ValueError: a value out of range.
      TypeError: a value of another type.
    """

    correct_reward: float = settings.static(1.5)
    level: chex.Numeric = 0

    def __post_init__(self) -> None:
        settings.at_least(self, 0, "correct_reward")
        settings.whole_leaf(self, 0, "level", high=LEVELS - 1)


class Trial(NamedTuple):
    """What a trial shows."""

    sequence: chex.Array  # int32[8], indices into SYMBOLS; only the first ``length`` are shown
    length: chex.Array  # int32[], symbols shown
    target: chex.Array  # bool[], whether the last symbol is a target


class Noise(NamedTuple):
    """A trial's raw randomness."""

    target: chex.Array  # bool[], whether the trial begins as a target
    base: chex.Array  # int32[], 0 … 5, which of the targets (modulo 2) or others
    newest: chex.Array  # bool[], whether it is of the present level
    older: chex.Array  # float[], in [0, 1), which of the levels before
    digit: chex.Array  # int32[], 0 or 1, the digit before
    before: chex.Array  # bool[], whether a trial of level 2 or more has it
    letters: chex.Array  # int32[4], 0 … 3, which of Q, R, A and B
    number: chex.Array  # float[], in [0, 1), how many of them
    places: chex.Array  # float[4], in [0, 1), where they go at level 4, before the last two symbols


def draw(key: chex.PRNGKey, params: Params) -> Noise:
    """Draw all that a trial of any level needs."""
    del params
    keys = jax.random.split(key, 9)
    return Noise(
        target=jax.random.bernoulli(keys[0]),
        base=jax.random.randint(keys[1], (), 0, len(OTHERS), jnp.int32),
        newest=jax.random.bernoulli(keys[2]),
        older=jax.random.uniform(keys[3]),
        digit=jax.random.bernoulli(keys[4]).astype(jnp.int32),
        before=jax.random.bernoulli(keys[5]),
        letters=jax.random.randint(keys[6], (4,), 0, 4, jnp.int32),
        number=jax.random.uniform(keys[7]),
        places=jax.random.uniform(keys[8], (4,)),
    )


def build(noise: Noise, params: Params) -> Trial:
    """Make the trial that ``draw`` drew, at shaping level ``params.level``."""
    newest = jnp.asarray(params.level, jnp.int32)
    older = _below(noise.older, newest)
    level = jnp.where(noise.newest | (newest == 0), newest, older)
    return _at_level(noise, level)


def test_trial(noise: Noise, index: chex.Array, params: Params) -> Trial:
    """Trial ``index`` of the eight short ones, the two targets first, grown to ``params.level``."""
    index = jnp.asarray(index, jnp.int32) % (len(TARGETS) + len(OTHERS))
    target = index < len(TARGETS)
    which = jnp.where(target, index, index - len(TARGETS))
    noise = noise._replace(target=target, base=which.astype(jnp.int32))
    return _at_level(noise, jnp.asarray(params.level, jnp.int32))


def _at_level(noise: Noise, level: chex.Array) -> Trial:
    starts = jnp.array([[SYMBOLS.index(symbol) for symbol in s] for s in (*TARGETS, *OTHERS)])
    which = jnp.where(noise.target, noise.base % len(TARGETS), len(TARGETS) + noise.base)
    sequence = jnp.zeros(LONGEST, jnp.int32).at[:3].set(starts[which].astype(jnp.int32))
    length = jnp.int32(3)
    before = (level == 1) | ((level > 1) & noise.before)
    sequence, length = _insert(sequence, length, jnp.int32(0), noise.digit, before)

    # One or two letters at levels 2 and 3, two to four at level 4.
    few, many = 1 + _below(noise.number, jnp.int32(2)), 2 + _below(noise.number, jnp.int32(3))
    count = jnp.where(level < 2, 0, jnp.where(level == 4, many, few))
    letters = jnp.array([SYMBOLS.index(symbol) for symbol in "QRAB"], jnp.int32)[noise.letters]
    for i in range(4):
        fixed = length - jnp.where(level == 2, 2, 1)
        place = jnp.where(level == 4, _below(noise.places[i], length - 1), fixed)
        sequence, length = _insert(sequence, length, place, letters[i], i < count)

    digits = (sequence < 2) & (jnp.arange(LONGEST) < length)
    last_digit = sequence[jnp.max(jnp.where(digits, jnp.arange(LONGEST), 0))]
    pair = sequence[length - 2], sequence[length - 1]
    target = jnp.bool_(False)
    for symbols_of_target in TARGETS:
        digit, *both = map(SYMBOLS.index, symbols_of_target)
        target |= (last_digit == digit) & (pair[0] == both[0]) & (pair[1] == both[1])
    return Trial(sequence, length, target)


def _below(uniform: chex.Array, number: chex.Array) -> chex.Array:
    """Return one of 0 … ``number`` − 1, all equally likely."""
    scaled = jnp.floor(uniform * number.astype(uniform.dtype)).astype(jnp.int32)
    return jnp.minimum(scaled, number - 1)


def _insert(
    sequence: chex.Array,
    length: chex.Array,
    place: chex.Array,
    symbol: chex.Array,
    whether: chex.Array,
) -> tuple[chex.Array, chex.Array]:
    """Put ``symbol`` before what is at ``place``, or leave all as it is."""
    at = jnp.arange(LONGEST)
    after = jnp.where(at < place, sequence, jnp.where(at == place, symbol, jnp.roll(sequence, 1)))
    return jnp.where(whether, after, sequence), length + jnp.asarray(whether).astype(jnp.int32)


def condition(trial: Trial) -> chex.Array:
    """All trials count alike: int32[], 0."""
    return jnp.zeros_like(trial.length)


def begin(trial: Trial, params: Params) -> tuple[base.TrialState, base.TimeStep]:
    """Start a given trial, with its first symbol."""
    del params
    zero, off = jnp.int32(0), jnp.bool_(False)
    state = base.TrialState(jnp.int32(base.GO), zero, zero, trial)
    return state, base.TimeStep(_observe(state), jnp.float32(0), off, off)


def step(
    key: chex.PRNGKey, state: base.TrialState, action: chex.Array, params: Params
) -> tuple[base.TrialState, base.TimeStep]:
    """Answer the response to the symbol that is on; see ``qagrel_jax.tasks.base``."""
    del key
    action = jnp.asarray(action)
    checks.shape("action", action, instead=checks.ONE_TRIAL)
    answering, trial = state.phase == base.GO, state.trial
    last = state.clock >= trial.length - 1
    right = answering & last & (action == jnp.where(trial.target, GO, HOLD))
    over = ~answering | last | (action != HOLD)
    state = base.TrialState(
        phase=jnp.where(over, base.OVER, base.GO).astype(jnp.int32),
        clock=jnp.where(over, 0, state.clock + 1).astype(jnp.int32),
        held=state.held,
        trial=trial,
    )
    reward = jnp.where(right, params.correct_reward, 0).astype(jnp.float32)
    return state, base.TimeStep(_observe(state), reward, over, right)


def _observe(state: base.TrialState) -> chex.Array:
    shown = jnp.asarray(symbols.codes(SYMBOLS))[state.trial.sequence[state.clock]]
    return jnp.where(state.phase == base.GO, shown, 0).astype(jnp.float32)


TASK = base.Task(
    name="twelve_ax_levels",
    params=Params,
    inputs=INPUTS,
    input_groups={"symbol": INPUTS},
    go_signal="first symbol",
    step=step,
    draw=draw,
    build=build,
    test_trial=test_trial,
    condition=condition,
    begin=begin,
    criterion=Criterion(conditions=1, windows=(100,) * LEVELS, accuracy=0.86, max_trials=200_000),
    examples={"from 1AX": 0, "from 2BY": 1, "from 1BX": 3, "from 2AX": 5},
    action_names=("hold", "go"),
    levels=lambda params: LEVELS,
)

reset = TASK.reset
"""Start a random trial: ``(key, params) -> (state, timestep)``."""
