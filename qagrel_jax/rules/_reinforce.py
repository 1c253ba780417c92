"""REINFORCE through the network: policy gradient from a reward, with structured feedback."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from qagrel_jax.policies import softmax
from qagrel_jax.rules.base import Rule, one_step_rule


def expected_reward(logits: chex.Array) -> chex.Array:
    """Return b = Σ_k p_k², the reward a network expects if its probabilities are right.

    Args:
      logits: float[..., actions].

    Returns:
      float[...], in [1/actions, 1].

    >>> import jax.numpy as jnp
    >>> float(expected_reward(jnp.zeros(4)))
    0.25
    """
    return jnp.square(jax.nn.softmax(logits)).sum(-1)


def reinforce() -> Rule:
    r"""REINFORCE through the network: policy gradient *with* structured feedback.

    The outputs are logits z, p their softmax, and action s is drawn from p. The rule ascends the
    expected reward E[r] with a baseline b that does not depend on the action, the reward that a
    network expects if its probabilities are right:

        b = Σ_k p_k²,        Δw = α (r − b) ∂ log p_s / ∂w.

    Hidden units are deterministic. The derivative runs down the feedback pathway from every output
    unit k, which sends its own error 1[k = s] − p_k, as in backpropagation. Q-AGREL differs in what
    is learned (values, not a policy) and in which outputs send feedback (the chosen one alone).

    Returns:
      A ``Rule`` whose ``update`` takes rewards float[batch] and returns ``(grads, r − b [batch])``.

    Reference:
      Williams (1992), Simple statistical gradient-following algorithms for connectionist
      reinforcement learning, Machine Learning 8.

    >>> import jax, jax.numpy as jnp
    >>> rule = reinforce()
    >>> forward = lambda params, x: x @ params
    >>> decision = rule.act(jax.random.key(0), forward, jnp.zeros((3, 2)), jnp.ones((1, 3)))
    >>> grads, error = rule.update(decision, jnp.ones(1))
    >>> float(error[0]), float(grads[0, decision.action[0]])
    (0.5, -0.25)
    """

    def teaching_signal(
        logits: chex.Array, action: chex.Array, reward: chex.Array
    ) -> tuple[chex.Array, chex.Array]:
        error = reward - expected_reward(logits)
        return -error * surprise(logits, action), error

    return one_step_rule("reinforce", softmax, teaching_signal, estimates="probabilities")


def surprise(logits: chex.Array, action: chex.Array) -> chex.Array:
    """Return ∂ log p_s / ∂ logits = onehot(s) − p.

    Args:
      logits: float[actions].
      action: int[], s.

    Returns:
      float[actions].

    >>> import jax.numpy as jnp
    >>> surprise(jnp.zeros(2), jnp.array(0)).tolist()
    [0.5, -0.5]
    """
    chosen = jax.nn.one_hot(action, logits.shape[0], dtype=logits.dtype)
    return chosen - jax.nn.softmax(logits)
