"""Node perturbation: Q-AGREL's objective without any structured feedback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from qagrel_jax import checks
from qagrel_jax.policies import Policy, max_boltzmann
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


class PerturbedDecision(NamedTuple):
    """A ``rules.Decision``, and what the noise made of the outputs."""

    action: chex.Array  # int32[batch], the chosen action s
    outputs: chex.Array  # float[batch, actions], Q values without noise
    aux: Any  # what ``forward`` returned beside the outputs; None if nothing
    pathway: Callable[[chex.Array], chex.ArrayTree]  # global scalars [batch] -> params-like
    noisy_outputs: chex.Array  # float[batch, actions], q̃


def node_perturbation(policy: Policy = max_boltzmann, noise_sd: float = 0.1) -> Rule:
    r"""Node perturbation: Q-AGREL's objective without any structured feedback.

    A pass without noise gives the Q values q. The policy chooses action s, the environment answers
    with reward r. In a second pass every unit, output units included, gets noise σ ξ_j of its own,
    and the Q values are q̃. One global scalar says how much worse the noise made the prediction of
    the reward, and every synapse correlates it with the noise of its own unit:

        E = ½ (r − q_s)²,        Ẽ = ½ (r − q̃_s)²,        Δw_ij = −α (Ẽ − E) x_i ξ_j / σ.

    No feedback tells a unit what it contributed to the chosen action. On average over the noise,
    and for small σ, the change is −α ∇E, which is Q-AGREL's with tied feedback. A single change
    follows it only as closely as one random direction does, the less closely the more units there
    are. Attention feedback avoids this variance.

    Args:
      policy: ``(key, q_values [actions]) -> action``.
      noise_sd: σ > 0 of the noise in every unit's input current.

    Returns:
      A ``Rule`` whose ``update`` takes rewards float[batch] and returns ``(grads, δ = r − q_s)``.
      ``act`` needs a network made of ``qagrel_jax.layers`` and runs it twice. Their kernels and
      biases learn; other parameters, such as those of normalization, get no change.

    Raises:
      TypeError: ``policy`` is no function, ``noise_sd`` no number; from ``act``, ``forward`` is no
        function.
      ValueError: ``noise_sd`` not positive; from ``act``, a network without a known layer.

    References:
      Werfel, Xie & Seung (2005), Learning curves for stochastic gradient descent in linear
      feedforward networks, Neural Computation 17. (The pass without noise as the baseline.)
      Fiete & Seung (2006), Gradient learning in spiking neural networks by dynamic perturbation of
      conductances, Physical Review Letters 97.

    >>> import jax, jax.numpy as jnp
    >>> from qagrel_jax.networks import DenseNet
    >>> network, inputs = DenseNet(num_actions=2, hidden=(3,)), jnp.ones((1, 4))
    >>> params = network.init(jax.random.key(0), inputs)["params"]
    >>> forward = lambda params, x: network.apply({"params": params}, x)
    >>> rule = node_perturbation()
    >>> decision = rule.act(jax.random.key(1), forward, params, inputs)
    >>> grads, rpe = rule.update(decision, jnp.ones(1))
    """
    check_noise_sd(noise_sd)
    checks.function("policy", policy, "make_policy gives one by its name", ("key", "q_values"))

    def act(
        key: chex.PRNGKey,
        forward: Forward,
        params: chex.ArrayTree,
        inputs: chex.Array,
        has_aux: bool = False,
    ) -> PerturbedDecision:
        check_act(key, forward, params)
        choice_key, noise_key = jax.random.split(key)
        outputs, aux, layers = quiet_pass(forward, params, inputs, has_aux)
        action = choose(policy, choice_key, outputs)
        noisy = noisy_pass(noise_key, forward, params, inputs, has_aux, noise_sd, layers)

        pathway = jax.tree_util.Partial(_without_delta_rule, noisy.pathway, outputs)
        return PerturbedDecision(action, outputs, aux, pathway, noisy.outputs)

    def update(
        decision: PerturbedDecision, outcome: chex.Array
    ) -> tuple[chex.ArrayTree, chex.Array]:
        check_decision(decision, PerturbedDecision)
        batch, actions = decision.outputs.shape
        outcome = checked_rewards(outcome, batch)
        chosen = decision.action[:, None]
        rpe = outcome - jnp.take_along_axis(decision.outputs, chosen, 1)[:, 0]
        noisy_rpe = outcome - jnp.take_along_axis(decision.noisy_outputs, chosen, 1)[:, 0]
        worse = (jnp.square(noisy_rpe) - jnp.square(rpe)) / 2
        scalars = (worse / batch).astype(decision.outputs.dtype)
        return decision.pathway(scalars), known_errors(decision.action, rpe, actions)

    return Rule("node_perturbation", "reward", act, update)


def _without_delta_rule(
    learn: Callable[[chex.Array, chex.Array], chex.ArrayTree],
    outputs: chex.Array,
    scalars: chex.Array,
) -> chex.ArrayTree:
    return learn(scalars, jnp.zeros_like(outputs))
