"""Layers with a feedback pathway of their own.

A layer computes y = x W going up. Going down, automatic differentiation would carry the cotangent
through Wᵀ, the same synapses run backwards, which no neuron can do. Here the way down is a pathway
of its own, of one of the kinds in ``qagrel_jax.layers.feedback``: what arrives at the layer's units
reaches the layer below through *feedback weights*, and the synapses change by presynaptic activity
× feedback. Biases are off by default, as in the papers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from qagrel_jax import checks, sharding
from qagrel_jax.layers import output_error, precision
from qagrel_jax.layers.convolution import convolve, locally_connect
from qagrel_jax.layers.feedback import (
    FEEDBACKS,
    Linear,
    canonical,
    with_direct_feedback,
    with_feedback,
    without_feedback,
)
from qagrel_jax.layers.kernels import product_kernel
from qagrel_jax.layers.windows import PADDINGS, Padding, output_size

__all__ = ["FEEDBACKS", "Conv", "Dense", "Initializer", "LocallyConnected", "he_normal"]

Initializer = Callable[..., chex.Array]

he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class _FeedbackLayer(nn.Module):
    """The part all three layers share: kernels up and down, bias, dtype."""

    features: int
    feedback: str = "tied"
    use_bias: bool = False
    kernel_init: Initializer = he_normal
    feedback_init: Initializer | None = None  # None: as kernel_init
    dtype: Any = None  # of the computation; None: that of inputs and kernel
    feedback_scale: float = 1.0
    num_actions: int | None = None
    expansion: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.whole("features", self.features)
        canonical(self.feedback)
        checks.flag("use_bias", self.use_bias)
        checks.function("kernel_init", self.kernel_init, takes=("key", "shape"))
        if self.feedback_init is not None:
            checks.function("feedback_init", self.feedback_init, takes=("key", "shape"))
        if self.dtype is not None:
            checks.floating_dtype("dtype", self.dtype)
        checks.number("feedback_scale", self.feedback_scale, 0, above=True)
        if self.num_actions is not None:
            checks.whole("num_actions", self.num_actions)
        checks.whole("expansion", self.expansion)

    def _connect(
        self,
        inputs: chex.Array,
        shape: Sequence[int],
        linear: Linear,
        positions: Sequence[int] = (),
    ) -> chex.Array:
        """Apply ``linear`` with kernels of ``shape``, one at each of ``positions``."""
        kind = canonical(self.feedback)
        kernel = self.param("kernel", _at_each(positions, self.kernel_init), tuple(shape))
        down = self._feedback_kernel(kind, inputs, kernel, tuple(shape), positions)
        inputs, kernel, down = nn.dtypes.promote_dtype(inputs, kernel, down, dtype=self.dtype)
        linear = sharding.part_by_part(linear, inputs)
        if kind == "direct":
            outputs = self._with_direct_feedback(linear, inputs, kernel, down)
        elif kind == "tied" and not precision.is_emulated():
            outputs = linear(inputs, kernel)  # with derivatives of any order
        elif down is None:
            reason = f"{self._where()} draws its feedback weights in each pass: give it rngs"
            outputs = without_feedback(linear, f"{reason}={{'feedback': key}}")(inputs, kernel)
        else:
            outputs = with_feedback(linear)(inputs, kernel, down)
        if self.use_bias:
            shape = (*positions, self.features)
            bias = self.param("bias", nn.initializers.zeros_init(), shape)
            outputs += jnp.broadcast_to(bias.astype(outputs.dtype), outputs.shape)
        return outputs

    def _feedback_kernel(
        self,
        kind: str,
        inputs: chex.Array,
        kernel: chex.Array,
        shape: tuple[int, ...],
        positions: Sequence[int],
    ) -> chex.Array | None:
        """Return B; None where it has to be drawn, but no random stream was given."""
        scale, init = self.feedback_scale, self.feedback_init or self.kernel_init
        if kind == "tied" and scale != 1:
            raise ValueError(f"tied feedback has no scale of its own, got feedback_scale {scale}")

        def draw(key: chex.PRNGKey, shape: Sequence[int] = shape) -> chex.Array:
            drawn = _at_each(positions, init)(key, tuple(shape))
            return drawn if scale == 1 else scale * drawn

        match kind:
            case "tied":
                return jax.lax.stop_gradient(kernel)
            case "kolen_pollack":
                return self.param("feedback_kernel", draw)
            case "random":
                return self._fixed("kernel", draw)
            case "sign":
                magnitude = jnp.abs(kernel).mean()
                magnitude = magnitude if scale == 1 else scale * magnitude
            case "sign_fixed":
                magnitude = self._fixed("magnitude", lambda key: jnp.abs(draw(key)))
            case "sign_batchwise":
                if not self.has_rng("feedback"):
                    return None
                magnitude = jnp.abs(draw(self.make_rng("feedback")))
            case "direct":
                return self._direct_kernel(inputs, init)
            case _:
                return self._product_kernel(positions, draw)
        return jax.lax.stop_gradient(jnp.sign(kernel) * magnitude)

    def _fixed(self, name: str, draw: Callable[[chex.PRNGKey], chex.Array]) -> chex.Array:
        """Return feedback weights that never learn, drawn at initialization."""
        if not (self.has_variable("feedback", name) or self.is_mutable_collection("feedback")):
            raise ValueError(
                f"{self._where()} has feedback weights that never learn: give apply the collection "
                "'feedback' of what init returned, beside 'params'"
            )
        weights = self.variable("feedback", name, lambda: draw(self.make_rng("params")))
        shape = jax.eval_shape(draw, jax.random.key(0)).shape
        if jnp.shape(weights.value) != shape:
            raise ValueError(
                f"{self._where()} has feedback weights {name} of {list(shape)}, got "
                f"{list(jnp.shape(weights.value))}"
            )
        return jax.lax.stop_gradient(weights.value)

    def _direct_kernel(self, inputs: chex.Array, init: Initializer) -> chex.Array:
        if self.num_actions is None:
            raise ValueError(
                f"{self._where()} needs num_actions, the number of the network's outputs, got None"
            )
        size = math.prod(inputs.shape[1:]) if inputs.ndim > 1 else inputs.size
        shape = (size, self.num_actions)
        return self._fixed("direct_kernel", lambda key: self.feedback_scale * init(key, shape))

    def _product_kernel(
        self, positions: Sequence[int], draw: Callable[[chex.PRNGKey], chex.Array]
    ) -> chex.Array:
        units = self.expansion * self.features
        normal = _at_each(positions, nn.initializers.normal(units**-0.5))
        mixing = self._fixed("mixing", lambda key: normal(key, (self.features, units)))

        def mixed(key: chex.PRNGKey) -> chex.Array:
            # M Mᵀ is nearly the identity: what comes down is of the size that was drawn.
            return product_kernel(mixing.swapaxes(-1, -2), draw(key))

        return product_kernel(mixing, self.param("feedback_kernel", mixed))

    def _with_direct_feedback(
        self, linear: Linear, inputs: chex.Array, kernel: chex.Array, down: chex.Array
    ) -> chex.Array:
        if self.is_initializing() or not self.is_mutable_collection(output_error.TAPS):
            return without_feedback(linear, output_error.missing(self._where()))(inputs, kernel)
        outputs, tap = with_direct_feedback(linear)(inputs, kernel, down)
        taps = self.variable(output_error.TAPS, "tap", jnp.zeros_like, tap)
        taps.value += tap
        return outputs

    def _where(self) -> str:
        name = "/".join(self.path) or type(self).__name__
        return f"layer {name!r} with feedback {self.feedback!r}"


class Dense(_FeedbackLayer):
    """A fully connected layer, y = x W (+ b), with a feedback pathway.

    Attributes:
      features: number of units.
      feedback: one of ``qagrel_jax.layers.FEEDBACKS``, where they are explained.
      use_bias: add a bias to each unit (each feature map of ``Conv``); off in the papers' networks.
      kernel_init: initializer of W [inputs, features].
      feedback_init: initializer of B where it is drawn; by default that of W.
      dtype: dtype of the computation (parameters stay float32).
      feedback_scale: factor on the B that is drawn, and on that of the ``sign`` kinds.
      num_actions: number of the network's outputs; ``direct`` needs it.
      expansion: of ``product``, units of its extra population for each unit of the layer. The more
        the nearer B = C Mᵀ comes to W: to an angle of about arctan √(1/expansion).

    Raises:
      ValueError: unknown ``feedback``; a size, scale, number of actions or expansion out of range;
        from ``apply``, fixed feedback weights that are missing (the collection ``"feedback"``).
      TypeError: an attribute of another type.

    What comes down arrives through the feedback weights B [inputs, features], not through W:

    >>> layer, x = Dense(features=3, feedback="random"), jnp.ones((2, 4))
    >>> variables = jax.jit(layer.init)(jax.random.key(0), x)
    >>> outputs, down = jax.vjp(lambda x: layer.apply(variables, x), x)
    >>> bool(jnp.allclose(outputs, x @ variables["params"]["kernel"]))
    True
    >>> bool(jnp.allclose(down(outputs)[0], outputs @ variables["feedback"]["kernel"].T))
    True
    """

    @nn.compact
    def __call__(self, inputs: chex.Array) -> chex.Array:
        """Map float[..., inputs] to float[..., features]."""
        return self._connect(inputs, (inputs.shape[-1], self.features), jnp.matmul)


class _WindowedLayer(_FeedbackLayer):
    """What ``Conv`` and ``LocallyConnected`` share: a window that moves over the image."""

    window: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    padding: Padding = "SAME"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.wholes("window", self.window, length=2)
        checks.wholes("strides", self.strides, length=2)
        checks.option("padding", self.padding, PADDINGS)


class Conv(_WindowedLayer):
    """A convolutional layer with a feedback pathway: one kernel for all positions.

    Forward-mode derivatives (``jax.jvp``, ``jax.hessian``) are taken of a function that is not yet
    compiled: ``jax.jit`` goes around them.

    Attributes:
      features: number of feature maps.
      feedback: one of ``qagrel_jax.layers.FEEDBACKS``, where they are explained.
      use_bias: add a bias to each feature map.
      kernel_init: initializer of the kernel W.
      feedback_init: initializer of B where it is drawn; by default that of W.
      dtype: dtype of the computation (parameters stay float32).
      feedback_scale: factor on the B that is drawn, and on that of the ``sign`` kinds.
      num_actions: number of the network's outputs; ``direct`` needs it.
      expansion: of ``product``, see ``Dense``.
      window: (rows, columns) of the kernel [rows, columns, channels, features].
      strides: (down, right).
      padding: "SAME" or "VALID".

    Raises:
      ValueError: as ``Dense``; a window or strides below 1, another padding.
      TypeError: an attribute of another type.

    >>> images = jnp.ones((2, 8, 8, 3))
    >>> layer = Conv(features=5, strides=(2, 2))
    >>> maps, variables = jax.jit(layer.init_with_output)(jax.random.key(0), images)
    >>> maps.shape, variables["params"]["kernel"].shape
    ((2, 4, 4, 5), (3, 3, 3, 5))
    """

    @nn.compact
    def __call__(self, images: chex.Array) -> chex.Array:
        """Map float[batch, height, width, channels] to float[batch, h, w, features]."""
        checks.shape("images", images, "batch", "height", "width", "channels")
        return self._connect(
            images,
            (*self.window, images.shape[-1], self.features),
            lambda x, w: convolve(x, w, self.strides, self.padding),
        )


class LocallyConnected(_WindowedLayer):
    """A convolutional layer without weight sharing: a kernel of its own at every position.

    No neuron can copy its weights to its neighbors, so this is the biological version of ``Conv``.

    Attributes:
      features: number of feature maps.
      feedback: one of ``qagrel_jax.layers.FEEDBACKS``, where they are explained.
      use_bias: add a bias [out_height, out_width, features].
      kernel_init: initializer of the kernel W at each position.
      feedback_init: initializer of B where it is drawn; by default that of W.
      dtype: dtype of the computation (parameters stay float32).
      feedback_scale: factor on the B that is drawn, and on that of the ``sign`` kinds.
      num_actions: number of the network's outputs; ``direct`` needs it.
      expansion: of ``product``, see ``Dense``.
      window: (rows, columns) of the kernel [out_height, out_width, rows, columns, channels,
        features].
      strides: (down, right).
      padding: "SAME" or "VALID".

    Raises:
      ValueError: as ``Conv``.
      TypeError: an attribute of another type.

    With the same kernel at every position it computes what ``Conv`` computes:

    >>> images = jax.random.normal(jax.random.key(0), (2, 4, 4, 1))
    >>> conv, local = Conv(features=3), LocallyConnected(features=3)
    >>> maps, shared = jax.jit(conv.init_with_output)(jax.random.key(1), images)
    >>> own = jax.tree.map(lambda kernel: jnp.broadcast_to(kernel, (4, 4, 3, 3, 1, 3)), shared)
    >>> bool(jnp.allclose(jax.jit(local.apply)(own, images), maps, atol=1e-5))
    True
    """

    @nn.compact
    def __call__(self, images: chex.Array) -> chex.Array:
        """Map float[batch, height, width, channels] to float[batch, h, w, features]."""
        checks.shape("images", images, "batch", "height", "width", "channels")
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
