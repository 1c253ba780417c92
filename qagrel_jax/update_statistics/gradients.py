"""The gradients that updates are compared with."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from qagrel_jax import checks
from qagrel_jax.rules.base import Forward
from qagrel_jax.tasks import classification
from qagrel_jax.update_statistics.moments import (
    Probabilities,
    Reward,
    check_examples,
    unused_key,
)


def objective_gradients(
    forward: Forward,
    params: chex.ArrayTree,
    inputs: chex.Array,
    labels: chex.Array,
    probabilities: Probabilities,
    reward: Reward = classification.reward,
) -> dict[str, chex.ArrayTree]:
    """Gradients of what the rules are said to descend, each the mean over a batch.

    ``cross_entropy``     −log softmax(q)_label: error-backpropagation, and AGREL on average
    ``prediction_error``  Σ_s π(s) ½(r_s − q_s)², π held fixed: Q-AGREL on average
    ``expected_reward``   −Σ_s p_s r_s with p the softmax of q: REINFORCE on average

    Args:
      forward: ``(params, inputs) -> outputs [batch, actions]``, a network of tied feedback.
      params: its parameters.
      inputs: float[batch, ...].
      labels: int[batch].
      probabilities: π, the policy of ``prediction_error``.
      reward: what the task answers; not random.

    Returns:
      ``{objective: gradient}``, uphill, shaped like ``params``.

    Raises:
      ValueError: inputs that are not finite, labels that are no action's or not one for each input.
      TypeError: an argument of another type.

    >>> import jax.numpy as jnp
    >>> from qagrel_jax.policies import softmax_probabilities
    >>> gradients = objective_gradients(lambda p, x: x @ p, jnp.zeros((1, 2)), jnp.ones((1, 1)),
    ...     jnp.array([0]), softmax_probabilities)
    >>> gradients["cross_entropy"].tolist(), gradients["expected_reward"].tolist()
    ([[-0.5, 0.5]], [[-0.25, 0.25]])
    """
    checks.function("probabilities", probabilities, takes=("outputs",))
    inputs, labels = check_examples(forward, params, inputs, labels, reward)
    outputs, pathway = jax.vjp(lambda p: forward(p, inputs), params)
    batch, actions = outputs.shape
    rewards = jax.vmap(
        lambda action: checks.compiled(
            "reward", reward, unused_key(), labels, jnp.full(batch, action)
        ),
        out_axes=1,
    )(jnp.arange(actions)).astype(outputs.dtype)

    def cross_entropy(q: chex.Array) -> chex.Array:
        return -jnp.take_along_axis(jax.nn.log_softmax(q), labels[:, None], 1).mean()

    def prediction_error(q: chex.Array) -> chex.Array:
        policy = jax.lax.stop_gradient(jax.vmap(probabilities)(q))
        return (policy * jnp.square(rewards - q)).sum(1).mean() / 2

    def expected_reward(q: chex.Array) -> chex.Array:
        return -(jax.nn.softmax(q) * rewards).sum(1).mean()

    losses = (cross_entropy, prediction_error, expected_reward)
    return {loss.__name__: pathway(jax.grad(loss)(outputs))[0] for loss in losses}
