"""Convolution, and its unshared sibling.

XLA compiles a forward convolution well everywhere. On CPU, though, the two backward convolutions
that automatic differentiation writes (dilated, over mirrored kernels or over the batch) fall back,
inside a compiled loop (``lax.scan``), to code many times slower. There the one onto the images
is written as a forward convolution, and the one onto the kernel as matrix products. On an
accelerator automatic differentiation is the right one. All give the same values to rounding.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, Literal

import chex
import jax
import jax.numpy as jnp
from jax import lax

Padding = Literal["SAME", "VALID"]

CACHED_NUMBERS = 2**20
"""So many numbers of patches stay in the cache between being cut and being multiplied."""


def output_size(
    image_shape: Sequence[int], window: tuple[int, int], strides: tuple[int, int], padding: Padding
) -> tuple[int, int]:
    """Return (rows, columns) of the positions at which a window is applied.

    Args:
      image_shape: (height, width, channels).
      window: (rows, columns).
      strides: (down, right).
      padding: "SAME" (zeros around, output size ⌈n/stride⌉) or "VALID" (no padding).

    Returns:
      (out_height, out_width).

    Raises:
      ValueError: the window does not fit into the image.
    """
    pads = lax.padtype_to_pads(image_shape[:2], window, strides, padding)
    rows, columns = (
        (n + sum(pad) - w) // s + 1
        for n, pad, w, s in zip(image_shape[:2], pads, window, strides, strict=True)
    )
    if min(rows, columns) < 1:
        raise ValueError(
            f"a {window[0]}x{window[1]} window does not fit into images of shape "
            f"{tuple(image_shape)} with padding {padding}"
        )
    return rows, columns


def _slices(
    images: chex.Array,
    window: Sequence[int],
    strides: Sequence[int],
    out: Sequence[int],
    low: Sequence[int],
) -> list[chex.Array]:
    """What each tap of the window sees: [batch, out_height, out_width, channels] for each."""
    reach = [s * (n - 1) + 1 for s, n in zip(strides, out, strict=True)]
    pads = [
        (before, r + w - 1 - before - n)
        for before, r, w, n in zip(low, reach, window, images.shape[1:3], strict=True)
    ]
    padded = lax.pad(
        images, jnp.zeros((), images.dtype), ((0, 0, 0), *((*p, 0) for p in pads), (0, 0, 0))
    )
    return [
        padded[:, i : i + reach[0] : strides[0], j : j + reach[1] : strides[1]]
        for i in range(window[0])
        for j in range(window[1])
    ]


def convolve(
    images: chex.Array, kernel: chex.Array, strides: tuple[int, int], padding: Padding
) -> chex.Array:
    """Convolve images with one kernel: y[b,h,w,o] = Σ patch[b,h,w,·] kernel[·,o].

    Args:
      images: float[batch, height, width, channels].
      kernel: float[rows, columns, channels, features].
      strides: (down, right).
      padding: "SAME" or "VALID".

    Returns:
      float[batch, out_height, out_width, features].
    """
    if jax.default_backend() == "cpu":
        return _convolve_on_cpu(images, kernel, strides, padding)
    return _forward_convolution(images, kernel, strides, padding)


def locally_connect(
    images: chex.Array,
    kernel: chex.Array,
    window: tuple[int, int],
    strides: tuple[int, int],
    padding: Padding,
) -> chex.Array:
    """Convolve, a kernel for every position: y[b,h,w,o] = Σ_k patch[b,h,w,k] kernel[h,w,k,o].

    Args:
      images: float[batch, height, width, channels].
      kernel: float[out_height, out_width, rows·columns·channels, features].
      window: (rows, columns).
      strides: (down, right).
      padding: "SAME" or "VALID".

    Returns:
      float[batch, out_height, out_width, features].
    """
    batch, height, width, channels = images.shape
    rows, columns = kernel.shape[:2]
    low = [before for before, _ in lax.padtype_to_pads((height, width), window, strides, padding)]
    # A product at each position wants positions first: cheaper to turn the images than the patches.
    turned = images.transpose(1, 2, 0, 3).reshape(1, height, width, batch * channels)
    slices = _slices(turned, window, strides, (rows, columns), low)
    cut = [x.reshape(rows, columns, batch, channels) for x in slices]
    outputs = jnp.einsum("hwbk,hwko->hwbo", jnp.concatenate(cut, axis=-1), kernel)
    return outputs.transpose(2, 0, 1, 3)


def _forward_convolution(
    images: chex.Array, kernel: chex.Array, strides: tuple[int, int], padding: Any
) -> chex.Array:
    return lax.conv_general_dilated(
        images, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve_on_cpu(
    images: chex.Array, kernel: chex.Array, strides: tuple[int, int], padding: Padding
) -> chex.Array:
    return _forward_convolution(images, kernel, strides, padding)


def _forward(images, kernel, strides, padding):
    return _forward_convolution(images, kernel, strides, padding), (images, kernel)


def _backward(strides, padding, residuals, cotangent):
    images, kernel = residuals
    pads = lax.padtype_to_pads(images.shape[1:3], kernel.shape[:2], strides, padding)
    low = [before for before, _ in pads]
    return (
        _onto_images(images.shape[1:3], kernel, strides, low, cotangent),
        _onto_kernel(images, kernel.shape[:2], strides, low, cotangent),
    )


def _onto_images(
    size: Sequence[int],
    kernel: chex.Array,
    strides: tuple[int, int],
    low: Sequence[int],
    cotangent: chex.Array,
) -> chex.Array:
    """x̄[s·r + a] = Σ_p ȳ[r − p] w[s·p + a]: the s·s phases a are as many output channels."""
    (down, right), (rows, columns) = strides, kernel.shape[:2]
    channels, features = kernel.shape[2:]
    taps = -(-rows // down), -(-columns // right)
    extra = taps[0] * down - rows, taps[1] * right - columns
    kernel = jnp.pad(kernel, ((0, extra[0]), (0, extra[1]), (0, 0), (0, 0)))
    kernel = kernel.reshape(taps[0], down, taps[1], right, channels, features)
    kernel = kernel[::-1, :, ::-1].transpose(0, 2, 5, 1, 3, 4)
    kernel = kernel.reshape(*taps, features, down * right * channels)
    # Without the barrier XLA merges the mirroring into the convolution, which is the slow form.
    kernel = lax.optimization_barrier(kernel)
    first = [before // s for before, s in zip(low, strides, strict=True)]
    blocks = [
        -(-(before + n) // s) - f for before, n, s, f in zip(low, size, strides, first, strict=True)
    ]
    pads = [
        (p - 1 - f, b + f - m)
        for p, f, b, m in zip(taps, first, blocks, cotangent.shape[1:3], strict=True)
    ]
    phases = _forward_convolution(cotangent, kernel, (1, 1), pads)
    phases = phases.reshape(-1, *blocks, down, right, channels).transpose(0, 1, 3, 2, 4, 5)
    images = phases.reshape(-1, blocks[0] * down, blocks[1] * right, channels)
    top, left = (before % s for before, s in zip(low, strides, strict=True))
    return images[:, top : top + size[0], left : left + size[1]]


def _onto_kernel(
    images: chex.Array,
    window: Sequence[int],
    strides: tuple[int, int],
    low: Sequence[int],
    cotangent: chex.Array,
) -> chex.Array:
    """w̄ = Σ over positions of patch ⊗ ȳ: a matrix product for every few images."""
    channels, features = images.shape[-1], cotangent.shape[-1]
    out = cotangent.shape[1:3]
    size = math.prod(window) * channels

    def product(images: chex.Array, cotangent: chex.Array) -> chex.Array:
        cut = jnp.concatenate(_slices(images, window, strides, out, low), axis=-1)
        return cotangent.reshape(-1, features).T @ cut.reshape(-1, size)

    # All patches at once would be several times the images, written to memory and read again.
    batch, most = images.shape[0], max(1, CACHED_NUMBERS // (math.prod(out) * size))
    if channels < 8:  # then they are few, and products of their own too thin to be worth while
        most = batch
    few = max(n for n in range(1, min(most, batch) + 1) if batch % n == 0)
    groups = jax.tree.map(lambda x: x.reshape(-1, few, *x.shape[1:]), (images, cotangent))
    zeros = jnp.zeros((features, size), jnp.result_type(images, cotangent))
    kernel, _ = lax.scan(lambda total, group: (total + product(*group), None), zeros, groups)
    return kernel.T.reshape(*window, channels, features)


_convolve_on_cpu.defvjp(_forward, _backward)
