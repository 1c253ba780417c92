"""Convolution, and its unshared sibling.

On an accelerator XLA's convolution is the right one, and so are the two backward ones that
automatic differentiation makes of it. On a CPU those (dilated, over mirrored kernels or over the
batch) fall back, inside a compiled loop (``lax.scan``), to code many times slower, and forward ones
are fast with many channels and features alone. There the one onto the images is written as a
forward convolution, and the one onto the kernel, as every narrow one, as matrix products with the
patches of a few images at a time. All give the same values to rounding.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import chex
import jax
import jax.numpy as jnp
from jax import lax
from jax.interpreters.ad import JVPTracer

from qagrel_jax import checks

Padding = Literal["SAME", "VALID"]
PADDINGS = get_args(Padding)

CACHED_NUMBERS = 3 * 2**19
"""So many numbers stay in the cache while patches are cut and multiplied, and the result stored."""

WIDE = 128
"""With fewer channels or features XLA's convolution on a CPU is slower than products of patches."""

FEW_CHANNELS = 8
"""Below, a picture's colors, the patches of all images are kept for the way back, ..."""

MOST_NUMBERS = 2**24
"""... unless they are more than so many numbers."""


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
      ValueError: a size below 1, an unknown padding, or a window that does not fit into the image.
      TypeError: what is no pair of numbers.
    """
    _check_geometry(window, strides, padding)
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

    Raises:
      ValueError, TypeError: as ``output_size``.
    """
    _check_geometry(kernel.shape[:2], strides, padding)
    # Ours have the way back alone, and take groups of images.
    ours = images.shape[0] > 0 and not in_forward_mode(images, kernel)
    if jax.default_backend() == "cpu" and ours:
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
    batch, channels, out = images.shape[0], images.shape[-1], kernel.shape[:2]
    (down, right), low = strides, _padding_before(images.shape, window, strides, padding)
    blocks = [n + (w - 1) // s for n, w, s in zip(out, window, strides, strict=True)]
    pads = [
        (before, s * b - before - n)
        for before, s, b, n in zip(low, strides, blocks, images.shape[1:3], strict=True)
    ]
    padded = _pad(images, pads)
    # A product at each position wants positions first: cheaper to turn the images than the patches.
    # And what comes back from the taps is cheaper to add up phase by phase of the stride.
    turned = padded.reshape(batch, blocks[0], down, blocks[1], right, channels)
    turned = turned.transpose(2, 4, 1, 3, 0, 5).reshape(-1, *blocks, batch, channels)
    phases = [phase[0] for phase in lax.split(turned, [1] * (down * right))]
    cut = [
        phases[i % down * right + j % right][i // down :, j // right :][: out[0], : out[1]]
        for i in range(window[0])
        for j in range(window[1])
    ]
    outputs = jnp.einsum("hwbk,hwko->hwbo", jnp.concatenate(cut, axis=-1), kernel)
    return outputs.transpose(2, 0, 1, 3)


def in_forward_mode(*arrays: chex.Array) -> bool:
    """Say whether one of ``arrays`` is being differentiated in forward mode, as far as is seen.

    Within ``jax.jit`` or a loop that as a whole is differentiated it can't be seen.
    """
    # Without direct linearization reverse mode has the same tracers.
    linearized = getattr(jax.config, "jax_use_direct_linearize", False)
    return linearized and any(isinstance(array, JVPTracer) for array in arrays)


def _check_geometry(window: Any, strides: Any, padding: Any) -> None:
    checks.wholes("window", window, length=2)
    checks.wholes("strides", strides, length=2)
    checks.option("padding", padding, PADDINGS)


def _pad(images: chex.Array, pads: Sequence[tuple[int, int]]) -> chex.Array:
    """Put rows and columns of zeros around images [batch, h, w, c], or where negative take away."""
    around = ((0, 0, 0), *((*pad, 0) for pad in pads), (0, 0, 0))
    return lax.pad(images, jnp.zeros((), images.dtype), around)


def _forward_convolution(
    images: chex.Array, kernel: chex.Array, strides: Sequence[int], padding: Any
) -> chex.Array:
    return lax.conv_general_dilated(
        images, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve_on_cpu(
    images: chex.Array, kernel: chex.Array, strides: tuple[int, int], padding: Padding
) -> chex.Array:
    return _forward(images, kernel, strides, padding)[0]


def _forward(images, kernel, strides, padding):
    window, (channels, features) = kernel.shape[:2], kernel.shape[2:]
    out = output_size(images.shape[1:], window, strides, padding)
    low = _padding_before(images.shape, window, strides, padding)
    numbers = images.shape[0] * math.prod(out) * math.prod(kernel.shape[:3])
    if channels >= FEW_CHANNELS or numbers > MOST_NUMBERS:
        return _forward_on_cpu(images, kernel, strides, out, low), (images, kernel, None)
    patches = jnp.concatenate(_seen_by_rows(images, window, strides, out, low), axis=-1)
    outputs = (patches @ kernel.reshape(-1, features)).reshape(-1, *out, features)
    return outputs, (images, kernel, patches)


def _backward(strides, padding, residuals, cotangent):
    images, kernel, patches = residuals
    low = _padding_before(images.shape, kernel.shape[:2], strides, padding)
    down = _onto_images(images.shape[1:3], kernel, strides, low, cotangent)
    if patches is None:
        return down, _onto_kernel(images, kernel.shape[:2], strides, low, cotangent)
    outer_product = cotangent.reshape(-1, cotangent.shape[-1]).T @ patches
    return down, outer_product.T.reshape(kernel.shape)


def _padding_before(
    image_shape: Sequence[int], window: tuple[int, int], strides: tuple[int, int], padding: Padding
) -> list[int]:
    """Return how many rows and columns of zeros go before those of images [batch, h, w, c]."""
    pads = lax.padtype_to_pads(image_shape[1:3], window, strides, padding)
    return [before for before, _ in pads]


def _forward_on_cpu(
    images: chex.Array,
    kernel: chex.Array,
    strides: Sequence[int],
    out: Sequence[int],
    low: Sequence[int],
) -> chex.Array:
    """Convolve, with ``low`` rows and columns of zeros before, to ``out`` positions."""
    window, (channels, features) = kernel.shape[:2], kernel.shape[2:]
    if min(channels, features) >= WIDE:
        pads = _pads(images.shape, window, strides, out, low)
        return _forward_convolution(images, kernel, strides, pads)
    by_row = kernel.reshape(window[0], -1, features)
    few = _images_in_cache(
        images.shape[0], math.prod(out) * (math.prod(kernel.shape[:3]) + features)
    )

    def convolve(group: chex.Array) -> chex.Array:
        seen = _seen_by_rows(group, window, strides, out, low)
        return sum(x @ w for x, w in zip(seen, by_row, strict=True))

    outputs = lax.map(convolve, images.reshape(-1, few, *images.shape[1:]))
    return outputs.reshape(-1, *out, features)


def _seen_by_rows(
    images: chex.Array,
    window: Sequence[int],
    strides: Sequence[int],
    out: Sequence[int],
    low: Sequence[int],
) -> list[chex.Array]:
    """What each row of the window sees: [batch·out_height·out_width, columns·channels] for each."""
    padded = _pad(images, _pads(images.shape, window, strides, out, low))
    reach = [s * (n - 1) + 1 for s, n in zip(strides, out, strict=True)]
    taps = [padded[:, :, j : j + reach[1] : strides[1]] for j in range(window[1])]
    beside = jnp.concatenate(taps, axis=-1)
    rows = [beside[:, i : i + reach[0] : strides[0]] for i in range(window[0])]
    return [row.reshape(-1, row.shape[-1]) for row in rows]


def _pads(
    image_shape: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
    out: Sequence[int],
    low: Sequence[int],
) -> list[tuple[int, int]]:
    """Return what to pad images [batch, h, w, c] with, before and after; after may be negative."""
    return [
        (before, s * (n - 1) + w - before - size)
        for before, s, n, w, size in zip(low, strides, out, window, image_shape[1:3], strict=True)
    ]


def _images_in_cache(batch: int, numbers: int) -> int:
    """Return how many images, of so many numbers each, to take at a time: a part of the batch."""
    most = max(1, CACHED_NUMBERS // numbers)
    return max(n for n in range(1, min(most, batch) + 1) if batch % n == 0)


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
    zeros = [p - 1 - f for p, f in zip(taps, first, strict=True)]
    phases = _forward_on_cpu(cotangent, kernel, (1, 1), blocks, zeros)
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
    batch, *out, features = cotangent.shape
    size = math.prod(window) * images.shape[-1]
    few = _images_in_cache(batch, math.prod(out) * (size + features))
    turned = cotangent.reshape(batch // few, -1, features).transpose(0, 2, 1)
    # Without the barrier XLA merges the turning into the products, which makes them slower.
    turned = lax.optimization_barrier(turned)

    def add(total: list[chex.Array], group: tuple) -> tuple[list[chex.Array], None]:
        images, cotangent = group
        seen = _seen_by_rows(images, window, strides, out, low)
        return [t + cotangent @ x for t, x in zip(total, seen, strict=True)], None

    row = jnp.zeros((features, size // window[0]), jnp.result_type(images, cotangent))
    groups = images.reshape(-1, few, *images.shape[1:]), turned
    by_row, _ = lax.scan(add, [row] * window[0], groups)
    return jnp.stack(by_row).transpose(0, 2, 1).reshape(*window, -1, features)


_convolve_on_cpu.defvjp(_forward, _backward)
