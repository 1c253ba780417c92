"""AuGMEnT in steps of dt = T / ``substeps`` while each action lasts for T: a variant, ours.

It is a construction in the spirit of continuous-time AuGMEnT (Zambrano, Roelfsema & Bohte 2021),
not that paper's equations.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp

from qagrel_jax import checks
from qagrel_jax.rules import augment
from qagrel_jax.rules.augment import Activity, AugmentConfig, AugmentState, Chooser


def in_steps_of(config: AugmentConfig, fraction: float) -> AugmentConfig:
    """Return the parameters of a step of dt = ``fraction`` · T: γ, λ, leak to its power, β · dt/T.

    Args:
      config: those of a step of T.
      fraction: dt/T, in (0, 1].

    Returns:
      The same sizes, other parameters.

    Raises:
      ValueError: ``fraction`` out of range.
      TypeError: ``fraction`` is no number.

    >>> config = in_steps_of(AugmentConfig(inputs=4, discount=0.81), 0.5)
    >>> config.discount, config.learning_rate
    (0.9, 0.075)
    """
    checks.number("fraction", fraction, 0, 1, above=True)
    return dataclasses.replace(
        config,
        learning_rate=config.learning_rate * fraction,
        tag_decay=config.tag_decay**fraction,
        discount=config.discount**fraction,
        leak=jax.tree.map(lambda leak: leak**fraction, config.leak),
    )


def step(
    randomness: Any,
    config: AugmentConfig,
    state: AugmentState,
    observation: chex.Array,
    reward: chex.Array,
    ended: chex.Array,
    plastic: chex.Array | bool = True,
    choose: Chooser | None = None,
    *,
    substeps: int,
) -> tuple[AugmentState, Activity]:
    r"""Observe, choose, and hold that action for T. Arguments and axes as in ``augment.step``.

    The environment answers once in T. In between the input stays, the action chosen at the
    beginning is held, there is no reward, and the network keeps comparing, learning and tagging:

        δ = r + γ^{dt/T} q_a(t) − q_a(t−dt),        Δw = β δ Tag,
        Tag ← (λγ)^{dt/T} Tag + dt/T · (what AuGMEnT adds in a step).

    Transients are changes of the input, so they come once however short dt is. A leaky memory keeps
    leak^{dt/T}. With one substep this is ``augment.step``, to the bit.

    As Δw is linear in what is added to the tags, the factor dt/T is put on β instead: the tags in
    the state are T/dt times those above.

    Args:
      randomness: what ``choose`` draws from.
      config: sizes and parameters, those of a step of T.
      state: from ``augment.init`` or the previous step.
      observation: float[inputs], what is seen throughout.
      reward: float[], brought by the previous action, at its end.
      ended: bool[], whether that action ended the trial.
      plastic: bool[], False freezes the network.
      choose: the policy; None for ``config.policy``.
      substeps: T/dt; 1 is AuGMEnT.

    Returns:
      ``(state, activity)``; the activity is that at the beginning, when the action is chosen.

    Raises:
      ValueError: ``substeps`` below 1.
      TypeError: ``substeps`` is no number. Both also as in ``augment.step``.
    """
    checks.whole("substeps", substeps)
    if substeps > 1:
        config = in_steps_of(config, 1 / substeps)
    state, activity = augment.step(
        randomness, config, state, observation, reward, ended, plastic, choose
    )
    if substeps == 1:
        return state, activity
    ended = jnp.asarray(ended)

    def hold(_: int, state: AugmentState) -> AugmentState:
        after, _activity = augment.step(
            activity.action,
            config,
            state,
            observation,
            jnp.zeros_like(reward),
            jnp.zeros_like(ended),
            plastic,
            _held,
        )
        # Between trials there is nothing to hold on to.
        return jax.tree.map(
            lambda new, old: jnp.where(ended[(None,) * (new.ndim - ended.ndim)], old, new),
            after,
            state,
        )

    return jax.lax.fori_loop(1, substeps, hold, state), activity


def _held(action: chex.Array, q_values: chex.Array, epsilon: chex.Array) -> chex.Array:
    del q_values, epsilon
    return action
