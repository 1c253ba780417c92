"""The limit a network's step is held against: its matrix products, nothing else.

A layer whose M rows (batch; for a convolution batch × output positions) meet a K × N kernel costs
three products of 2·M·K·N floating-point operations:

    forward          [M, K] · [K, N]
    input gradient   [M, N] · [N, K]      (not in the first layer, whose input learns nothing)
    kernel gradient  [K, M] · [M, N]

*Roofline* = the sum, over all layers and products, of the time XLA takes for the product alone on
operands that lie ready in memory, float32 or the precision under test. Nothing is counted for
cutting patches, activation functions, BatchNorm, dropout, choosing actions or changing weights.

- Dense: as above.
- Convolution on CPU: the patch products, K = rows · columns · channels. With stride 1 the input
  gradient may also be had as [batch · height · width, rows · columns · N] · [.., channels].
- Convolution on an accelerator: ``lax.conv_general_dilated`` and its two transposes.
- Locally connected: the same products, one for each output position (a batched product).

Where operands can be stored in several ways, the fastest counts. Each product runs many times in a
compiled loop, made dependent on the iteration before, or XLA would compute it once.
"""

import timeit
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from experiments.benchmark.timing import Subject
from qagrel_jax import layers
from qagrel_jax.random_keys import root_key

Binary = Callable[[jax.Array, jax.Array], jax.Array]


class Layer(NamedTuple):
    """The shapes of one layer at work on a batch."""

    kind: str  # "dense", "conv" or "locally_connected"
    inputs: tuple[int, ...]
    kernel: tuple[int, ...]  # [inputs, features] or [rows, columns, channels, features]
    outputs: tuple[int, ...]
    strides: tuple[int, int] = (1, 1)
    padding: str = "VALID"

    def mkn(self) -> tuple[int, int, int]:
        """Rows, inner length and columns of the forward product (of one position's, unshared)."""
        k, n = int(np.prod(self.kernel[:-1])), self.kernel[-1]
        rows = self.inputs[0] if self.kind == "locally_connected" else np.prod(self.outputs[:-1])
        return int(rows), k, n

    def flop(self, first: bool) -> int:
        """Floating-point operations of a training step: 2·M·K·N a product, two or three."""
        positions = int(np.prod(self.outputs[1:3])) if self.kind == "locally_connected" else 1
        return (2 if first else 3) * 2 * positions * int(np.prod(self.mkn()))


class Variant(NamedTuple):
    """One way of computing a product."""

    product: Binary
    left: tuple[int, ...]
    right: tuple[int, ...]


KINDS = {
    layers.Dense: "dense",
    layers.Conv: "conv",
    layers.LocallyConnected: "locally_connected",
}


def network_layers(network: nn.Module, image_shape: tuple[int, ...], batch: int) -> list[Layer]:
    """List the layers of ``network`` in the order they run, without running it."""
    found: list[Layer] = []

    def record(call: Any, args: tuple, kwargs: dict, context: Any) -> Any:
        outputs = call(*args, **kwargs)
        layer = context.module
        if type(layer) in KINDS and context.method_name == "__call__":
            shape, window = args[0].shape, getattr(layer, "window", ())
            geometry = (layer.strides, layer.padding) if window else ()
            kernel = (*window, shape[-1], layer.features)
            found.append(Layer(KINDS[type(layer)], shape, kernel, outputs.shape, *geometry))
        return outputs

    images = jax.ShapeDtypeStruct((batch, *image_shape), jnp.float32)
    with nn.intercept_methods(record):
        jax.eval_shape(network.init, root_key(0), images)
    return found


def products(network: Sequence[Layer], native: bool) -> list[list[Variant]]:
    """List the products of one training step, each with the ways to compute it.

    Args:
      network: its layers.
      native: convolutions as convolutions (an accelerator's way), not as patch products.
    """
    found = []
    for index, layer in enumerate(network):
        of_layer = _native if native and layer.kind == "conv" else _matrix_products
        forward, onto_inputs, onto_kernel = of_layer(layer)
        found += [forward, onto_kernel] if index == 0 else [forward, onto_inputs, onto_kernel]
    return found


