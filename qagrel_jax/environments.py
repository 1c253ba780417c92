"""Environments of others: two pure functions, and learners that play them.

An ``Environment`` is one world for one network; ``jax.vmap`` what plays it over many::

    state, observation = environment.reset(key)
    state, observation, reward, terminated, truncated = environment.step(key, state, action)

*Terminated* means that nothing can follow: the value of what comes next is 0, and the last
reward-prediction error is δ = r − q. *Truncated* means that somebody stopped looking, at a time
limit for example: the value of what would have followed is that of the last observation, and
δ = r + γ q(last observation) − q.

``from_gymnax`` makes an ``Environment`` of one of gymnax (Lange 2022, version 1.0 or later); one of
your own is two functions. ``trial`` lets a one-step rule (Q-AGREL) play an environment whose
episodes are one action long, ``begin`` and ``play`` let AuGMEnT play any other. gymnax itself is
imported nowhere but in ``mnist_bandit``.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.nn as nn
import jax.numpy as jnp
import numpy as np

from qagrel_jax import checks
from qagrel_jax.rules import augment
from qagrel_jax.rules.base import Rule

_INSTALL = "pip install 'qagrel_jax[gymnax]'"


class Environment(NamedTuple):
    """What answers actions; see the module's docstring."""

    inputs: int  # numbers in an observation
    actions: int  # number of actions
    reset: Callable[..., tuple[Any, chex.Array]]  # (key) -> (state, observation)
    step: Callable[..., tuple]
    # (key, state, action) -> (state, observation, reward, terminated, truncated)


class Outcome(NamedTuple):
    """What a batch of one-step episodes brought."""

    action: chex.Array  # int32[batch], the chosen action
    reward: chex.Array  # float[batch], what it brought
    error: chex.Array  # float[batch], δ
    ended: chex.Array  # bool[batch]; False: this environment is not for a one-step rule


class Player(NamedTuple):
    """An AuGMEnT network in the midst of an environment."""

    learner: augment.AugmentState  # the network
    state: Any  # the environment's
    observation: chex.Array  # float[inputs], what the network is about to see
    reward: chex.Array  # float[], what its last action brought


class Steps(NamedTuple):
    """What happened, action by action."""

    action: chex.Array  # int32[steps], the chosen actions
    reward: chex.Array  # float[steps], what this action brought
    terminated: chex.Array  # bool[steps], after this action
    truncated: chex.Array  # bool[steps], likewise
    rpe: chex.Array  # float[steps], δ of the reward before; of an episode's last action its own


def from_gymnax(environment: Any, params: Any = None, on_off: bool = False) -> Environment:
    """Make an ``Environment`` of a gymnax environment with a discrete set of actions.

    AuGMEnT's memory adds up changes of its inputs. An input that goes from 0 to 1 and back leaves
    the same trace as one that goes from 0 to −1 and back, so signs cannot be remembered. ``on_off``
    gives each sign an input of its own, as ON and OFF cells do.

    Args:
      environment: with gymnax's functional API: ``reset(key, params)``, and ``step(key, state,
        action, params)`` that returns (observation, state, reward, terminated, truncated, info),
        the observation an episode ended with in ``info["final_observation"]``.
      params: of the environment; None for its ``default_params``.
      on_off: make two inputs of each number x of the observation, max(x, 0) and max(−x, 0).

    Returns:
      The ``Environment``. It does not reset itself.

    Raises:
      ValueError: actions are not a discrete set, or ``step`` is that of gymnax before 1.0.
      TypeError: ``environment`` lacks a part of gymnax's API; ``on_off`` is not True or False.
    """
    for part in ("default_params", "action_space", "observation_space", "reset", "step"):
        if not hasattr(environment, part):
            raise TypeError(
                f"environment must be one of gymnax's, got {environment!r} without {part}"
            )
    checks.flag("on_off", on_off)
    params = environment.default_params if params is None else params
    actions = getattr(environment.action_space(params), "n", None)
    if actions is None:
        raise ValueError(f"{environment.name} has no discrete set of actions to choose from")
    inputs = math.prod(environment.observation_space(params).shape) * (2 if on_off else 1)

    def seen(observation: Any) -> chex.Array:
        flat = jnp.asarray(observation, jnp.float32).reshape(-1)
        return jnp.concatenate([nn.relu(flat), nn.relu(-flat)]) if on_off else flat

    def reset(key: chex.PRNGKey) -> tuple[Any, chex.Array]:
        observation, state = environment.reset(key, params)
        return state, seen(observation)

    def step(key: chex.PRNGKey, state: Any, action: chex.Array) -> tuple:
        answer = environment.step(key, state, action, params)
        if len(answer) != 6 or "final_observation" not in answer[-1]:
            raise ValueError(
                f"the step of {environment.name} does not tell terminated from truncated: it needs "
                "gymnax 1.0 or later"
            )
        _, state, reward, terminated, truncated, info = answer
        reward = jnp.asarray(reward, jnp.float32)
        return state, seen(info["final_observation"]), reward, terminated, truncated

    return Environment(inputs, int(actions), reset, step)


