"""REINFORCE with stochastic hidden units: policy gradient without structured feedback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax

from qagrel_jax.policies import softmax
from qagrel_jax.rules._reinforce import expected_reward, surprise
from qagrel_jax.rules.base import (
    Forward,
    Rule,
    check_act,
    check_decision,
    checked_rewards,
    choose,
    known_errors,
)
from qagrel_jax.rules.perturbation import check_noise_sd, noisy_pass, quiet_pass


class StochasticDecision(NamedTuple):
    """A ``rules.Decision`` of stochastic units, and what they would do without noise."""

    action: chex.Array  # int32[batch], the chosen action s
    outputs: chex.Array  # float[batch, actions], logits with noise, which the action was drawn from
    aux: Any  # what ``forward`` returned beside the outputs; None if nothing
    pathway: Callable[[chex.Array, chex.Array], chex.ArrayTree]
    # (global scalars [batch], output errors [batch, actions]) -> params-like
    quiet_outputs: chex.Array  # float[batch, actions], logits without noise


def stochastic_units(noise_sd: float = 0.1) -> Rule:
    r"""REINFORCE with stochastic hidden units: policy gradient *without* structured feedback.

    Williams's original rule: every hidden unit is stochastic, here Gaussian around its input
    current, with noise σ ξ_j. It correlates its own noise with the global reward. p is the softmax
    of the outputs without noise, p̃ with noise, and action s is drawn from p̃:

        b = Σ_k p_k²,
        Δw_ij = α (r − b) x_i ξ_j / σ for hidden units,
        Δw_jk = α (r − b) y_j (1[k = s] − p̃_k) for output units.

    No feedback enters the hidden layers: their only signal is the scalar r − b.

    Args:
      noise_sd: σ > 0 of the Gaussian hidden units, in units of their input current.

    Returns:
      A ``Rule`` whose ``update`` takes rewards float[batch] and returns ``(grads, r − b [batch])``.
      ``act`` needs a network made of ``qagrel_jax.layers``; its output layer (the one that runs
      last) has no noise of its own but the draw of the action. The network runs twice. Kernels and
      biases of these layers learn; other parameters, such as those of normalization, get no change.

    Raises:
      TypeError: ``noise_sd`` is no number; from ``act``, ``forward`` is no function.
      ValueError: ``noise_sd`` not positive; from ``act``, a network without a known layer.

    Reference:
      Williams (1992), Simple statistical gradient-following algorithms for connectionist
      reinforcement learning, Machine Learning 8.

    >>> import jax, jax.numpy as jnp
    >>> from qagrel_jax.networks import DenseNet
    >>> network, inputs = DenseNet(num_actions=2, hidden=(3,)), jnp.ones((1, 4))
    >>> params = network.init(jax.random.key(0), inputs)["params"]
    >>> forward = lambda params, x: network.apply({"params": params}, x)
    >>> rule = stochastic_units()
    >>> decision = rule.act(jax.random.key(1), forward, params, inputs)
    >>> grads, error = rule.update(decision, jnp.ones(1))
    """
    check_noise_sd(noise_sd)

    def act(
        key: chex.PRNGKey,
        forward: Forward,
        params: chex.ArrayTree,
        inputs: chex.Array,
        has_aux: bool = False,
    ) -> StochasticDecision:
        check_act(key, forward, params)
        choice_key, noise_key = jax.random.split(key)
        quiet, aux, layers = quiet_pass(forward, params, inputs, has_aux)
        noisy = noisy_pass(noise_key, forward, params, inputs, has_aux, noise_sd, layers - 1)
        action = choose(softmax, choice_key, noisy.outputs)
        return StochasticDecision(action, noisy.outputs, aux, noisy.pathway, quiet)

    def update(
        decision: StochasticDecision, outcome: chex.Array
    ) -> tuple[chex.ArrayTree, chex.Array]:
        check_decision(decision, StochasticDecision)
        batch, actions = decision.outputs.shape
        outcome = checked_rewards(outcome, batch)
        error = outcome - expected_reward(decision.quiet_outputs)
        surprises = jax.vmap(surprise)(decision.outputs, decision.action)
        signals = -error / batch, -error[:, None] * surprises / batch
        grads = decision.pathway(*(s.astype(decision.outputs.dtype) for s in signals))
        return grads, known_errors(decision.action, error, actions)

    return Rule("stochastic_units", "reward", act, update, estimates="probabilities")
