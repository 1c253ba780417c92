"""What the working-memory rules (AuGMEnT, RECOLLECT, WorkMATe) share: layers as products, actions.

All functions take one network's arrays, or those of many networks along one more axis at the end.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from qagrel_jax import checks
from qagrel_jax.policies import epsilon_greedy, max_boltzmann, none_chosen

Chooser = Callable[[Any, chex.Array, chex.Array], chex.Array]
"""``(randomness, q_values [actions], epsilon []) -> action int32[]``."""

POLICIES: dict[str, Chooser] = {"max_boltzmann": max_boltzmann, "epsilon_greedy": epsilon_greedy}
"""How a working-memory rule explores: by a Boltzmann draw, or uniformly."""

FEEDBACK = ("tied", "kolen_pollack")
"""Their kinds of feedback."""


def by_policy(name: str) -> Chooser:
    """Return a policy for one network or, along a last axis, many, each with a key of its own.

    Args:
      name: a key of ``POLICIES``.

    Returns:
      ``(key, q_values float[actions] or [actions, networks], epsilon of the same networks) ->
      action``.

    Raises:
      ValueError: an unknown name.
      TypeError: no text; from what is returned, ``key`` is no random key.
    """
    checks.option("policy", name, POLICIES)
    policy = POLICIES[name]

    def choose(key: chex.PRNGKey, q_values: chex.Array, epsilon: chex.Array) -> chex.Array:
        checks.random_key("randomness", key)
        if q_values.ndim == 1:
            return policy(key, q_values, epsilon)
        keys = jax.random.split(key, q_values.shape[1])
        return jax.vmap(policy, in_axes=(0, -1, -1))(keys, q_values, epsilon)

    return choose


def chooser(name: str, choose: Chooser | None) -> Chooser:
    """Return how a rule chooses: ``choose``, of one's own, or, if None, the policy of that name."""
    if choose is None:
        return by_policy(name)
    return functools.partial(checks.compiled, "choose", choose)


def check_step(config: Any, config_kind: type, state: Any, state_kind: type, choose: Any) -> None:
    """Check what a rule's ``step`` is given beside numbers.

    Raises:
      TypeError: ``config`` or ``state`` is of another kind, ``choose`` no function.
    """
    checks.instance("config", config, config_kind)
    if choose is not None:
        instead = "those of qagrel_jax.policies are named in config.policy"
        checks.function("choose", choose, instead, ("randomness", "q_values", "epsilon"))
    checks.instance("state", state, state_kind, "init gives one")


def chosen_unit(
    action: chex.Array, q_values: chex.Array, kind: str = "action"
) -> tuple[chex.Array, chex.Array]:
    """Return which Q unit a policy chose: 1 there and 0 elsewhere, and whether it chose none.

    Args:
      action: int32[], or int32[networks].
      q_values: float[actions], or float[actions, networks].
      kind: of action, for the error.

    Returns:
      ``(chosen, none)``, shaped like ``q_values`` and ``action``.

    Raises:
      ValueError: an action that is not one for each network, or no action's number.
      TypeError: no whole number.
    """
    actions, *networks = q_values.shape
    if jnp.shape(action) != tuple(networks):
        raise ValueError(
            f"choose must return an {kind} for each network, {networks}, got "
            f"{list(jnp.shape(action))}"
        )
    checks.labels(f"the {kind} that choose returns", action, actions)
    chosen = jax.nn.one_hot(action, actions, dtype=q_values.dtype, axis=0)
    return chosen, none_chosen(action, actions)


def checked_observation(
    config: Any,
    state: Any,
    observation: chex.Array,
    sizes: Sequence[tuple[chex.Array, tuple[int, int]]],
) -> chex.Array:
    """Return the observation as floats, if ``state`` and ``config`` belong together.

    Args:
      config: of the rule.
      state: of one network, or of many.
      observation: float[inputs], or float[inputs, networks].
      sizes: weights of the state, with the shape that the configuration gives them.

    Raises:
      ValueError: a state of other sizes, or of another feedback; a parameter that is neither one
        number nor one for each network; ``observation`` is not [inputs] (or [inputs, networks]).
      TypeError: complex numbers.
    """
    networks = state.q_previous.shape
    for weights, shape in sizes:
        if weights.shape[:2] != shape:
            raise ValueError(
                f"state must be of the sizes of config, as init makes it: expected weights {shape}"
                f", got {weights.shape[:2]} (of many networks along the last axis, or jax.vmap)"
            )
    if (state.feedback is None) != (config.feedback == "tied"):
        own = "no feedback weights" if state.feedback is None else "feedback weights"
        raise ValueError(
            f"state must be of config.feedback {config.feedback!r}, as init makes it: it has {own}"
        )
    for path, value in jax.tree_util.tree_leaves_with_path(config):
        check_networks(f"config{jax.tree_util.keystr(path)}", value, networks)
    observation = jnp.asarray(observation)
    if jnp.iscomplexobj(observation):
        raise TypeError(f"observation must be real numbers, got {observation.dtype}")
    expected = [config.inputs, *networks]
    if observation.ndim != len(expected) or observation.shape[0] != config.inputs:
        raise ValueError(
            f"observation must be {expected}, got {list(observation.shape)} (of many networks, "
            "along the last axis of every array, or jax.vmap)"
        )
    floats = jnp.issubdtype(observation.dtype, jnp.floating)
    return observation if floats else observation.astype(state.memory.dtype)


