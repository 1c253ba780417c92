"""What the working-memory tasks share: one trial, one clock, one API.

A trial runs through five phases; the mark is the fixation point, or the skin contact::

    BLANK    nothing is seen; the action is ignored
    ACQUIRE  the mark is on: fixate within ``fixation_timeout`` steps and hold ``fixation_steps``
    HOLD     stimuli and delay: every action but fixating ends the trial. The first step brings
             ``fixation_reward``
    GO       respond within ``response_timeout`` steps; fixating means waiting
    OVER     one last blank observation, seen with the reward, if any

Every task module has the same pure functions, for one trial; ``jax.vmap`` them over many::

    state, timestep = reset(key, params)
    state, timestep = step(key, state, action, params)

``params`` is a frozen dataclass of the task: every duration, reward and probability. It is a
pytree; what must change inside a compiled program (the shaping level) is a leaf, the rest static.

Below ``reset``, drawing is kept apart from showing, so that the random numbers of many trials can
be drawn at once: ``draw(key, params)`` gives the raw randomness of a trial,
``build(noise, params)`` the trial, and ``test_trial(noise, index, params)`` the trial that the
frozen test asks for. In a population every function sees the network's own shaping level, but for
``draw``, which sees level 0: it draws for trials whose level is not known yet.

Each task module writes these functions and its ``TASK`` out instead of inheriting them from a
class, so that it reads like the task's description in the paper, from top to bottom. What most of
them share, the phases of a trial, is ``advance`` below.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from qagrel_jax import checks, settings
from qagrel_jax.tasks.criterion import Criterion

FIXATE, LEFT, RIGHT = 0, 1, 2
"""The three actions of most tasks. In the vibrotactile task fixating is holding on."""

BLANK, ACQUIRE, HOLD, GO, OVER = range(5)
"""The phases of a trial."""


class TimeStep(NamedTuple):
    """What the environment answers to an action."""

    observation: chex.Array  # float[inputs], x(t)
    reward: chex.Array  # float[], r(t), brought by the previous action
    done: chex.Array  # bool[], the trial has ended
    correct: chex.Array  # bool[], it ended and was correct, as the task defines it


class TrialState(NamedTuple):
    """Where a trial stands."""

    phase: chex.Array  # int32[], BLANK … OVER
    clock: chex.Array  # int32[], steps already spent in this phase
    held: chex.Array  # int32[], consecutive steps fixated while acquiring
    trial: Any  # what this trial shows; the task's own


class Verdict(NamedTuple):
    """What a response is worth."""

    correct: chex.Array  # bool[], the response is the correct one
    rewarded: chex.Array  # bool[]; the same, save where rewards are a matter of chance


class Task(NamedTuple):
    """A task's functions and metadata in one place; made by each task module."""

    name: str  # as ``make_task`` knows it
    params: Any  # the class of its parameters: a frozen dataclass with a field ``level``
    inputs: int  # number of sensory units
    input_groups: dict[str, int]  # what they are: name -> number of units, in their order
    go_signal: str  # what begins GO
    step: Callable[..., tuple[TrialState, TimeStep]]  # (key, state, action, params)
    draw: Callable[..., Any]  # (key, params) -> noise
    build: Callable[..., Any]  # (noise, params) -> trial
    test_trial: Callable[..., Any]  # (noise, index, params) -> trial
    condition: Callable[..., chex.Array]  # (trial) -> int32[], whose accuracy the trial counts for
    begin: Callable[..., tuple[TrialState, TimeStep]]  # (trial, params)
    criterion: Criterion  # when a network has learned
    examples: dict[str, int]  # trial types worth looking at: name -> index of ``test_trial``
    action_names: tuple[str, ...] = ("fixate", "left", "right")
    levels: Callable[[Any], int] = lambda params: 1  # (params) -> number of shaping levels
    run: Callable[[Any], chex.Array] | None = None  # (trial) -> int32[], where trials hold several
    # responses: how many correct ones, one after another, the trial ended with

    @property
    def actions(self) -> int:
        """Number of actions."""
        return len(self.action_names)

    def reset(self, key: chex.PRNGKey, params: Any) -> tuple[TrialState, TimeStep]:
        """Start a random trial: draw, build, begin.

        Args:
          key: of the trial's random numbers.
          params: the task's parameters.

        Returns:
          ``(state, timestep)``.
        """
        return self.begin(self.build(self.draw(key, params), params), params)


@dataclasses.dataclass(frozen=True)
class TrialParams:
    """Durations in steps and rewards that every task has.

    Attributes:
      fixation_reward: comes with the first step of HOLD; 0 turns it off.
      correct_reward: for the correct response.
      blank_steps: steps before the mark appears.
      fixation_timeout: steps the mark waits for the first fixation.
      fixation_steps: consecutive steps to hold before the stimuli come.
      fixation_break: what letting go while acquiring does: "end" the trial (the default) or
        "restart" the count within the same ``fixation_timeout``.
      response_timeout: steps to respond after GO.
      level: shaping level, from 0; a leaf, so it may be traced. Tasks without shaping ignore it.

    Raises:
      ValueError: a value out of range.
      TypeError: text or nothing in place of a number.
    """

    fixation_reward: float = settings.static(0.2)
    correct_reward: float = settings.static(1.5)
    blank_steps: int = settings.static(1)
    fixation_timeout: int = settings.static(10)
    fixation_steps: int = settings.static(2)
    fixation_break: str = settings.static("end")
    response_timeout: int = settings.static(8)
    level: chex.Numeric = 0

    def __post_init__(self) -> None:
        settings.at_least(self, 0, "fixation_reward", "correct_reward", "blank_steps")
        settings.at_least(self, 1, "fixation_timeout", "fixation_steps", "response_timeout")
        settings.one_of(self, "fixation_break", ("end", "restart"))
        settings.whole_leaf(self, 0, "level")


