"""12AX: press right at X after A while the last digit was 1, or at Y after B while it was 2.

Inputs ``[1, 2, A, B, C, X, Y, Z]``, one of them on in each step. A trial begins with a digit, both
equally likely, and continues with one to ``most_pairs`` pairs of a letter of ABC and one of XYZ. A
response follows every stimulus: right to the targets, the X of AX after a 1 and the Y of BY after a
2, left to all else. AX and BY have half of ``target_probability`` each, the seven other pairs share
the rest. So the digit must outlast the pairs, and a letter must be forgotten after its pair.

Every response is rewarded: ``correct_reward``, or ``wrong_reward``. A trial is correct if all its
responses are. The criterion is 1,000 consecutive correct responses. When a network gives up is
our choice: after 100,000 trials (``TASK``).

Reference:
  Martinolli, Gerstner & Gilra (2018), Multi-timescale memory dynamics extend task repertoire in a
  reinforcement learning network with attention-gated memory, Front Comput Neurosci 12: 50; after
  O'Reilly & Frank (2006). Rewards and probabilities are those of the authors' code.
"""

import dataclasses
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from qagrel_jax import checks, settings
from qagrel_jax.tasks import base
from qagrel_jax.tasks.criterion import Criterion

STIMULI = ("1", "2", "A", "B", "C", "X", "Y", "Z")
INPUTS = len(STIMULI)
PAIRS = tuple(first + second for first in "ABC" for second in "XYZ")
TARGETS = (PAIRS.index("AX"), PAIRS.index("BY"))  # after a 1, after a 2
LEFT, RIGHT = 0, 1
"""The two responses: to all else, and to targets."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Params:
    """Lengths, probabilities and rewards.

    Attributes:
      most_pairs: largest number of pairs of a trial; from 1 on all are equally likely.
      target_probability: of AX and BY together.
      correct_reward: for every correct response.
      wrong_reward: for every wrong one, usually negative.
      level: not used; there is no shaping.

    Raises:
      ValueError: a value out of range.
      TypeError: a value of another type.
    """

    most_pairs: int = settings.static(4)
    target_probability: float = settings.static(0.5)
    correct_reward: float = settings.static(0.1)
    wrong_reward: float = settings.static(-1.0)
    level: chex.Numeric = 0

    def __post_init__(self) -> None:
        settings.at_least(self, 1, "most_pairs")
        settings.within(self, 0, 1, "target_probability")
        settings.at_least(self, 0, "correct_reward")
        settings.at_least(self, -1e9, "wrong_reward")
        settings.whole_leaf(self, 0, "level")


class Trial(NamedTuple):
    """A digit and the pairs after it, and how the responses went so far."""

    digit: chex.Array  # int32[], 0 for a 1, 1 for a 2
    pairs: chex.Array  # int32[most_pairs], indices into PAIRS
    count: chex.Array  # int32[], how many of them are shown
    wrong: chex.Array  # bool[], whether a response was wrong
    run: chex.Array  # int32[], correct responses since the last error


class Noise(NamedTuple):
    """A trial's raw randomness."""

    digit: chex.Array  # int32[], as in ``Trial``
    pairs: chex.Array  # int32[most_pairs], as in ``Trial``
    count: chex.Array  # int32[], as in ``Trial``


def draw(key: chex.PRNGKey, params: Params) -> Noise:
    """Draw the digit, the pairs and their number."""
    digit, pairs, count = jax.random.split(key, 3)
    target = params.target_probability / len(TARGETS)
    other = (1 - params.target_probability) / (len(PAIRS) - len(TARGETS))
    probabilities = jnp.full(len(PAIRS), other).at[jnp.array(TARGETS)].set(target)
    return Noise(
        jax.random.bernoulli(digit).astype(jnp.int32),
        jax.random.categorical(pairs, jnp.log(probabilities), shape=(params.most_pairs,)).astype(
            jnp.int32
        ),
        jax.random.randint(count, (), 1, params.most_pairs + 1, jnp.int32),
    )


def build(noise: Noise, params: Params) -> Trial:
    """Make the trial that ``draw`` drew."""
    del params
    return Trial(*noise, wrong=jnp.bool_(False), run=jnp.int32(0))


