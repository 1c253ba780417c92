"""The kinds of feedback pathway: which weights carry feedback from a layer to the layer below.

A layer computes y = x W. On the way down the cotangent ȳ of its units reaches the layer below
through *feedback weights* B, and the synapses W change by presynaptic activity × feedback:

    up:    y = x W
    down:  x̄ = ȳ Bᵀ,        W̄ = xᵀ ȳ.

===================  ============================================================================
``tied``             B = W: weight transport, which the papers' simulations assume. With it x̄ and
                     W̄ are the true gradient.
``kolen_pollack``    B is drawn independently and gets the update and the decay that W gets, so that
                     their difference decays (Kolen & Pollack 1994), if the optimizer looks at
                     gradients alone, as SGD and Adam do. LAMB and Adafactor scale each array's
                     update by its size.
``random``           Feedback alignment: B is drawn independently and stays fixed (Lillicrap et al.
                     2016).
``sign``             Sign symmetry with uniform magnitudes: B = s·sign(W)·mean|W| (uniform
                     sign-concordant feedback; Liao, Leibo & Poggio 2016).
``sign_batchwise``   Sign symmetry, B = s·sign(W)∘M, with magnitudes M drawn anew in each pass
                     (batch-wise random magnitude; Liao et al. 2016).
``sign_fixed``       Sign symmetry, B = s·sign(W)∘M, with magnitudes M drawn once (fixed random
                     magnitude; Liao et al. 2016).
``direct``           Direct feedback alignment: x̄ = e Bᵀ, where e is the error of the *network's
                     outputs* and B [inputs, actions] is drawn independently and stays fixed
                     (Nøkland 2016).
``product``          Product feedback alignment: feedback passes an extra population of units, x̄ =
                     (ȳ M) Cᵀ, with M fixed and C learning by C̄ = xᵀ (ȳ M), its presynaptic and
                     postsynaptic activity. With decay C comes to W M and B = C Mᵀ to W M Mᵀ ≈ W,
                     though no pair of units is connected both ways (Ji-An & Benna 2024).
===================  ============================================================================

What is our reading: the magnitudes. The papers' uniform magnitude is one number for all weights;
here it follows the layer, mean|W|. M of ``sign_batchwise`` and ``sign_fixed`` is the absolute value
of what the layer's initializer draws. Moskovitz, Litwin-Kumar & Abbott (2018) found that in deep
networks such magnitudes decide; they keep the norm of W constant besides, which is not done here.
The equations of ``product``, M's variance (one over the size of the extra population, so that M Mᵀ
is the identity on average) and 1×1 windows of M in convolutional layers are those of its authors'
published code.

``s`` is ``feedback_scale``. Weights that learn are parameters (``feedback_kernel``), so that the
optimizer and its weight decay treat both directions alike; fixed ones live in the collection
``"feedback"``, and stay out of what an optimizer is given, or its weight decay would change them.
Only ``tied`` and the ``sign`` kinds read W on the way down. Within ``jax.shard_map`` all kinds but
``tied`` need ``check_vma=False``.

``reciprocal`` and ``separate``, earlier names of ``kolen_pollack``, are still understood.

References:
  Kolen & Pollack (1994), Backpropagation without weight transport, IEEE ICNN.
  Lillicrap, Cownden, Tweed & Akerman (2016), Nature Communications 7.
  Liao, Leibo & Poggio (2016), How important is weight symmetry in backpropagation?, AAAI.
  Nøkland (2016), Direct feedback alignment, NeurIPS 29.
  Moskovitz, Litwin-Kumar & Abbott (2018), arXiv:1812.06488.
  Ji-An & Benna (2024), Deep learning without weight symmetry, arXiv:2405.20594.
"""

from __future__ import annotations

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from qagrel_jax import checks
from qagrel_jax.layers.convolution import in_forward_mode
from qagrel_jax.layers.precision import as_multiplied

FEEDBACKS = (
    "tied",
    "kolen_pollack",
    "random",
    "sign",
    "sign_batchwise",
    "sign_fixed",
    "direct",
    "product",
)
"""The kinds of feedback pathway."""

ALIASES = {"reciprocal": "kolen_pollack", "separate": "kolen_pollack"}
"""Earlier names."""

Linear = Callable[[chex.Array, chex.Array], chex.Array]
"""``(inputs, kernel) -> outputs``, linear in each."""


def canonical(feedback: str) -> str:
    """Return the name of a kind of feedback pathway, also given an earlier name of it.

    Args:
      feedback: one of ``FEEDBACKS`` or a key of ``ALIASES``.

    Returns:
      One of ``FEEDBACKS``.

    Raises:
      ValueError, TypeError: an unknown name, or none.

    >>> canonical("reciprocal")
    'kolen_pollack'
    """
    name = ALIASES.get(feedback, feedback) if isinstance(feedback, str) else feedback
    checks.option("feedback", name, FEEDBACKS)
    return name


