"""Convolution as matrix products with the patches that the positions see, few images at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import chex
import jax.numpy as jnp
from jax import lax

from qagrel_jax.layers import windows

CACHED_NUMBERS = 3 * 2**19
"""So many numbers stay in the cache while patches are cut and multiplied, and the result stored."""


def convolve(
    images: chex.Array,
    kernel: chex.Array,
    strides: Sequence[int],
    out: Sequence[int],
    low: Sequence[int],
) -> chex.Array:
    """Convolve, with ``low`` rows and columns of zeros before, to ``out`` positions.

    Args:
      images: float[batch, height, width, channels].
      kernel: float[rows, columns, channels, features].
      strides: (down, right).
      out: (rows, columns) of the outputs.
      low: zeros before the first row and the first column.

    Returns:
      float[batch, *out, features].
    """
    window, features = kernel.shape[:2], kernel.shape[3]
    by_row = kernel.reshape(window[0], -1, features)
    numbers = math.prod(out) * (math.prod(kernel.shape[:3]) + features)

    def some(group: chex.Array) -> chex.Array:
        seen = seen_by_rows(group, window, strides, out, low)
        return sum(x @ w for x, w in zip(seen, by_row, strict=True))

    outputs = lax.map(some, windows.grouped(images, numbers, CACHED_NUMBERS))
    return outputs.reshape(-1, *out, features)


def onto_kernel(
    images: chex.Array,
    window: Sequence[int],
    strides: tuple[int, int],
    low: Sequence[int],
    cotangent: chex.Array,
) -> chex.Array:
    """w̄ = Σ over positions of patch ⊗ ȳ, the gradient of ``convolve``.

    Args:
      images: float[batch, height, width, channels].
      window: (rows, columns).
      strides: (down, right).
      low: zeros before the first row and the first column.
      cotangent: float[batch, out_height, out_width, features], of the outputs.

    Returns:
      float[rows, columns, channels, features].
    """
    _, *out, features = cotangent.shape
    size = math.prod(window) * images.shape[-1]
    groups = windows.grouped(images, math.prod(out) * (size + features), CACHED_NUMBERS)
    turned = cotangent.reshape(groups.shape[0], -1, features).transpose(0, 2, 1)
    # Without the barrier XLA merges the turning into the products, which makes them slower.
    turned = lax.optimization_barrier(turned)

    # In half precision a long sum would stop growing.
    dtype = jnp.result_type(images, cotangent)
    wide = jnp.promote_types(dtype, jnp.float32)

    def add(total: list[chex.Array], group: tuple) -> tuple[list[chex.Array], None]:
        images, cotangent = group
        seen = seen_by_rows(images, window, strides, out, low)
        more = [jnp.matmul(cotangent, x, preferred_element_type=wide) for x in seen]
        return [t + m for t, m in zip(total, more, strict=True)], None

    row = jnp.zeros((features, size // window[0]), wide)
    by_row, _ = lax.scan(add, [row] * window[0], (groups, turned))
    kernel = jnp.stack(by_row).transpose(0, 2, 1).reshape(*window, -1, features)
    return kernel.astype(dtype)


def seen_by_rows(
    images: chex.Array,
    window: Sequence[int],
    strides: Sequence[int],
    out: Sequence[int],
    low: Sequence[int],
) -> list[chex.Array]:
    """Return what each row of the window sees.

    Args:
      images: float[batch, height, width, channels].
      window: (rows, columns).
      strides: (down, right).
      out: (rows, columns) of the outputs.
      low: zeros before the first row and the first column.

    Returns:
      For each float[batch·out_height·out_width, columns·channels].
    """
    padded = windows.pad(images, windows.zeros_around(images.shape, window, strides, out, low))
    reach = [s * (n - 1) + 1 for s, n in zip(strides, out, strict=True)]
    taps = [padded[:, :, j : j + reach[1] : strides[1]] for j in range(window[1])]
    beside = jnp.concatenate(taps, axis=-1)
    rows = [beside[:, i : i + reach[0] : strides[0]] for i in range(window[0])]
    return [row.reshape(-1, row.shape[-1]) for row in rows]