def test_trial(noise: Noise, index: chex.Array, params: Params) -> Trial:
    """Digit ``index // 9``, then pair ``index % 9`` and the digit's target in turn, to the end."""
    index = jnp.asarray(index, jnp.int32)
    digit = index // len(PAIRS) % 2
    place = jnp.arange(params.most_pairs)
    pairs = jnp.where(place % 2 == 0, index % len(PAIRS), jnp.asarray(TARGETS)[digit])
    noise = Noise(digit, pairs.astype(jnp.int32), jnp.int32(params.most_pairs))
    return build(noise, params)


def condition(trial: Trial) -> chex.Array:
    """All trials count alike: int32[], 0."""
    return jnp.zeros_like(trial.count)


def begin(trial: Trial, params: Params) -> tuple[base.TrialState, base.TimeStep]:
    """Start a given trial, with its digit."""
    del params
    zero, off = jnp.int32(0), jnp.bool_(False)
    state = base.TrialState(jnp.int32(base.GO), zero, zero, trial)
    return state, base.TimeStep(_observe(state), jnp.float32(0), off, off)


def step(
    key: chex.PRNGKey, state: base.TrialState, action: chex.Array, params: Params
) -> tuple[base.TrialState, base.TimeStep]:
    """Answer the response to the stimulus that is on; see ``qagrel_jax.tasks.base``.

    Its reward comes with the next stimulus, the last one's with a blank observation.
    """
    del key
    action = jnp.asarray(action)
    checks.shape("action", action, instead=checks.ONE_TRIAL)
    trial, answering = state.trial, state.phase == base.GO
    pair = trial.pairs[jnp.maximum(state.clock - 1, 0) // 2]
    second = (state.clock > 0) & (state.clock % 2 == 0)
    target = second & (pair == jnp.asarray(TARGETS)[trial.digit])
    right = action == jnp.where(target, RIGHT, LEFT)
    over = ~answering | (state.clock >= 2 * trial.count)
    trial = trial._replace(
        wrong=trial.wrong | (answering & ~right),
        run=jnp.where(answering, jnp.where(right, trial.run + 1, 0), trial.run),
    )
    reward = jnp.where(right, params.correct_reward, params.wrong_reward)
    state = base.TrialState(
        phase=jnp.where(over, base.OVER, base.GO).astype(jnp.int32),
        clock=jnp.where(over, 0, state.clock + 1).astype(jnp.int32),
        held=state.held,
        trial=trial,
    )
    reward = jnp.where(answering, reward, 0).astype(jnp.float32)
    correct = answering & over & ~trial.wrong
    return state, base.TimeStep(_observe(state), reward, over, correct)


def _observe(state: base.TrialState) -> chex.Array:
    pair = state.trial.pairs[jnp.maximum(state.clock - 1, 0) // 2]
    letter = jnp.where(state.clock % 2 == 1, 2 + pair // 3, 5 + pair % 3)
    stimulus = jnp.where(state.clock == 0, state.trial.digit, letter)
    seen = jax.nn.one_hot(stimulus, INPUTS, dtype=jnp.float32)
    return jnp.where(state.phase == base.GO, seen, 0)


TASK = base.Task(
    name="twelve_ax",
    params=Params,
    inputs=INPUTS,
    input_groups={stimulus: 1 for stimulus in STIMULI},
    go_signal="first digit",
    step=step,
    draw=draw,
    build=build,
    test_trial=test_trial,
    condition=condition,
    begin=begin,
    criterion=Criterion(
        conditions=1, windows=(1,), accuracy=1.0, max_trials=100_000, consecutive=1000
    ),
    examples={
        "1, then BY and AX in turn": PAIRS.index("BY"),
        "1, then CX and AX in turn": PAIRS.index("CX"),
        "2, then AX and BY in turn": len(PAIRS) + PAIRS.index("AX"),
        "2, then CY and BY in turn": len(PAIRS) + PAIRS.index("CY"),
    },
    action_names=("left", "right"),
    run=lambda trial: trial.run,
)

reset = TASK.reset
"""Start a random trial: ``(key, params) -> (state, timestep)``."""