def with_feedback(linear: Linear) -> Callable[[chex.Array, chex.Array, chex.Array], chex.Array]:
    """Give a bilinear map ``linear(inputs, kernel)`` a feedback pathway.

    Args:
      linear: linear in ``inputs`` and in ``kernel``.

    Returns:
      ``f(inputs, kernel, feedback_kernel)``, whose value is ``linear(inputs, kernel)`` and whose
      backward pass sends the cotangent to ``inputs`` through ``feedback_kernel`` instead of
      ``kernel``. ``kernel`` and ``feedback_kernel`` receive the same cotangent, that of ``kernel``:
      wrap the latter in ``jax.lax.stop_gradient`` where it is not to learn. What comes down is not
      the derivative of a function, so it can't be differentiated again, nor in forward mode.

    Raises:
      TypeError: from ``f``, in forward mode; from its backward pass, when differentiated.
    """

    @jax.custom_vjp
    def f(inputs: chex.Array, kernel: chex.Array, feedback_kernel: chex.Array) -> chex.Array:
        return forward(inputs, kernel, feedback_kernel)[0]

    def forward(inputs, kernel, feedback_kernel):
        operands = jax.tree.map(as_multiplied, (inputs, kernel, feedback_kernel))
        return linear(*operands[:2]), operands

    def backward(residuals, cotangent):
        inputs, kernel, feedback_kernel = residuals
        cotangent = as_multiplied(cotangent)
        _, down = jax.vjp(lambda x: linear(x, feedback_kernel), inputs)
        (inputs_cotangent,) = down(cotangent)
        kernel_cotangent = _onto_kernel(linear, inputs, kernel, cotangent)
        return _first_order((inputs_cotangent, kernel_cotangent, kernel_cotangent))

    f.defvjp(forward, backward)
    return _reverse_mode_only(f)


def with_direct_feedback(
    linear: Linear,
) -> Callable[[chex.Array, chex.Array, chex.Array], tuple[chex.Array, chex.Array]]:
    """Give a bilinear map ``linear(inputs, kernel)`` feedback that comes directly from the outputs.

    Args:
      linear: linear in ``inputs`` and in ``kernel``.

    Returns:
      ``f(inputs, kernel, direct_kernel float[inputs of an example, actions]) -> (outputs, tap)``.
      ``tap`` float[batch, actions] is zero; added to the network's outputs its cotangent is their
      error e. The backward pass sends e·directᵀ to ``inputs``, whatever the cotangent of
      ``outputs``, from which ``kernel`` learns. ``direct_kernel`` gets none.

    Raises:
      TypeError: as ``with_feedback``.
    """

    @jax.custom_vjp
    def f(
        inputs: chex.Array, kernel: chex.Array, direct_kernel: chex.Array
    ) -> tuple[chex.Array, chex.Array]:
        return forward(inputs, kernel, direct_kernel)[0]

    def forward(inputs, kernel, direct_kernel):
        operands = jax.tree.map(as_multiplied, (inputs, kernel, direct_kernel))
        actions = direct_kernel.shape[1]
        # Made of the inputs, so that under ``vmap`` each example has a tap of its own; and in the
        # default dtype, whatever the layer computes in, as it is added to the outputs.
        seen = inputs.reshape(*inputs.shape[: min(inputs.ndim - 1, 1)], -1)[..., :1] == 0
        zero = jnp.zeros((), jnp.result_type(float))
        tap = jnp.broadcast_to(jnp.where(seen, zero, zero), (*seen.shape[:-1], actions))
        return (linear(*operands[:2]), tap), operands

    def backward(residuals, cotangents):
        inputs, kernel, direct_kernel = residuals
        cotangent, error = jax.tree.map(as_multiplied, cotangents)
        down = (error.astype(direct_kernel.dtype) @ direct_kernel.T).reshape(inputs.shape)
        kernel_cotangent = _onto_kernel(linear, inputs, kernel, cotangent)
        nothing = jnp.zeros_like(direct_kernel)
        return _first_order((down.astype(inputs.dtype), kernel_cotangent, nothing))

    f.defvjp(forward, backward)
    return _reverse_mode_only(f)


def without_feedback(linear: Linear, reason: str) -> Linear:
    """Return ``linear``, which computes but refuses to be differentiated.

    Args:
      linear: ``(inputs, kernel) -> outputs``.
      reason: the sentence it refuses with.

    Returns:
      The same function.

    Raises:
      ValueError: ``reason``, when differentiated.
    """

    @jax.custom_vjp
    def f(inputs: chex.Array, kernel: chex.Array) -> chex.Array:
        return linear(*jax.tree.map(as_multiplied, (inputs, kernel)))

    def refuse(*_args):
        raise ValueError(reason)

    f.defvjp(refuse, refuse)
    return f


def _reverse_mode_only(f: Callable) -> Callable:
    def checked(*operands: chex.Array) -> chex.Array:
        if in_forward_mode(*operands):
            raise TypeError(
                "forward-mode differentiation (jax.jvp) through feedback weights that are not the "
                "forward weights: there is a way down only; use jax.vjp, or feedback='tied'"
            )
        return f(*operands)

    return checked


def _onto_kernel(
    linear: Linear, inputs: chex.Array, kernel: chex.Array, cotangent: chex.Array
) -> chex.Array:
    _, onto_kernel = jax.vjp(lambda w: linear(inputs, w), kernel)
    return onto_kernel(cotangent)[0]


@jax.custom_jvp
def _first_order(cotangents: tuple) -> tuple:
    """Return ``cotangents``, which are not to be differentiated."""
    return cotangents


@_first_order.defjvp
def _refuse_second_order(primals, tangents):
    raise TypeError(
        "second derivative through feedback weights that are not the forward weights: what they "
        "carry down is no gradient, so there is none; use feedback='tied'"
    )
