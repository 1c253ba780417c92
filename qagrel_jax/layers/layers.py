"""Layers with a feedback pathway of their own.

A layer computes y = x W going up. Going down, automatic differentiation would carry the cotangent
through Wᵀ, the same synapses run backwards, which no neuron can do. Here the way down is a pathway
of its own: attention feedback arriving at the layer's units reaches the layer below through
*feedback weights* B, and the synapses change by presynaptic activity × feedback:

    up:    y = x W
    down:  x̄ = ȳ Bᵀ,        W̄ = xᵀ ȳ.

=============  ==================================================================================
``tied``       B = W: the papers' simulations; with it x̄ and W̄ are the true gradient
``reciprocal`` B drawn independently; it gets the update W gets (and the same decay), so that
               the difference between the two decays away (Kolen & Pollack 1994)
``random``     B drawn independently and fixed (feedback alignment; Lillicrap et al. 2016)
``sign``       B = sign(W) · mean|W| (Liao, Leibo & Poggio 2016): the sign of each weight is
               known to the feedback, its size is not
=============  ==================================================================================

``reciprocal`` feedback weights are ordinary parameters (``feedback_kernel``), so the optimiser and
its weight decay treat both directions alike. ``random`` ones live in the collection ``"feedback"``,
out of the optimiser's reach. Biases are off by default, as in the papers.
"""

from collections.abc import Callable, Sequence
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from qagrel_jax import sharding
from qagrel_jax.layers.convolution import Padding, convolve, locally_connect, output_size
from qagrel_jax.layers.precision import as_multiplied

FEEDBACKS = ("tied", "reciprocal", "random", "sign")
"""The kinds of feedback pathway."""

Initializer = Callable[..., chex.Array]

he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