Observe = Callable[[chex.Array, chex.Array, Any, Any], chex.Array]
"""``(phase, clock, trial, params) -> float[inputs]``, asked in ACQUIRE, HOLD and GO."""

Judge = Callable[[Any, chex.Array, Any], Verdict]
"""``(trial, action, params) -> Verdict`` on a LEFT or RIGHT in GO."""


def begin(trial: Any, observe: Observe, params: Any) -> tuple[TrialState, TimeStep]:
    """Start ``trial`` with its first observation.

    Args:
      trial: what the trial will show.
      observe: the task's observations.
      params: the task's parameters.

    Returns:
      ``(state, timestep)``, the reward being 0.
    """
    phase = jnp.int32(BLANK if params.blank_steps else ACQUIRE)
    state = TrialState(phase, jnp.int32(0), jnp.int32(0), trial)
    off = jnp.bool_(False)
    return state, TimeStep(_see(state, observe, params), jnp.float32(0), off, off)


def advance(
    state: TrialState,
    action: chex.Array,
    hold_steps: chex.Numeric,
    observe: Observe,
    judge: Judge,
    params: Any,
) -> tuple[TrialState, TimeStep]:
    """Answer one action, by the phases in the module's docstring.

    Args:
      state: from ``begin`` or the previous step.
      action: int32[], ``FIXATE``, ``LEFT`` or ``RIGHT``.
      hold_steps: how long HOLD lasts in this trial.
      observe: the task's observations.
      judge: the task's verdict on a response.
      params: the task's parameters.

    Returns:
      ``(state, timestep)``. A trial that is OVER stays so, blank and without reward.
    """
    action = jnp.asarray(action)  # ~ of a Python truth value is a number
    checks.shape("action", action, instead=checks.ONE_TRIAL)
    phase, clock = state.phase, state.clock + 1
    fixates = action == FIXATE

    held = jnp.where((phase == ACQUIRE) & fixates, state.held + 1, 0)
    acquired = held >= params.fixation_steps
    let_go = (state.held > 0) & (params.fixation_break == "end")
    lost = ~fixates & (let_go | (clock >= params.fixation_timeout))
    late = fixates & (clock >= params.response_timeout)
    verdict = judge(state.trial, action, params)
    responds = (phase == GO) & ((action == LEFT) | (action == RIGHT))

    over = (
        (phase == OVER)
        | ((phase == ACQUIRE) & lost)
        | ((phase == HOLD) & ~fixates)
        | ((phase == GO) & (late | ~fixates))
    )
    moves = (
        ((phase == BLANK) & (clock >= params.blank_steps))
        | ((phase == ACQUIRE) & acquired)
        | ((phase == HOLD) & (clock >= hold_steps))
    )
    reward = jnp.where(
        (phase == ACQUIRE) & acquired,
        jnp.float32(params.fixation_reward),
        jnp.where(responds & verdict.rewarded, jnp.float32(params.correct_reward), 0.0),
    )
    state = TrialState(
        phase=jnp.where(over, OVER, phase + moves.astype(jnp.int32)).astype(jnp.int32),
        clock=jnp.where(over | moves, 0, clock).astype(jnp.int32),
        held=jnp.where(over | moves, 0, held).astype(jnp.int32),
        trial=state.trial,
    )
    seen = _see(state, observe, params)
    return state, TimeStep(seen, reward, over, responds & verdict.correct)


def as_documented(timestep: TimeStep) -> TimeStep:
    """Return ``timestep`` with the dtypes of ``TimeStep``, whatever a task of one's own returns.

    >>> as_documented(TimeStep(jnp.zeros(2, int), 1, False, True)).reward.dtype.name
    'float32'
    """

    def as_float(value: Any) -> chex.Array:
        value = jnp.asarray(value)
        return value if jnp.issubdtype(value.dtype, jnp.floating) else value.astype(float)

    def as_bool(value: Any) -> chex.Array:
        return jnp.asarray(value).astype(bool)

    observation, reward, done, correct = timestep
    return TimeStep(as_float(observation), as_float(reward), as_bool(done), as_bool(correct))


def select(condition: chex.Array, yes: Any, no: Any) -> Any:
    """Choose between two pytrees; ``condition`` has the networks' axis, if any, and no other."""
    return jax.tree.map(
        lambda y, n: jnp.where(condition[(None,) * (jnp.ndim(y) - condition.ndim)], y, n), yes, no
    )


def _see(state: TrialState, observe: Observe, params: Any) -> chex.Array:
    visible = (state.phase != BLANK) & (state.phase != OVER)
    observation = observe(state.phase, state.clock, state.trial, params)
    return jnp.where(visible, observation, 0).astype(jnp.float32)
