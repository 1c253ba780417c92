"""Windows of images: at which positions they are applied, and what is put around the images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import chex
import jax.numpy as jnp
from jax import lax

from qagrel_jax import checks

Padding = Literal["SAME", "VALID"]
PADDINGS = get_args(Padding)


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
    check_geometry(window, strides, padding)
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


def check_geometry(window: Any, strides: Any, padding: Any) -> None:
    """Refuse what ``output_size`` and ``convolve`` refuse.

    Raises:
      ValueError, TypeError: as ``output_size``.
    """
    checks.wholes("window", window, length=2)
    checks.wholes("strides", strides, length=2)
    checks.option("padding", padding, PADDINGS)


def zeros_before(
    image_shape: Sequence[int], window: tuple[int, int], strides: tuple[int, int], padding: Padding
) -> list[int]:
    """Return how many rows and columns of zeros go before those of images [batch, h, w, c]."""
    pads = lax.padtype_to_pads(image_shape[1:3], window, strides, padding)
    return [before for before, _ in pads]


def zeros_around(
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


def pad(images: chex.Array, zeros: Sequence[tuple[int, int]]) -> chex.Array:
    """Put rows and columns of zeros around images [batch, h, w, c], or where negative take away."""
    around = ((0, 0, 0), *((*z, 0) for z in zeros), (0, 0, 0))
    return lax.pad(images, jnp.zeros((), images.dtype), around)


def grouped(images: chex.Array, numbers: int, most: int) -> chex.Array:
    """Return images [batch, ...] as groups [groups, few, ...], to be worked on one after another.

    Args:
      images: at least one.
      numbers: that the work on one image makes.
      most: that a group may make, if one image does not make more.
    """
    batch, few = images.shape[0], max(1, most // numbers)
    few = max(n for n in range(1, min(few, batch) + 1) if batch % n == 0)
    return images.reshape(-1, few, *images.shape[1:])
