"""Convolution, and its unshared sibling.

On an accelerator XLA's convolution is the right one, and so are the two backward ones that
automatic differentiation makes of it. On a CPU those (dilated, over mirrored kernels or over the
batch) fall back, inside a compiled loop (``lax.scan``), to code many times slower, and forward ones
are fast with many channels and features alone. There the one onto the images is written as a
forward convolution, and the one onto the kernel, as every narrow one, as matrix products with the
patches of a few images at a time. Windows of 3 × 3 with many channels take fewer products
(``winograd``). All give the same values to rounding.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax import lax
from jax.interpreters.ad import JVPTracer

from qagrel_jax.layers import patches, windows, winograd
from qagrel_jax.layers.windows import Padding

WIDE = 128
"""With fewer channels or features XLA's convolution on a CPU is slower than products of patches."""

FEW_CHANNELS = 8
"""Below, a picture's colors, the patches of all images are kept for the way back, ..."""

MOST_NUMBERS = 2**24
"""... up to this number of elements."""


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
    windows.output_size(images.shape[1:], kernel.shape[:2], strides, padding)  # or refuse it
    # Here, so that each gradient comes back in the dtype of what it is of.
    dtype = jnp.result_type(images, kernel)
    images, kernel = jnp.asarray(images, dtype), jnp.asarray(kernel, dtype)
    # Our convolutions support reverse mode only, and at least one image.
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

    Raises:
      ValueError, TypeError: as ``output_size``, or a kernel that is not of this shape.
    """
    batch, channels = images.shape[0], images.shape[-1]
    out = windows.output_size(images.shape[1:], window, strides, padding)
    expected = (*out, math.prod(window) * channels)
    if kernel.ndim != 4 or kernel.shape[:3] != expected:
        raise ValueError(
            f"the kernel must be [{', '.join(map(str, expected))}, features], got "
            f"{list(kernel.shape)}"
        )
    (down, right), low = strides, windows.zeros_before(images.shape, window, strides, padding)
    blocks = [n + (w - 1) // s for n, w, s in zip(out, window, strides, strict=True)]
    pads = [
        (before, s * b - before - n)
        for before, s, b, n in zip(low, strides, blocks, images.shape[1:3], strict=True)
    ]
    padded = windows.pad(images, pads)
    # A product at each position wants positions first: cheaper to turn the images than the patches.
    # And what comes back from the taps is cheaper to add up phase by phase of the stride.
    turned = padded.reshape(batch, blocks[0], down, blocks[1], right, channels)
    turned = turned.transpose(2, 4, 1, 3, 0, 5)
    turned = turned.reshape(down * right, *blocks, batch, channels)
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

    Within ``jax.jit``, ``jax.vmap`` or a loop that as a whole is differentiated it can't be seen.
    """
    # Without direct linearization reverse mode has the same tracers.
    linearized = getattr(jax.config, "jax_use_direct_linearize", False)
    return linearized and any(isinstance(array, JVPTracer) for array in arrays)


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
    out = windows.output_size(images.shape[1:], window, strides, padding)
    low = windows.zeros_before(images.shape, window, strides, padding)
    numbers = images.shape[0] * math.prod(out) * math.prod(kernel.shape[:3])
    if channels >= FEW_CHANNELS or numbers > MOST_NUMBERS:
        return _forward_on_cpu(images, kernel, strides, out, low), (images, kernel, None)
    seen = jnp.concatenate(patches.seen_by_rows(images, window, strides, out, low), axis=-1)
    outputs = (seen @ kernel.reshape(-1, features)).reshape(-1, *out, features)
    return outputs, (images, kernel, seen)


def _backward(strides, padding, residuals, cotangent):
    images, kernel, seen = residuals
    low = windows.zeros_before(images.shape, kernel.shape[:2], strides, padding)
    down = _onto_images(images.shape[1:3], kernel, strides, low, cotangent)
    if seen is None:
        return down, _onto_kernel(images, kernel.shape, strides, low, cotangent)
    outer_product = cotangent.reshape(-1, cotangent.shape[-1]).T @ seen
    return down, outer_product.T.reshape(kernel.shape)


def _forward_on_cpu(
    images: chex.Array,
    kernel: chex.Array,
    strides: Sequence[int],
    out: Sequence[int],
    low: Sequence[int],
) -> chex.Array:
    """Convolve, with ``low`` rows and columns of zeros before, to ``out`` positions."""
    if winograd.pays(kernel.shape, strides, out, jnp.result_type(images, kernel)):
        return winograd.convolve(images, kernel, out, low)
    if min(kernel.shape[2:]) >= WIDE:
        zeros = windows.zeros_around(images.shape, kernel.shape[:2], strides, out, low)
        return _forward_convolution(images, kernel, strides, zeros)
    return patches.convolve(images, kernel, strides, out, low)


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
    kernel_shape: Sequence[int],
    strides: tuple[int, int],
    low: Sequence[int],
    cotangent: chex.Array,
) -> chex.Array:
    dtype = jnp.result_type(images, cotangent)
    if winograd.pays(kernel_shape, strides, cotangent.shape[1:3], dtype):
        return winograd.onto_kernel(images, low, cotangent)
    return patches.onto_kernel(images, kernel_shape[:2], strides, low, cotangent)


_convolve_on_cpu.defvjp(_forward, _backward)