def subject(
    network: Sequence[Layer],
    steps: int,
    dtype: Any = jnp.float32,
    on_product: Callable[[int, int], None] = lambda done, of: None,
) -> Subject:
    """Find the fastest way for each product; return all of them, ``steps`` times over.

    Args:
      network: its layers.
      steps: training steps a call stands for.
      dtype: of the operands.
      on_product: called with (products looked at, of how many).
    """
    counted: dict[tuple, list] = {}
    for variants in products(network, native=jax.default_backend() != "cpu"):
        key = tuple((v.left, v.right, getattr(v.product, "name", "")) for v in variants)
        counted.setdefault(key, [variants, 0])[1] += 1
    programs = []
    for done, (variants, times) in enumerate(counted.values(), 1):
        prepared = [_Program(v, times * steps, dtype) for v in variants]
        programs.append(min(prepared, key=lambda p: p.seconds))
        on_product(done, len(counted))

    def call() -> None:
        for program in programs:
            program()

    return Subject("roofline", steps, call, images_per_step=network[0].inputs[0])


class _Program:
    """A product in a compiled loop, on operands of its own."""

    def __init__(self, variant: Variant, iterations: int, dtype: Any) -> None:
        generator = np.random.default_rng(0)
        left, right = (
            jnp.asarray(generator.standard_normal(shape, np.float32), dtype)
            for shape in (variant.left, variant.right)
        )
        result = jax.eval_shape(variant.product, left, right)
        self._carry = (left, jnp.zeros(result.shape, result.dtype))
        self._right = right

        def loop(carry: tuple, right: jax.Array) -> tuple:
            def body(_: int, carry: tuple) -> tuple:
                left, result = carry
                # One number of the last result goes into the next product: no iteration is idle.
                left = left.at[(0,) * left.ndim].set(1e-6 * result[(0,) * result.ndim])
                return left, variant.product(left, right)

            return lax.fori_loop(0, iterations, body, carry)

        # Donated, so that the loop begins without a copy of a large operand.
        self._loop = jax.jit(loop, donate_argnums=0)
        self()
        self.seconds = min(timeit.repeat(self, number=1, repeat=2))

    def __call__(self) -> None:
        self._carry = jax.block_until_ready(self._loop(self._carry, self._right))


def _matrix_products(layer: Layer) -> tuple[list[Variant], list[Variant], list[Variant]]:
    m, k, n = layer.mkn()
    batch = layer.outputs[1:3] if layer.kind == "locally_connected" else ()
    p = (int(np.prod(batch)),) if batch else ()
    forward = [Variant(jnp.matmul, (*p, m, k), (*p, k, n))]
    onto_inputs = [
        Variant(jnp.matmul, (*p, m, n), (*p, n, k)),
        Variant(_contract(-1, -1), (*p, m, n), (*p, k, n)),
    ]
    onto_kernel = [
        Variant(jnp.matmul, (*p, k, m), (*p, m, n)),
        Variant(_contract(-2, -2), (*p, m, k), (*p, m, n)),
    ]
    if layer.kind == "conv" and layer.strides == (1, 1):
        rows, columns, channels, _ = layer.kernel
        positions, length = int(np.prod(layer.inputs[:3])), rows * columns * n
        onto_inputs.append(Variant(jnp.matmul, (positions, length), (length, channels)))
    return forward, onto_inputs, onto_kernel


def _contract(left_axis: int, right_axis: int) -> Binary:
    def product(left: jax.Array, right: jax.Array) -> jax.Array:
        rank = left.ndim
        batch = tuple(range(rank - 2))
        dimensions = (((rank + left_axis,), (rank + right_axis,)), (batch, batch))
        return lax.dot_general(left, right, dimensions)

    product.name = f"contract {left_axis} {right_axis}"  # type: ignore[attr-defined]
    return product


def _native(layer: Layer) -> tuple[list[Variant], list[Variant], list[Variant]]:
    def convolve(images: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            images, kernel, layer.strides, layer.padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def onto_inputs(cotangent: jax.Array, kernel: jax.Array) -> jax.Array:
        images = jax.ShapeDtypeStruct(layer.inputs, cotangent.dtype)
        return jax.linear_transpose(lambda x: convolve(x, kernel), images)(cotangent)[0]

    def onto_kernel(cotangent: jax.Array, images: jax.Array) -> jax.Array:
        kernel = jax.ShapeDtypeStruct(layer.kernel, cotangent.dtype)
        return jax.linear_transpose(lambda w: convolve(images, w), kernel)(cotangent)[0]

    functions: tuple[Any, ...] = (convolve, onto_inputs, onto_kernel)
    for function in functions:
        function.name = f"{function.__name__} {layer.strides} {layer.padding}"
    return (
        [Variant(convolve, layer.inputs, layer.kernel)],
        [Variant(onto_inputs, layer.outputs, layer.kernel)],
        [Variant(onto_kernel, layer.outputs, layer.inputs)],
    )