def mnist_bandit(images: Any, labels: Any) -> Any:
    """Make gymnax's ``MNISTBandit-bsuite`` of images at hand; its own downloads MNIST.

    Args:
      images: uint8[count, height, width] or [count, height, width, 1], from 0 to 255.
      labels: int[count], from 0 to 9.

    Returns:
      The gymnax environment, for ``from_gymnax``.

    Raises:
      ImportError: gymnax is not installed.
      ValueError: shapes, pixels or labels that do not fit.
      TypeError: images that are no numbers, labels that are no whole numbers.
    """
    try:
        from gymnax.environments.bsuite.mnist import MNISTBandit
    except ImportError:
        raise ImportError(f"mnist_bandit needs gymnax: {_INSTALL}") from None
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    if images.ndim != 3 or labels.shape != images.shape[:1] or not len(labels):
        raise ValueError(
            "images must be [count, height, width] with a label each, got shapes "
            f"{images.shape} and {labels.shape}"
        )
    checks.labels("label", labels, 10)
    checks.finite("images", images)
    if images.min() < 0 or images.max() > 255:
        raise ValueError(f"images must be 0 to 255, got {images.min()} to {images.max()}")

    class AtHand(MNISTBandit):
        def __init__(self) -> None:  # not super's, which downloads
            self.num_data, self.image_shape = len(labels), images.shape[1:]
            self.images, self.labels = jnp.asarray(images), jnp.asarray(labels, jnp.int32)

    return AtHand()


def trial(
    key: chex.PRNGKey,
    rule: Rule,
    forward: Callable[..., Any],
    params: chex.ArrayTree,
    environment: Environment,
    batch: int = 1,
    has_aux: bool = False,
) -> tuple[chex.ArrayTree, Outcome]:
    """Let a one-step rule play one-step episodes: see, act, be rewarded, learn.

    Args:
      key: a random key.
      rule: one that takes rewards, such as ``qagrel_jax.q_agrel()``.
      forward: ``(params, inputs float[batch, inputs]) -> outputs float[batch, actions]``.
      params: of the network.
      environment: its episodes end with the first action.
      batch: episodes at once.
      has_aux: whether ``forward`` returns ``(outputs, aux)``.

    Returns:
      ``(grads, outcome)``, grads as from ``rule.update``: into any optax optimizer.

    Raises:
      ValueError: a rule that needs labels; ``batch`` below 1; an environment whose functions do not
        return what they must.
      TypeError: an argument of another type.
    """
    checks.instance("rule", rule, Rule, "q_agrel() gives one")
    checks.function("forward", forward)
    _check_environment(environment)
    checks.whole("batch", batch)
    checks.flag("has_aux", has_aux)
    if rule.outcome != "reward":
        raise ValueError(f"an environment gives rewards, but {rule.name} learns from labels")
    reset_key, act_key, step_key = jax.random.split(key, 3)
    states, inputs = jax.vmap(environment.reset)(jax.random.split(reset_key, batch))
    decision = rule.act(act_key, forward, params, inputs, has_aux=has_aux)
    keys = jax.random.split(step_key, batch)
    _, _, reward, terminated, truncated = jax.vmap(environment.step)(keys, states, decision.action)
    grads, error = rule.update(decision, reward)
    return grads, Outcome(decision.action, reward, error, terminated | truncated)


def begin(key: chex.PRNGKey, config: augment.AugmentConfig, environment: Environment) -> Player:
    """Make an untrained AuGMEnT network at the start of an episode.

    Args:
      key: a random key.
      config: sizes and parameters; inputs and actions must be the environment's.
      environment: what it will play.

    Returns:
      The ``Player``.

    Raises:
      ValueError: sizes that differ; an environment whose functions do not return what they must.
      TypeError: an argument of another type.
    """
    checks.instance("config", config, augment.AugmentConfig)
    _check_environment(environment)
    for name in ("inputs", "actions"):
        ours, theirs = getattr(config, name), getattr(environment, name)
        if ours != theirs:
            raise ValueError(f"config.{name} must be {theirs}, the environment's, got {ours}")
    weights_key, reset_key = jax.random.split(key)
    state, observation = environment.reset(reset_key)
    learner = augment.init(weights_key, config)
    return Player(learner, state, jnp.asarray(observation, float), jnp.zeros(()))