def with_feedback(
    linear: Callable[[chex.Array, chex.Array], chex.Array],
) -> Callable[[chex.Array, chex.Array, chex.Array], chex.Array]:
    """Give a bilinear map ``linear(inputs, kernel)`` a feedback pathway.

    Args:
      linear: linear in ``inputs`` and in ``kernel``.

    Returns:
      ``f(inputs, kernel, feedback_kernel)``, whose value is ``linear(inputs, kernel)`` and whose
      backward pass sends the cotangent to ``inputs`` through ``feedback_kernel`` instead of
      ``kernel``. ``kernel`` and ``feedback_kernel`` receive the same cotangent, that of ``kernel``:
      wrap the latter in ``jax.lax.stop_gradient`` where it is not to learn.
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
        _, onto_kernel = jax.vjp(lambda w: linear(inputs, w), kernel)
        (kernel_cotangent,) = onto_kernel(cotangent)
        return (*down(cotangent), kernel_cotangent, kernel_cotangent)

    f.defvjp(forward, backward)
    return f


class _FeedbackLayer(nn.Module):
    """The part all three layers share: kernels up and down, bias, dtype."""

    features: int
    feedback: str = "tied"
    use_bias: bool = False
    kernel_init: Initializer = he_normal
    feedback_init: Initializer | None = None  # None: as kernel_init
    dtype: Any = None  # of the computation; None: that of inputs and kernel

    def _connect(
        self,
        inputs: chex.Array,
        shape: Sequence[int],
        linear: Callable[[chex.Array, chex.Array], chex.Array],
        positions: Sequence[int] = (),
    ) -> chex.Array:
        """Apply ``linear`` with kernels of ``shape``, one at each of ``positions``."""
        kernel = self.param("kernel", _at_each(positions, self.kernel_init), tuple(shape))
        feedback_init = _at_each(positions, self.feedback_init or self.kernel_init)
        match self.feedback:
            case "tied":
                feedback_kernel = jax.lax.stop_gradient(kernel)
            case "sign":
                size = jnp.abs(kernel).mean()
                feedback_kernel = jax.lax.stop_gradient(jnp.sign(kernel) * size)
            case "reciprocal":
                feedback_kernel = self.param("feedback_kernel", feedback_init, tuple(shape))
            case "random":
                feedback_kernel = self.variable(
                    "feedback",
                    "kernel",
                    lambda: feedback_init(self.make_rng("params"), tuple(shape)),
                ).value
            case _:
                raise ValueError(
                    f"unknown feedback {self.feedback!r}; valid: {', '.join(FEEDBACKS)}"
                )
        inputs, kernel, feedback_kernel = nn.dtypes.promote_dtype(
            inputs, kernel, feedback_kernel, dtype=self.dtype
        )
        linear = sharding.part_by_part(linear, inputs.shape[0] if inputs.ndim > 1 else 1)
        outputs = with_feedback(linear)(inputs, kernel, feedback_kernel)
        if self.use_bias:
            shape = (*positions, self.features)
            bias = self.param("bias", nn.initializers.zeros_init(), shape)
            outputs += jnp.broadcast_to(bias.astype(outputs.dtype), outputs.shape)
        return outputs


class Dense(_FeedbackLayer):
    """A fully connected layer, y = x W (+ b), with a feedback pathway.

    Attributes:
      features: number of units.
      feedback: one of ``FEEDBACKS``; see the module's docstring.
      use_bias: add a bias to each unit (each feature map of ``Conv``); off in the papers' networks.
      kernel_init: initialiser of W [inputs, features].
      feedback_init: initialiser of B where it is drawn; by default that of W.
      dtype: dtype of the computation (parameters stay float32).

    Raises:
      ValueError: unknown ``feedback``.
    """

    @nn.compact
    def __call__(self, inputs: chex.Array) -> chex.Array:
        """Map float[..., inputs] to float[..., features]."""
        return self._connect(inputs, (inputs.shape[-1], self.features), jnp.matmul)


class Conv(_FeedbackLayer):
    """A convolutional layer with a feedback pathway: one kernel for all positions.

    Attributes as in ``Dense``, and:
      window: (rows, columns) of the kernel [rows, columns, channels, features].
      strides: (down, right).
      padding: "SAME" or "VALID".
    """

    window: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    padding: Padding = "SAME"

    @nn.compact
    def __call__(self, images: chex.Array) -> chex.Array:
        """Map float[batch, height, width, channels] to float[batch, h, w, features]."""
        chex.assert_rank(images, 4)
        return self._connect(
            images,
            (*self.window, images.shape[-1], self.features),
            lambda x, w: convolve(x, w, self.strides, self.padding),
        )


class LocallyConnected(_FeedbackLayer):
    """A convolutional layer without weight sharing: a kernel of its own at every position.

    No neuron can copy its weights to its neighbours, so this is the biological version of ``Conv``.
    Attributes as in ``Conv``; the kernel is [out_height, out_width, rows, columns, channels,
    features], the bias, if any, [out_height, out_width, features].
    """

    window: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    padding: Padding = "SAME"

    @nn.compact
    def __call__(self, images: chex.Array) -> chex.Array:
        """Map float[batch, height, width, channels] to float[batch, h, w, features]."""
        chex.assert_rank(images, 4)
        rows, columns = output_size(images.shape[1:], self.window, self.strides, self.padding)

        def linear(x: chex.Array, kernel: chex.Array) -> chex.Array:
            flat = kernel.reshape(rows, columns, -1, self.features)
            return locally_connect(x, flat, self.window, self.strides, self.padding)

        shape = (*self.window, images.shape[-1], self.features)
        return self._connect(images, shape, linear, positions=(rows, columns))


def _at_each(positions: Sequence[int], init: Initializer) -> Initializer:
    """Draw an independent kernel at each position, so that fan-in means one position's."""
    if not positions:
        return init

    def draw(key: chex.PRNGKey, shape: Sequence[int]) -> chex.Array:
        keys = jax.random.split(key, tuple(positions)).ravel()
        kernels = jax.vmap(lambda k: init(k, tuple(shape)))(keys)
        return kernels.reshape(*positions, *shape)

    return draw
