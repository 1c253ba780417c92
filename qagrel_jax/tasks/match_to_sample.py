"""Delayed match-to-sample with changing stimuli: is the second letter the same as the first?

Seven inputs, which show one symbol at a time (``qagrel_jax.tasks.symbols``): the mark, the sample,
the mark for ``delay_steps``, the probe. Fixate until the probe comes, then respond: left if it is
the sample, right if not, both equally likely. Every step fixated before is rewarded a little, a
wrong response punished. Any other action ends the trial.

There are ``sets`` of three letters each, one a shaping level: sample and probe are of the present
set, and when a network has learned it, the next set comes, none of whose letters it has seen. So a
network that has learned *to compare* needs few trials for a new set. The sets are parts of
``letters``, the same for all networks; in the paper each network has its own draw. The letters'
order was drawn once (NumPy, ``default_rng(0).permutation``).

A set is learned with 85 correct of its last 100 trials, after 100 trials at the earliest (in the
authors' program, where trials not yet seen count as wrong, after 85 at the earliest). A network
gives up after 30,000 trials.

Reference:
  Kruijne, Bohte, Roelfsema & Olivers (2021), Flexible working memory through selective gating and
  attentional tagging, Neural Comput 33(1): 1-40. Rewards and the criterion's accuracy are those
  of the authors' program, the limit of trials that of programs derived from it.
"""

import dataclasses
import string
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from qagrel_jax import checks, settings
from qagrel_jax.tasks import base, symbols
from qagrel_jax.tasks.criterion import Criterion