def checked_signals(
    state: Any, reward: Any, ended: Any, plastic: Any
) -> tuple[chex.Array, chex.Array]:
    """Return reward and ``plastic`` as arrays, if a step can take them and ``ended``.

    Raises:
      ValueError: a reward that is not finite; one of them is neither one value nor one for each of
        the networks of ``state``.
      TypeError: the reward is no number, ``ended`` or ``plastic`` no truth value.
    """
    checks.finite("reward", reward)
    checks.truth_value("ended", ended)
    checks.truth_value("plastic", plastic)
    for name, value in (("reward", reward), ("ended", ended), ("plastic", plastic)):
        check_networks(name, value, state.q_previous.shape)
    return jnp.asarray(reward), jnp.asarray(plastic)


def check_networks(name: str, value: Any, networks: tuple[int, ...]) -> None:
    """Check that ``value`` is one value for all networks, or one for each.

    Raises:
      ValueError: it isn't.

    >>> check_networks("reward", jnp.zeros(1), ())
    Traceback (most recent call last):
    ValueError: reward must be one value, got shape [1]
    """
    shape = np.shape(value)
    if shape not in ((), networks):
        each = f", or one for each network, {list(networks)}" if networks else ""
        raise ValueError(f"{name} must be one value{each}, got shape {list(shape)}")


def uniform(
    key: chex.PRNGKey, shapes: tuple[tuple[int, int], ...], limit: float
) -> list[chex.Array]:
    """Draw one matrix for each of ``shapes``, uniform in [−limit, limit]."""
    # One draw for all: six compile six times as long.
    ends = np.cumsum([rows * columns for rows, columns in shapes])
    drawn = jax.random.uniform(key, (int(ends[-1]),), minval=-limit, maxval=limit)
    parts = jnp.split(drawn, ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def with_bias(activity: chex.Array, bias: bool = True) -> chex.Array:
    """Put a unit that is always 1 before ``activity``; always 0 where there is no ``bias``."""
    return jnp.concatenate([jnp.full_like(activity[:1], float(bias)), activity])


def project(weights: chex.Array, activity: chex.Array) -> chex.Array:
    """Return weightsᵀ activity, for weights [before, after]."""
    # A product and a sum, not a dot: XLA fuses it and vectorizes over the networks' axis.
    return (weights * activity[:, None]).sum(0)


def outer(before: chex.Array, after: chex.Array) -> chex.Array:
    """Return the product of every pre- with every postsynaptic factor: [before, after]."""
    return before[:, None] * after[None]


def along(value: chex.Numeric, array: chex.Array) -> chex.Numeric:
    """Return ``value``, one number or float[networks], ready to multiply [..., networks]."""
    return value if jnp.ndim(value) == 0 else jnp.asarray(value)[(None,) * (array.ndim - 1)]


def with_feedback(state: Any, tied: chex.Array, forward: Any) -> Any:
    """Return ``state`` with the weights ``forward`` as its feedback where ``tied``.

    Raises:
      ValueError: ``tied`` is neither one value nor one for each of the networks of ``state``.
      TypeError: ``tied`` is no truth value.
    """
    checks.truth_value("tied", tied)
    check_networks("tied", tied, state.q_previous.shape)
    if state.feedback is None:
        return state
    pick = functools.partial(jnp.where, tied)
    return state._replace(feedback=jax.tree.map(pick, forward, state.feedback))


def per_unit(value: chex.Numeric | tuple[float, ...], rank: int) -> chex.Numeric:
    """Return ``value`` ready to multiply an array [units, …] of ``rank``; a tuple is per unit.

    A unit's part may be one number, or float[networks] of the last axis.
    """
    if not isinstance(value, tuple):
        return value
    parts = jnp.stack(jnp.broadcast_arrays(*map(jnp.asarray, value)))
    between = (1,) * (rank - parts.ndim)
    return parts.reshape(parts.shape[0], *between, *parts.shape[1:])


def hybrid_leak(memory: int, *leaks: float) -> tuple[float, ...]:
    """Give the ``memory`` units each of ``leaks`` in equal shares, one after another.

    Args:
      memory: number of memory units, a multiple of the number of leaks.
      *leaks: what each share keeps, in [0, 1].

    Returns:
      One leak a unit, for ``AugmentConfig.leak``.

    Raises:
      ValueError: the units cannot be divided equally among the leaks, a leak out of range.
      TypeError: what is no number.

    Reference:
      Martinolli, Gerstner & Gilra (2018), Multi-timescale memory dynamics extend task repertoire in
      a reinforcement learning network with attention-gated memory, Front Comput Neurosci 12: 50.

    >>> hybrid_leak(4, 0.7, 1.0)
    (0.7, 0.7, 1.0, 1.0)
    """
    checks.whole("memory", memory)
    for leak in leaks:
        checks.number("leak", leak, 0, 1)
    if not leaks or memory % len(leaks):
        raise ValueError(f"memory must be a multiple of the {len(leaks)} leaks, got {memory}")
    share = memory // len(leaks)
    return tuple(leak for leak in leaks for _ in range(share))
