r"""Noise in every unit, and each synapse's record of the noise it met: its eligibility.

The noise ξ_j ~ N(0, 1) of unit j, scaled by σ, adds to the unit's input current a_j. The synapse
i → j of a layer remembers what it saw, summed over the positions that share the synapse:

    a_j = Σ_i w_ij x_i + σ ξ_j,        eligibility_ij = x_i ξ_j / σ,

with x_i the presynaptic activity, itself noisy where i is noisy. A global scalar times the
eligibility is all that learning by perturbation needs; nothing runs down through the network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from qagrel_jax import checks
from qagrel_jax.layers.interception import Layer, each_layer
from qagrel_jax.policies import at_least_float32
from qagrel_jax.rules.base import batch_of, outputs_and_aux, run_forward


class NoisyPass(NamedTuple):
    """What one noisy forward pass gave."""

    outputs: chex.Array  # float[batch, actions], with noise, float32 or wider
    pathway: Callable[[chex.Array, chex.Array], chex.ArrayTree]
    # (scalars float[batch], output errors float[batch, actions]) -> params-like: Σ_b scalar_b ×
    # eligibility_b; an output layer without noise gets its own delta rule, Σ_b y_b error_bᵀ


def quiet_pass(
    forward: Callable[..., Any], params: chex.ArrayTree, inputs: chex.Array, has_aux: bool
) -> tuple[chex.Array, Any, int]:
    """Run ``forward`` without noise.

    Returns:
      ``(outputs float[batch, actions], aux or None, number of layers)``.

    Raises:
      ValueError: outputs that are not [batch, actions]; ``forward`` runs no layer of
        ``qagrel_jax.layers``: no unit would get noise; or as in ``rules.base.run_forward``.
      TypeError: ``forward`` is no function of parameters and inputs, or ``has_aux`` is not what it
        returns.
    """
    with each_layer(lambda index, layer, x: layer(x)) as layers_run:
        result = run_forward(forward, params, inputs)
    outputs, aux = outputs_and_aux(result, has_aux)
    if not layers_run():
        raise ValueError("perturbation needs a network made of qagrel_jax.layers, found none")
    return jax.lax.stop_gradient(outputs), aux, layers_run()


def noisy_pass(
    key: chex.PRNGKey,
    forward: Callable[..., Any],
    params: chex.ArrayTree,
    inputs: chex.Array,
    has_aux: bool,
    noise_sd: float,
    noisy_layers: int,
) -> NoisyPass:
    """Run ``forward`` with noise in the units of the first ``noisy_layers`` layers.

    Args:
      key: a random key; layer l draws from the key folded with l.
      forward: as in ``rules.base``.
      params: its parameters.
      inputs: float[batch, ...].
      has_aux: whether ``forward`` returns ``(outputs, aux)``.
      noise_sd: σ, in units of the input current.
      noisy_layers: layers after these are quiet.

    Returns:
      A ``NoisyPass``. Parameters of normalization get no change: they are no synapses.
    """

    def run(params: chex.ArrayTree) -> tuple[chex.Array, chex.Array]:
        eligibility = jnp.zeros(batch_of(inputs))

        def perturb(index: int, layer: Layer, x: chex.Array) -> chex.Array:
            nonlocal eligibility
            # What lies below must not hear of what this layer did: there is no way down.
            current = layer(jax.lax.stop_gradient(x))
            if index >= noisy_layers:
                return current
            noise = _draw(jax.random.fold_in(key, index), current)
            # Its derivative by the synapses is Σ x_i ξ_j / σ, an example at a time.
            seen = at_least_float32(current) * at_least_float32(noise)
            seen = seen.reshape(len(current), -1).sum(1) / noise_sd
            eligibility = eligibility + seen
            return jax.lax.stop_gradient(current + noise_sd * noise)

        with each_layer(perturb):
            result = run_forward(forward, params, inputs)
        outputs = at_least_float32(result[0] if has_aux else result)
        return outputs, eligibility.astype(outputs.dtype)

    (outputs, _), pathway = jax.vjp(run, params)
    return NoisyPass(jax.lax.stop_gradient(outputs), jax.tree_util.Partial(_learn, pathway))


def check_noise_sd(noise_sd: float) -> None:
    """Raise ``ValueError`` (``TypeError``) unless ``noise_sd`` is a number, positive and finite."""
    checks.number("noise_sd", noise_sd, 0, above=True)


def _learn(
    pathway: Callable[[Any], tuple], scalars: chex.Array, output_errors: chex.Array
) -> chex.ArrayTree:
    return pathway((output_errors, scalars))[0]


def _draw(key: chex.PRNGKey, like: chex.Array) -> chex.Array:
    return jax.random.normal(key, like.shape, like.dtype)
