"""Reversal bandit: two arms, one of them better, until they change places unannounced.

A trial is an episode of ``pulls`` choices between two arms. The better arm pays with probability
``better``, the other one with ``worse``; which one starts as the better is drawn for each episode,
and so is the pull, from ``first_reversal`` to ``last_reversal``, at which they change places.

Inputs ``[choose, arm 1, arm 2, reward]``. A pull is the action taken while the first is on; the
next step shows the arm and the reward, and ``interval`` steps later the next pull is due (with
0, at once). Actions in between are ignored. So the network must find the better arm from what it
remembers, within the episode.

An episode is correct if the arm that was better at the time was chosen in at least ``required`` of
its pulls. The criterion, for each arm that an episode can start with, is 75 % of the last 100
episodes; a network gives up after 100,000 (``TASK``).

van den Berg, Roelfsema & Bohte (2024), PLoS ONE 19(12): e0316453, show that RECOLLECT learns a task
of this kind. Theirs is not public: lengths, probabilities and criterion are our own.
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
ARMS = ("arm 1", "arm 2")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Params:
    """Lengths, probabilities and reward.

    Attributes:
      pulls: choices in an episode.
      interval: steps from an outcome to the next pull.
      better: probability that the better arm pays.
      worse: probability that the other one does.
      first_reversal: first pull, from 0, before which the arms may change places.
      last_reversal: last such pull; ``pulls`` or later means maybe not at all.
      required: fraction of pulls of the better arm that makes an episode right.
      correct_reward: what an arm pays.
      level: not used; there is no shaping.

    Raises:
      ValueError: a value out of range, ``worse`` above ``better``, no pull for a reversal.
      TypeError: a value of another type.
    """

    pulls: int = settings.static(20)
    interval: int = settings.static(1)
    better: float = settings.static(0.8)
    worse: float = settings.static(0.2)
    first_reversal: int = settings.static(5)
    last_reversal: int = settings.static(15)
    required: float = settings.static(0.7)
    correct_reward: float = settings.static(1.0)
    level: chex.Numeric = 0

    def __post_init__(self) -> None:
        settings.at_least(self, 1, "pulls")
        settings.at_least(self, 0, "interval", "first_reversal", "last_reversal", "correct_reward")
        settings.within(self, 0, 1, "better", "worse", "required")
        settings.whole_leaf(self, 0, "level")
        if self.worse > self.better:
            raise ValueError(f"worse must be at most better = {self.better}, got {self.worse}")
        if self.last_reversal < self.first_reversal:
            raise ValueError(
                f"last_reversal must be at least first_reversal = {self.first_reversal}, got "
                f"{self.last_reversal}"
            )


class Trial(NamedTuple):
    """An episode, and how it went so far."""

    first: chex.Array  # int32[], the arm that starts as the better one
    reversal: chex.Array  # int32[], the pull before which they change places
    luck: chex.Array  # float[pulls], uniform; an arm pays if its probability is above
    better: chex.Array  # int32[], pulls of the better arm


class Noise(NamedTuple):
    """An episode's raw randomness."""

    first: chex.Array  # int32[], as in ``Trial``
    reversal: chex.Array  # int32[], as in ``Trial``
    luck: chex.Array  # float[pulls], as in ``Trial``


def draw(key: chex.PRNGKey, params: Params) -> Noise:
    """Draw the first arm, the reversal and the luck of every pull."""
    first, reversal, luck = jax.random.split(key, 3)
    return Noise(
        jax.random.bernoulli(first).astype(jnp.int32),
        jax.random.randint(
            reversal, (), params.first_reversal, params.last_reversal + 1, jnp.int32
        ),
        jax.random.uniform(luck, (params.pulls,)),
    )


def build(noise: Noise, params: Params) -> Trial:
    """Make the episode that ``draw`` drew."""
    del params
    return Trial(*noise, better=jnp.int32(0))


def test_trial(noise: Noise, index: chex.Array, params: Params) -> Trial:
    """Arm ``index % 2`` is the better one first; the reversal comes halfway through its range."""
    halfway = (params.first_reversal + params.last_reversal) // 2
    first = jnp.asarray(index, jnp.int32) % 2
    return build(noise._replace(first=first, reversal=jnp.int32(halfway)), params)


def condition(trial: Trial) -> chex.Array:
    """Accuracy is counted per arm that starts as the better one: int32[]."""
    return trial.first


def begin(trial: Trial, params: Params) -> tuple[base.TrialState, base.TimeStep]:
    """Start a given episode, with its first pull."""
    del params
    zero, off = jnp.int32(0), jnp.bool_(False)
    state = base.TrialState(jnp.int32(base.GO), zero, zero, trial)
    seen = jnp.zeros(INPUTS, jnp.float32).at[0].set(1)
    return state, base.TimeStep(seen, jnp.float32(0), off, off)


def step(
    key: chex.PRNGKey, state: base.TrialState, action: chex.Array, params: Params
) -> tuple[base.TrialState, base.TimeStep]:
    """Answer one action; see ``qagrel_jax.tasks.base``. All chance was drawn at the start.

    The last pull's outcome is seen as the episode ends.
    """
    del key
    action = jnp.asarray(action)
    checks.shape("action", action, instead=checks.ONE_TRIAL)
    trial, period = state.trial, 1 + params.interval
    pulls = (state.phase == base.GO) & (state.clock % period == 0)
    pull = state.clock // period
    reversed_now = (pull >= trial.reversal).astype(trial.first.dtype)
    chose_best = action == trial.first ^ reversed_now
    luck = trial.luck[jnp.minimum(pull, params.pulls - 1)]
    chosen = (action == 0) | (action == 1)
    pays = pulls & chosen & (luck < jnp.where(chose_best, params.better, params.worse))
    trial = trial._replace(better=trial.better + (pulls & chose_best).astype(trial.better.dtype))

    clock = state.clock + 1
    last = pulls & (pull + 1 >= params.pulls)
    over = (state.phase != base.GO) | last
    due = ~over & (clock % period == 0)
    seen = jnp.stack([due, pulls & (action == 0), pulls & (action == 1), pays])
    state = base.TrialState(
        phase=jnp.where(over, base.OVER, base.GO).astype(jnp.int32),
        clock=jnp.where(over, 0, clock).astype(jnp.int32),
        held=state.held,
        trial=trial,
    )
    reward = jnp.where(pays, jnp.float32(params.correct_reward), 0.0)
    # Less a millionth: the product of two numbers may lie above the whole number that it equals.
    required = params.required * params.pulls * (1 - 1e-6)
    correct = last & (trial.better.astype(float) >= required)
    return state, base.TimeStep(seen.astype(jnp.float32), reward, over, correct)


TASK = base.Task(
    name="reversal_bandit",
    params=Params,
    inputs=INPUTS,
    input_groups={"choose": 1, "chose arm 1": 1, "chose arm 2": 1, "rewarded": 1},
    go_signal="first pull",
    step=step,
    draw=draw,
    build=build,
    test_trial=test_trial,
    condition=condition,
    begin=begin,
    criterion=Criterion(conditions=2, windows=(100,), accuracy=0.75, max_trials=100_000),
    examples={"arm 1 first": 0, "arm 2 first": 1},
    action_names=ARMS,
)

reset = TASK.reset
"""Start a random trial: ``(key, params) -> (state, timestep)``."""