OF_A_SET = 3
INPUTS = symbols.UNITS


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Params:
    """Stimuli, durations and rewards.

    Attributes:
      sets: number of sets of three letters, at most 8; as many as there are shaping levels.
      letters: at least three times ``sets`` different capital letters; set i has three from 3i on.
      delay_steps: steps between sample and probe.
      hold_reward: for every step fixated before the probe.
      correct_reward: for the correct response.
      wrong_reward: for the wrong response to the probe, usually negative.
      level: the present set, from 0; a leaf, so it may be traced.

    Raises:
      ValueError: a value out of range; letters that are too few, alike, or no capitals.
      TypeError: a value of another type.
    """

    sets: int = settings.static(6)
    letters: str = settings.static("TEKLZCYGQXDVIAUMSNHFROWJBP")
    delay_steps: int = settings.static(1)
    hold_reward: float = settings.static(0.2)
    correct_reward: float = settings.static(1.5)
    wrong_reward: float = settings.static(-0.2)
    level: chex.Numeric = 0

    def __post_init__(self) -> None:
        checks.whole("sets", self.sets, 1, len(string.ascii_uppercase) // OF_A_SET)
        checks.make_hashable(self, "sets")
        settings.at_least(self, 0, "delay_steps", "hold_reward", "correct_reward")
        settings.at_least(self, -1e9, "wrong_reward")
        if not isinstance(self.letters, str):
            raise TypeError(f"letters must be text, got {self.letters!r}")
        needed, different = OF_A_SET * self.sets, set(self.letters)
        if len(different) < len(self.letters) or not different <= set(string.ascii_uppercase):
            raise ValueError(f"letters must be different capitals, A to Z, got {self.letters!r}")
        if len(different) < needed:
            raise ValueError(
                f"letters must be at least {needed}, three for each set, got {self.letters!r}"
            )
        settings.whole_leaf(self, 0, "level", high=self.sets - 1)


class Trial(NamedTuple):
    """What is to be compared."""

    sample: chex.Array  # int32[], an index into ``letters``
    probe: chex.Array  # int32[], likewise


class Noise(NamedTuple):
    """A trial's raw randomness."""

    same: chex.Array  # bool[], whether the probe is the sample
    sample: chex.Array  # int32[], 0 … 2, its place in the set
    other: chex.Array  # int32[], 1 or 2, how far from it another probe is


def draw(key: chex.PRNGKey, params: Params) -> Noise:
    """Draw sample and probe, of whatever set."""
    del params
    same, sample, other = jax.random.split(key, 3)
    return Noise(
        jax.random.bernoulli(same),
        jax.random.randint(sample, (), 0, OF_A_SET, jnp.int32),
        jax.random.randint(other, (), 1, OF_A_SET, jnp.int32),
    )


def build(noise: Noise, params: Params) -> Trial:
    """Make the trial that ``draw`` drew, of set ``params.level``."""
    other = (noise.sample + noise.other) % OF_A_SET
    probe = jnp.where(noise.same, noise.sample, other)
    first = OF_A_SET * jnp.asarray(params.level, jnp.int32)
    return Trial(first + noise.sample, first + probe)


def test_trial(noise: Noise, index: chex.Array, params: Params) -> Trial:
    """Trial ``index`` of all nine pairs of set ``params.level``: sample = index // 3."""
    index = jnp.asarray(index, jnp.int32)
    sample, probe = index // OF_A_SET % OF_A_SET, index % OF_A_SET
    other = (probe - sample) % OF_A_SET
    return build(noise._replace(same=other == 0, sample=sample, other=other), params)


def condition(trial: Trial) -> chex.Array:
    """All trials count alike: int32[], 0."""
    return jnp.zeros_like(trial.sample)


def begin(trial: Trial, params: Params) -> tuple[base.TrialState, base.TimeStep]:
    """Start a given trial, with the mark."""
    zero, off = jnp.int32(0), jnp.bool_(False)
    state = base.TrialState(jnp.int32(base.HOLD), zero, zero, trial)
    return state, base.TimeStep(_observe(state, params), jnp.float32(0), off, off)


def step(
    key: chex.PRNGKey, state: base.TrialState, action: chex.Array, params: Params
) -> tuple[base.TrialState, base.TimeStep]:
    """Answer one action; see ``qagrel_jax.tasks.base``. Nothing here is random."""
    del key
    action = jnp.asarray(action)
    checks.shape("action", action, instead=checks.ONE_TRIAL)
    fixates, trial = action == base.FIXATE, state.trial
    holding, asked = state.phase == base.HOLD, state.phase == base.GO
    right = action == jnp.where(trial.sample == trial.probe, base.LEFT, base.RIGHT)
    over = ~(holding & fixates)
    clock = state.clock + 1
    go = clock >= 2 + params.delay_steps
    responds = asked & ((action == base.LEFT) | (action == base.RIGHT))
    answer = jnp.where(right, params.correct_reward, params.wrong_reward)
    reward = jnp.where(holding & fixates, params.hold_reward, jnp.where(responds, answer, 0.0))
    state = base.TrialState(
        phase=jnp.where(over, base.OVER, jnp.where(go, base.GO, base.HOLD)).astype(jnp.int32),
        clock=jnp.where(over | go, 0, clock).astype(jnp.int32),
        held=state.held,
        trial=trial,
    )
    seen = _observe(state, params)
    return state, base.TimeStep(seen, reward.astype(jnp.float32), over, asked & right)


def _observe(state: base.TrialState, params: Params) -> chex.Array:
    shown = jnp.asarray(symbols.codes(params.letters))
    mark = jnp.asarray(symbols.codes("p")[0])
    sample = (state.phase == base.HOLD) & (state.clock == 1)
    probe = state.phase == base.GO
    stimulus = jnp.where(sample, shown[state.trial.sample], mark)
    stimulus = jnp.where(probe, shown[state.trial.probe], stimulus)
    return jnp.where(state.phase == base.OVER, 0, stimulus).astype(jnp.float32)


TASK = base.Task(
    name="match_to_sample",
    params=Params,
    inputs=INPUTS,
    input_groups={"symbol": INPUTS},
    go_signal="probe",
    step=step,
    draw=draw,
    build=build,
    test_trial=test_trial,
    condition=condition,
    begin=begin,
    criterion=Criterion(conditions=1, windows=(100,) * 6, accuracy=0.85, max_trials=30_000),
    examples={"first, first": 0, "first, second": 1, "second, second": 4, "third, second": 7},
    levels=lambda params: params.sets,
)

reset = TASK.reset
"""Start a random trial: ``(key, params) -> (state, timestep)``."""
