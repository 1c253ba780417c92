"""3 × 3 convolutions by Winograd's F(2×2, 3×3): 16 products a tile of four outputs, not 36.

A tile of 2 × 2 outputs is seen through 4 × 4 inputs d. With the 3 × 3 kernel w it is

    y = Aᵀ [(G w Gᵀ) ⊙ (Bᵀ d B)] A

where every element is an array over channels or features, and ⊙ a matrix product for each of the
16 positions, over all tiles of a group of images. Transforms cost additions that grow with the
channels, products multiplications that grow with channels times features: it pays where there are
many. Values are those of the direct form to rounding.

Winograd (1980), Arithmetic complexity of computations; Lavin & Gray (2016), Fast algorithms for
convolutional neural networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import chex
import jax.numpy as jnp
from jax import lax

from qagrel_jax.layers import windows

MANY = 32
"""With fewer channels or features the transforms cost more than the products save, ..."""

LARGE = 6
"""... and with fewer rows or columns of outputs there are too few tiles."""

CACHED_NUMBERS = 2**22
"""So many numbers, transformed inputs and products, are made at a time."""

WINDOW = (3, 3)
INPUT = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
KERNEL = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
OUTPUT = ((1, 1, 1, 0), (0, 1, -1, -1))
"""Bᵀ, G and Aᵀ of F(2, 3)."""

Matrix = Sequence[Sequence[float]]
Grid = list[list[chex.Array]]


def pays(
    kernel_shape: Sequence[int], strides: Sequence[int], out: Sequence[int], dtype: jnp.dtype
) -> bool:
    """Say whether a convolution can be done this way, and is the faster for it on a CPU.

    Args:
      kernel_shape: (rows, columns, channels, features).
      strides: (down, right).
      out: (rows, columns) of its outputs.
      dtype: of the computation; in half precision the transforms would lose digits.
    """
    fits = tuple(kernel_shape[:2]) == WINDOW and tuple(strides) == (1, 1)
    exact = dtype in (jnp.float32, jnp.float64)
    return fits and exact and min(kernel_shape[2:]) >= MANY and min(out) >= LARGE


def convolve(
    images: chex.Array, kernel: chex.Array, out: Sequence[int], low: Sequence[int]
) -> chex.Array:
    """Convolve, with ``low`` rows and columns of zeros before, to ``out`` positions.

    Args:
      images: float[batch, height, width, channels].
      kernel: float[3, 3, channels, features].
      out: (rows, columns) of the outputs.
      low: zeros before the first row and the first column.

    Returns:
      float[batch, rows, columns, features].
    """
    features, tiles = kernel.shape[-1], _tiles(out)
    taps = [[kernel[i, j] for j in range(3)] for i in range(3)]
    # Without the barrier XLA computes the transformed kernel again for every group of images.
    kernels = lax.optimization_barrier(_transform(KERNEL, taps))

    def some(group: chex.Array) -> chex.Array:
        seen = _seen(group, tiles, low)
        pairs = [zip(*rows, strict=True) for rows in zip(seen, kernels, strict=True)]
        products = [[x @ w for x, w in row] for row in pairs]
        parts = _transform(OUTPUT, products)
        parts = [[part.reshape(-1, *tiles, features) for part in row] for row in parts]
        # [batch, tiles down, 2, tiles right, 2, features]
        whole = jnp.stack([jnp.stack(row, axis=3) for row in parts], axis=2)
        whole = whole.reshape(-1, 2 * tiles[0], 2 * tiles[1], features)
        return whole[:, : out[0], : out[1]]

    outputs = lax.map(some, _grouped(images, out, features))
    return outputs.reshape(-1, *out, features)


def onto_kernel(images: chex.Array, low: Sequence[int], cotangent: chex.Array) -> chex.Array:
    """w̄ = Gᵀ [Σ over tiles of (Bᵀ d B) ⊗ (A ȳ Aᵀ)] G, the gradient of ``convolve``.

    Args:
      images: float[batch, height, width, channels].
      low: zeros before the first row and the first column.
      cotangent: float[batch, rows, columns, features], of the outputs.

    Returns:
      float[3, 3, channels, features].
    """
    channels, (_, *out, features) = images.shape[-1], cotangent.shape
    tiles, groups = _tiles(out), _grouped(images, out, features)
    zeros = windows.zeros_around(cotangent.shape, (2, 2), (2, 2), tiles, (0, 0))
    phases = windows.pad(cotangent, zeros)
    phases = phases.reshape(*groups.shape[:2], tiles[0], 2, tiles[1], 2, features)
    phases = phases.transpose(0, 3, 5, 1, 2, 4, 6).reshape(groups.shape[0], 2, 2, -1, features)
    # Features first, so that the products below are plain ones: twice as fast. With the barrier
    # XLA turns what lies together.
    turned = lax.optimization_barrier(lax.optimization_barrier(phases).mT)

    def add(total: Grid, group: tuple) -> tuple[Grid, None]:
        images, parts = group
        seen = _seen(images, tiles, low)
        sent = _transform(_transposed(OUTPUT), [list(row) for row in parts])
        rows = zip(total, sent, seen, strict=True)
        return [[t + y @ x for t, y, x in zip(*row, strict=True)] for row in rows], None

    nothing = jnp.zeros((features, channels), jnp.result_type(images, cotangent))
    total, _ = lax.scan(add, [[nothing] * 4] * 4, (groups, turned))
    taps = _transform(_transposed(KERNEL), total)
    return jnp.stack([jnp.stack([tap.T for tap in row]) for row in taps])


def _tiles(out: Sequence[int]) -> tuple[int, int]:
    return -(-out[0] // 2), -(-out[1] // 2)


def _grouped(images: chex.Array, out: Sequence[int], features: int) -> chex.Array:
    """Return images as [groups, few, height, width, channels]."""
    numbers = 16 * math.prod(_tiles(out)) * (images.shape[-1] + features)
    return windows.grouped(images, numbers, CACHED_NUMBERS)


def _seen(images: chex.Array, tiles: tuple[int, int], low: Sequence[int]) -> Grid:
    """Return Bᵀ d B: 4 × 4 arrays [tiles of all images, channels]."""
    zeros = windows.zeros_around(images.shape, (4, 4), (2, 2), tiles, low)
    down, right = tiles
    phases = windows.pad(images, zeros).reshape(-1, down + 1, 2, right + 1, 2, images.shape[-1])
    d = [
        [phases[:, i // 2 : down + i // 2, i % 2, j // 2 : right + j // 2, j % 2] for j in range(4)]
        for i in range(4)
    ]
    return [[x.reshape(-1, x.shape[-1]) for x in row] for row in _transform(INPUT, d)]


def _transform(matrix: Matrix, grid: Grid) -> Grid:
    """Return M P Mᵀ of a grid P of arrays."""
    return _left(matrix, _transposed(_left(matrix, _transposed(grid))))


def _left(matrix: Matrix, grid: Grid) -> Grid:
    """Return M P; nothing is added for a 0."""
    return [
        [
            sum(m * p for m, p in zip(row, column, strict=True) if m)
            for column in zip(*grid, strict=True)
        ]
        for row in matrix
    ]


def _transposed(grid: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*grid, strict=True)]