def play(
    key: chex.PRNGKey,
    config: augment.AugmentConfig,
    player: Player,
    environment: Environment,
    steps: int,
    plastic: chex.Array | bool = True,
) -> tuple[Player, Steps]:
    """Let AuGMEnT act and learn for a number of actions, episode after episode.

    Args:
      key: a random key.
      config: sizes and parameters.
      player: from ``begin``, or an earlier ``play``.
      environment: what it plays.
      steps: actions.
      plastic: bool[], False freezes the network: β = ε = 0.

    Returns:
      ``(player, steps)``.

    Raises:
      ValueError: ``steps`` below 1; an environment whose functions do not return what they must.
      TypeError: an argument of another type.
    """
    checks.instance("config", config, augment.AugmentConfig)
    checks.instance("player", player, Player, "begin gives one")
    _check_environment(environment)
    checks.whole("steps", steps)
    checks.truth_value("plastic", plastic)

    def one(player: Player, numbers: chex.Array) -> tuple[Player, Steps]:
        keys = jax.random.split(jax.random.wrap_key_data(numbers, impl=implementation), 4)
        act_key, step_key, last_key, reset_key = keys
        off = jnp.bool_(False)
        learner, activity = augment.step(
            act_key, config, player.learner, player.observation, player.reward, off, plastic
        )
        state, observation, reward, terminated, truncated = environment.step(
            step_key, player.state, activity.action
        )
        observation, reward = jnp.asarray(observation, float), jnp.asarray(reward, float)
        over = terminated | truncated

        # An episode that is over is seen once more, with its last reward; then all is forgotten.
        closed, last = augment.step(
            last_key, config, learner, observation, reward, terminated, plastic
        )
        fresh_state, fresh = environment.reset(reset_key)
        following = Player(
            learner=_select(over, forget(closed), learner),
            state=_select(over, fresh_state, state),
            observation=jnp.where(over, jnp.asarray(fresh, float), observation),
            reward=jnp.where(over, 0, reward),
        )
        rpe = jnp.where(over, last.rpe, activity.rpe)
        return following, Steps(activity.action, reward, terminated, truncated, rpe)

    # As plain numbers: JAX's check for reused keys does not follow keys through a mapped scan.
    implementation = jax.random.key_impl(key)
    return jax.lax.scan(one, player, jax.random.key_data(jax.random.split(key, steps)))


def forget(learner: augment.AugmentState) -> augment.AugmentState:
    """Reset all that AuGMEnT keeps from step to step, as at a trial's end; weights stay.

    Args:
      learner: between two steps.

    Returns:
      The same weights and feedback weights; all else 0.

    Raises:
      TypeError: ``learner`` is no ``AugmentState``.
    """
    checks.instance("learner", learner, augment.AugmentState, "player.learner is one")
    blank = jax.tree.map(jnp.zeros_like, learner)
    return blank._replace(weights=learner.weights, feedback=learner.feedback)


def _check_environment(environment: Environment) -> None:
    checks.instance("environment", environment, Environment, "from_gymnax gives one")
    checks.whole("environment.inputs", environment.inputs)
    checks.whole("environment.actions", environment.actions)
    checks.function("environment.reset", environment.reset)
    checks.function("environment.step", environment.step)
    begun = jax.eval_shape(environment.reset, jax.random.key(0))
    if not (isinstance(begun, tuple) and len(begun) == 2):
        raise ValueError(f"environment.reset must return (state, observation), got {_told(begun)}")
    state, observation = begun
    if getattr(observation, "size", None) != environment.inputs:
        raise ValueError(
            "environment.reset must return (state, observation), the latter of "
            f"{environment.inputs} numbers, got {_told(observation)}"
        )
    action = jax.ShapeDtypeStruct((), jnp.int32)
    after = jax.eval_shape(environment.step, jax.random.key(0), state, action)
    if not (isinstance(after, tuple) and len(after) == 5):
        raise ValueError(
            "environment.step must return (state, observation, reward, terminated, truncated), got "
            f"{_told(after)}"
        )
    kinds = [jax.tree.map(lambda x: (x.shape, x.dtype), s) for s in (state, after[0])]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"environment.step must return a state like that of reset, {_told(state)}, got "
            f"{_told(after[0])}"
        )


def _told(shapes: Any) -> str:
    return str(jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}", shapes))


def _select(which: chex.Array, these: Any, those: Any) -> Any:
    return jax.tree.map(lambda a, b: jax.lax.select(which, a, b), these, those)
