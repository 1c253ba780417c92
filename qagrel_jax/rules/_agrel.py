"""AGREL: attention-gated reinforcement learning in a network of three layers."""

import chex
import jax
import jax.numpy as jnp

from qagrel_jax import checks
from qagrel_jax.policies import softmax
from qagrel_jax.rules.base import Rule, one_step_rule


def expand(delta: chex.Array, bound: float = 100.0) -> chex.Array:
    """Return f(δ) = min(δ/(1 − δ), bound) for δ ≥ 0, and δ for δ < 0, so that f(−1) = −1.

    Args:
      delta: float[...], each ≤ 1.
      bound: largest value of f, > 0.

    Returns:
      float[...], in [−1, bound] for δ in [−1, 1].

    Raises:
      ValueError: ``bound`` not positive.
      TypeError: ``bound`` is no number.

    >>> import jax.numpy as jnp
    >>> expand(jnp.array([-1.0, 0.0, 0.5, 0.75, 1.0])).tolist()
    [-1.0, 0.0, 1.0, 3.0, 100.0]
    """
    _check_bound(bound)
    # Compared before dividing: 1 − δ may be 0.
    largest = bound / (1 + bound)
    inside = jnp.minimum(delta, largest)
    return jnp.where(delta >= largest, bound, jnp.where(delta < 0, delta, inside / (1 - inside)))


def prediction_error(p_selected: chex.Array, reward: chex.Array) -> chex.Array:
    """Return δ = 1 − p_s if the winner was rewarded, −1 if not.

    Args:
      p_selected: float[], probability with which the winner was chosen.
      reward: float[]; anything above 0 is a reward.

    Returns:
      float[]; NaN for a reward of NaN.
    """
    delta = jnp.where(reward > 0, 1 - p_selected, -jnp.ones_like(p_selected))
    return jnp.where(jnp.isnan(reward), jnp.nan, delta)


def agrel(bound: float = 100.0) -> Rule:
    r"""AGREL: attention-gated reinforcement learning in a network of three layers.

    Hidden units are sigmoids of their input, a bias input included. The output units compete, and
    the winner s is drawn from the softmax p of their activations:

        y_j = σ(Σ_i v_ij x_i),     p_k = exp(Σ_j w_jk y_j) / Σ_l exp(Σ_j w_jl y_j),     s ~ p.

    The environment rewards the winner or not, and one scalar goes to every synapse:

        δ = 1 − p_s if rewarded, −1 if not,
        f(δ) = δ/(1 − δ) for δ ≥ 0,         f(−1) = −1.

    The winner alone sends attention feedback, through w'_sj. Only its own synapses and those onto
    hidden units from which it receives input can change:

        Δw_js = β f(δ) y_j,                 Δv_ij = β f(δ) x_i y_j (1 − y_j) w'_sj.

    The expansive f compensates for the rarity of rewards: a correct choice of probability p_s is
    made in a fraction p_s of the trials and counts f(1 − p_s) = (1 − p_s)/p_s, a wrong one counts
    −1. On average over the winner, output unit k therefore receives (k is correct) − p_k. With tied
    feedback, w'_sj = w_js, the expected change is that of error-backpropagation of the softmax
    cross-entropy.

    **The bound.** f grows without limit as δ → 1, that is, when a choice that the network held to
    be nearly impossible turns out to be correct; one such trial could ruin the weights. Here f(δ) ≤
    ``bound``. It applies only where p_s < 1/(1 + bound). There the expected change of synapses onto
    the correct output unit is smaller than backpropagation's, never of the other sign; onto the
    others it is the same. For synapses onto hidden units, where the contribution of the correct
    choice is bounded and those of the wrong ones are not, even the sign may differ.

    The network's outputs are the activations before the softmax; the policy, a draw from their
    softmax, is part of the rule. ``qagrel_jax.networks.ThreeLayer`` is the paper's network; its
    ``feedback`` says whether w' is tied to w or a set of weights of its own.

    Args:
      bound: largest f(δ), > 0.

    Returns:
      A ``Rule`` whose ``update`` takes rewards float[batch] (above 0: rewarded) and returns
      ``(grads, δ [batch])``.

    Raises:
      ValueError: ``bound`` not positive.
      TypeError: ``bound`` is no number.

    Reference:
      Roelfsema & van Ooyen (2005), Attention-gated reinforcement learning of internal
      representations for classification, Neural Computation 17.

    >>> import jax, jax.numpy as jnp
    >>> rule = agrel()
    >>> forward = lambda params, x: x @ params
    >>> params, inputs = jnp.zeros((3, 4)), jnp.ones((1, 3))
    >>> decision = rule.act(jax.random.key(0), forward, params, inputs)
    >>> grads, delta = rule.update(decision, jnp.ones(1))
    >>> float(delta[0]), float(grads[0, decision.action[0]])  # δ = 1 − 1/4, −f(δ) = −3
    (0.75, -3.0)
    """
    _check_bound(bound)

    def teaching_signal(
        logits: chex.Array, action: chex.Array, reward: chex.Array
    ) -> tuple[chex.Array, chex.Array]:
        delta = prediction_error(jax.nn.softmax(logits)[action], reward)
        winner = jax.nn.one_hot(action, logits.shape[0], dtype=logits.dtype)
        return -expand(delta, bound) * winner, delta

    return one_step_rule("agrel", softmax, teaching_signal, estimates="probabilities")


def _check_bound(bound: float) -> None:
    checks.number("bound", bound, 0, above=True)
