"""Q-AGREL: deep networks that learn from a reward alone."""

from __future__ import annotations

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from qagrel_jax import checks
from qagrel_jax.policies import Policy, max_boltzmann
from qagrel_jax.rules.base import Rule, one_step_rule

RewardPredictionError = Callable[[chex.Array, chex.Array], chex.Array]
"""``(q_selected [], reward []) -> δ []``."""


def reward_prediction_error(q_selected: chex.Array, reward: chex.Array) -> chex.Array:
    """Return δ = r − q_s, the reward that came minus the reward that was expected.

    Args:
      q_selected: float[], Q value of the chosen action, in units of reward.
      reward: float[].

    Returns:
      float[].
    """
    return reward - q_selected


def amplified_prediction_error(gain: float) -> RewardPredictionError:
    """Make δ = gain·(r − q_s) where the reward exceeds what was expected, r − q_s elsewhere.

    Early in learning nearly every choice fails, and a rare success carries all the information;
    dopamine neurons, too, signal positive errors over a wider range than negative ones (Bayer &
    Glimcher 2005). The published rule has gain 1. With another gain the Q value of an action that
    is rewarded with probability P no longer settles at P but at gain·P / (gain·P + 1 − P), an
    expectile, which orders the actions all the same.

    Args:
      gain: > 0.

    Returns:
      ``(q_selected [], reward []) -> δ []``.

    Raises:
      ValueError: ``gain`` not positive.
      TypeError: ``gain`` is no number.

    >>> import jax.numpy as jnp
    >>> rpe = amplified_prediction_error(3.0)
    >>> float(rpe(jnp.array(0.5), jnp.array(1.0))), float(rpe(jnp.array(0.5), jnp.array(0.0)))
    (1.5, -0.5)
    """
    checks.number("gain", gain, 0, above=True)

    def rpe(q_selected: chex.Array, reward: chex.Array) -> chex.Array:
        delta = reward_prediction_error(q_selected, reward)
        return jnp.where(delta > 0, gain * delta, delta)

    return rpe


def q_agrel(
    policy: Policy = max_boltzmann,
    rpe: RewardPredictionError = reward_prediction_error,
) -> Rule:
    r"""Q-AGREL (BrainProp): deep networks that learn from a reward alone.

    For each example the network computes Q values q, one per action, and a policy chooses action s.
    The environment answers with a reward r. The reward-prediction error

        δ = r − q_s

    is one scalar, broadcast to every synapse. Attention feedback starts at the chosen unit with
    value 1 and runs down through each layer's feedback weights W' [inputs, units], shaped like its
    forward weights W, gated by the derivative g = f'(a) of each unit's activation function. From
    the output layer, L, to the hidden layer below it, and on down:

        FB_{L−1} = W'_L[:, s],        FB_{l−1} = W'_l (g_l ∘ FB_l).

    Each synapse changes by what it knows locally and δ, with x_l the presynaptic activity:

        ΔW_L[:, s] = α δ x_L,         ΔW_l = α δ x_l (g_l ∘ FB_l)ᵀ in the hidden layers.

    Synapses onto the other outputs do not change. With tied feedback, W' = W, this is
    −α ∇ ½(r − q_s)²: error-backpropagation of one output unit at a time.

    The chosen unit is known by its index, never by its activity, so q_s = 0 learns like any other.

    Args:
      policy: ``(key, q_values [actions]) -> action``; the papers' is ``max_boltzmann``, ε = 0.02.
      rpe: ``(q_selected, reward) -> δ``.

    Returns:
      A ``Rule`` whose ``update`` takes rewards float[batch] and returns ``(grads, δ [batch])``.

    Raises:
      TypeError: ``policy`` or ``rpe`` is no function.
      ValueError: from ``update``, an ``rpe`` that returns more than a number.

    References:
      Pozzi, Bohté & Roelfsema (2018), arXiv:1811.01768.
      Pozzi, Bohté & Roelfsema (2020), Attention-gated brain propagation (BrainProp), NeurIPS 33.

    >>> import jax, jax.numpy as jnp
    >>> rule = q_agrel()
    >>> forward = lambda params, x: x @ params
    >>> params, inputs = jnp.zeros((3, 2)), jnp.ones((1, 3))
    >>> decision = rule.act(jax.random.key(0), forward, params, inputs)
    >>> grads, rpe = rule.update(decision, jnp.ones(1))
    >>> float(rpe[0]), float(grads[0, decision.action[0]])
    (1.0, -1.0)
    """
    checks.function("rpe", rpe, takes=("q_selected", "reward"))

    def teaching_signal(
        q_values: chex.Array, action: chex.Array, reward: chex.Array
    ) -> tuple[chex.Array, chex.Array]:
        delta = jnp.asarray(rpe(q_values[action], reward))
        if delta.ndim:
            raise ValueError(f"rpe must return one number, δ [], got {list(delta.shape)}")
        chosen = jax.nn.one_hot(action, q_values.shape[0], dtype=q_values.dtype)
        return -delta * chosen, delta

    return one_step_rule("q_agrel", policy, teaching_signal)
