"""A rule with memory (``rules.memory``) plays an environment, episode after episode."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, TypeVar

import chex
import jax
import jax.numpy as jnp

from qagrel_jax import checks
from qagrel_jax.environments.environment import Environment, check
from qagrel_jax.random_keys import is_key
from qagrel_jax.rules import augment, memory, workmate
from qagrel_jax.rules.synapses import Chooser

Resets = TypeVar("Resets", augment.AugmentState, workmate.WorkmateState)
"""The state of a rule that is reset when a trial or an episode ends."""


class Player(NamedTuple):
    """A network in the midst of an environment."""

    learner: Any  # the network: an ``AugmentState``, a ``RecollectState`` or a ``WorkmateState``
    state: Any  # the environment's
    observation: chex.Array  # float[inputs], what the network is about to see
    reward: chex.Array  # float[], what its last action brought


class Steps(NamedTuple):
    """What happened, action by action."""

    action: chex.Array  # int32[steps], the chosen actions
    reward: chex.Array  # float[steps], what this action brought
    terminated: chex.Array  # bool[steps], after this action
    truncated: chex.Array  # bool[steps], likewise
    rpe: chex.Array  # float[steps], δ when it chose: of the reward before; of AuGMEnT at first γ q
    last_rpe: chex.Array  # float[steps], δ of this reward where the episode ended here; else 0
    observation: chex.Array | None = None  # float[steps, inputs], when it chose; None: not recorded
    q_values: chex.Array | None = None  # float[steps, actions], of which it chose; likewise
    units: dict[str, chex.Array] | None = None
    # float[steps, units] by group: "memory" and "regular" of AuGMEnT, "gate" and "memory" of
    # RECOLLECT, "regular", "match", "gate", "memory" and "gate_q_values" of WorkMATe; likewise


def begin(key: chex.PRNGKey, config: memory.Config, environment: Environment) -> Player:
    """Make an untrained network at the start of an episode.

    Args:
      key: a random key.
      config: sizes and parameters, and so the rule: an ``AugmentConfig``, ``RecollectConfig`` or
        ``WorkmateConfig``; inputs and actions must be the environment's.
      environment: what it will play.

    Returns:
      The ``Player``.

    Raises:
      ValueError: sizes that differ; an environment whose functions do not return what they must.
      TypeError: an argument of another type.
    """
    rule = memory.rule_of(config)
    check(environment)
    _check_sizes(config, environment)
    checks.random_key("key", key)
    # Typed, as those of ``play`` are: an environment may keep its key in its state.
    typed = key if is_key(key) else jax.random.wrap_key_data(key)
    weights_key, reset_key = jax.random.split(typed)
    state, observation = environment.reset(reset_key)
    learner = rule.init(weights_key, config)
    state = jax.tree.map(jnp.asarray, state)
    return Player(learner, state, jnp.asarray(observation, float), jnp.zeros(()))


def play(
    key: chex.PRNGKey,
    config: memory.Config,
    player: Player,
    environment: Environment,
    steps: int,
    plastic: chex.Array | bool = True,
    choose: Chooser | None = None,
    record: bool = False,
) -> tuple[Player, Steps]:
    """Let a network act and learn for a number of actions, episode after episode.

    What AuGMEnT and WorkMATe keep from step to step is reset between episodes. Nothing resets
    RECOLLECT, and its end-of-trial input, if it has one, tells of any episode's end. Another call
    with the same environment, policy, ``steps`` and ``record`` compiles nothing: what their
    functions refer to is as it was at the first call.

    Args:
      key: a random key.
      config: sizes and parameters, those of ``begin``.
      player: from ``begin``, or an earlier ``play``.
      environment: what it plays.
      steps: actions.
      plastic: bool[], False freezes the network: β = ε = 0.
      choose: a policy of one's own, ``(key, q_values [actions], epsilon []) -> action``, asked by
        WorkMATe for its internal action, too; None for ``config.policy``.
      record: keep what the network observed, its Q values and its units, action by action.

    Returns:
      ``(player, steps)``. With ``over = steps.terminated | steps.truncated`` the episode of each
      action is number ``jnp.cumsum(over) - over``; the first may have begun in an earlier call, and
      the last go on in the next. What cannot be seen in the observations of an episode, such as its
      condition, the environment has to show, in an input that carries no weight or in its reward.

    Raises:
      ValueError: ``steps`` below 1; sizes that differ; an environment whose functions do not return
        what they must.
      TypeError: an argument of another type.

    Episodes are one action long, and action 1 is rewarded; it is soon chosen almost always:

    >>> def reset(key):
    ...     return jnp.int32(0), jnp.ones(1)
    >>> def step(key, state, action):
    ...     return state, jnp.ones(1), action == 1, jnp.bool_(True), jnp.bool_(False)
    >>> world = Environment(inputs=1, actions=2, reset=reset, step=step)
    >>> config = augment.AugmentConfig(inputs=1, actions=2)
    >>> player = begin(jax.random.key(0), config, world)
    >>> player, steps = play(jax.random.key(1), config, player, world, steps=200)
    >>> bool(steps.reward[100:].mean() > 0.9)
    True

    Without learning, and looked into:

    >>> _, steps = play(
    ...     jax.random.key(2), config, player, world, steps=50, plastic=False, record=True
    ... )
    >>> {name: units.shape for name, units in steps.units.items()}
    {'memory': (50, 4), 'regular': (50, 3)}
    """
    rule = memory.rule_of(config)
    checks.random_key("key", key)
    checks.instance("player", player, Player, "begin gives one")
    checks.instance("player.learner", player.learner, rule.state, "begin gives one")
    check(environment)
    _check_sizes(config, environment)
    checks.whole("steps", steps)
    checks.truth_value("plastic", plastic)
    checks.flag("record", record)
    environment = Environment(
        int(environment.inputs),
        int(environment.actions),
        _hashable(environment.reset),
        _hashable(environment.step),
    )
    choose = None if choose is None else _hashable(choose)
    return _play(key, config, player, environment, int(steps), plastic, choose, bool(record))


@functools.partial(jax.jit, static_argnames=("environment", "steps", "choose", "record"))
def _play(
    key: chex.PRNGKey,
    config: memory.Config,
    player: Player,
    environment: Environment,
    steps: int,
    plastic: chex.Array | bool,
    choose: Chooser | None,
    record: bool,
) -> tuple[Player, Steps]:
    rule = memory.rule_of(config)

    def one(player: Player, numbers: chex.Array) -> tuple[Player, Steps]:
        keys = jax.random.split(jax.random.wrap_key_data(numbers, impl=implementation), 4)
        act_key, step_key, last_key, reset_key = keys
        off = jnp.bool_(False)
        learner, activity = rule.step(
            act_key, config, player.learner, player.observation, player.reward, off, plastic, choose
        )
        state, observation, reward, terminated, truncated = environment.step(
            step_key, player.state, activity.action
        )
        observation, reward = jnp.asarray(observation, float), jnp.asarray(reward, float)
        over = terminated | truncated
        ended = terminated if rule.resets else over

        # An episode that is over is seen once more, with its last reward.
        closed, last = rule.step(
            last_key, config, learner, observation, reward, ended, plastic, choose
        )
        fresh_state, fresh = environment.reset(reset_key)
        following = Player(
            learner=_select(over, rule.at_rest(closed) if rule.resets else closed, learner),
            state=_select(over, fresh_state, state),
            observation=jnp.where(over, jnp.asarray(fresh, float), observation),
            reward=jnp.where(over, 0, reward),
        )
        last_rpe = jnp.where(over, last.rpe, 0)
        done = Steps(activity.action, reward, terminated, truncated, activity.rpe, last_rpe)
        if record:
            done = done._replace(
                observation=player.observation,
                q_values=activity.q_values,
                units=rule.recorded(activity),
            )
        return following, done

    # As plain numbers: JAX's check for reused keys does not follow keys through a mapped scan.
    implementation = jax.random.key_impl(key)
    keys = jax.random.key_data(jax.random.split(key, steps))
    return jax.lax.scan(one, player, keys)


def forget(learner: Resets) -> Resets:
    """Reset all that AuGMEnT or WorkMATe keeps from step to step, as ``play`` between episodes.

    Args:
      learner: between two steps.

    Returns:
      The same weights, feedback weights and, of WorkMATe, fixed weights; all else 0.

    Raises:
      TypeError: ``learner`` is no ``AugmentState`` and no ``WorkmateState``. (Nothing resets
        RECOLLECT.)
    """
    at_rest = {rule.state: rule.at_rest for rule in memory.RULES.values() if rule.resets}
    checks.instance("learner", learner, tuple(at_rest), "player.learner is one")
    reset = next(at_rest[state] for state in at_rest if isinstance(learner, state))
    return reset(learner)


def _hashable(function: Any) -> Any:
    """Return ``function``, or of an object without a hash its method, which has one."""
    try:
        hash(function)
    except TypeError:
        return function.__call__
    return function


def _check_sizes(config: memory.Config, environment: Environment) -> None:
    for name in ("inputs", "actions"):
        ours, theirs = getattr(config, name), getattr(environment, name)
        if ours != theirs:
            raise ValueError(f"config.{name} must be {theirs}, the environment's, got {ours}")


def _select(which: chex.Array, these: Any, those: Any) -> Any:
    return jax.tree.map(lambda a, b: jax.lax.select(which, a, b), these, those)
