"""Convolution, and its unshared sibling, as matrix products over image patches.

On CPU, XLA runs its own convolution many times slower inside a compiled loop (``lax.scan``) than
outside, so there a convolution is written as patches times kernel, forward and backward alike. On
an accelerator ``lax.conv_general_dilated`` is the right one. Both give the same values to rounding.
"""

import functools
from typing import Literal

import chex
import jax
import jax.numpy as jnp
from jax import lax

Padding = Literal["SAME", "VALID"]


def patches(
    images: chex.Array, window: tuple[int, int], strides: tuple[int, int], padding: Padding
) -> chex.Array:
    """Cut out the window around every output position.

    Args:
      images: float[batch, height, width, channels].
      window: (rows, columns).
      strides: (down, right).
      padding: "SAME" (zeros around, output size ⌈n/stride⌉) or "VALID" (no padding).

    Returns:
      float[batch, out_height, out_width, rows·columns·channels], channels varying fastest.

    Raises:
      ValueError: the window does not fit into the image.
    """
    pads = lax.padtype_to_pads(images.shape[1:3], window, strides, padding)
    padded = jnp.pad(images, ((0, 0), *pads, (0, 0)))
    out = [(n - w) // s + 1 for n, w, s in zip(padded.shape[1:3], window, strides, strict=True)]
    if min(out) < 1:
        raise ValueError(
            f"a {window[0]}x{window[1]} window does not fit into images of shape "
            f"{images.shape[1:]} with padding {padding}"
        )
    rows, columns = (s * (n - 1) + 1 for n, s in zip(out, strides, strict=True))
    return jnp.concatenate(
        [
            padded[:, i : i + rows : strides[0], j : j + columns : strides[1]]
            for i in range(window[0])
            for j in range(window[1])
        ],
        axis=-1,
    )


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
        return _convolve_by_patches(images, kernel, strides, padding)
    return lax.conv_general_dilated(
        images, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


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
    return jnp.einsum("bhwk,hwko->bhwo", patches(images, window, strides, padding), kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve_by_patches(
    images: chex.Array, kernel: chex.Array, strides: tuple[int, int], padding: Padding
) -> chex.Array:
    window = kernel.shape[:2]
    return patches(images, window, strides, padding) @ kernel.reshape(-1, kernel.shape[-1])


def _forward(images, kernel, strides, padding):
    return _convolve_by_patches(images, kernel, strides, padding), (images, kernel)


def _backward(strides, padding, residuals, cotangent):
    images, kernel = residuals
    window = kernel.shape[:2]
    cut = patches(images, window, strides, padding)
    flat = cotangent.reshape(-1, cotangent.shape[-1])
    kernel_cotangent = (cut.reshape(-1, cut.shape[-1]).T @ flat).reshape(kernel.shape)
    # Gathering patches of the cotangent is faster here than scattering patches into the images,
    # which is what automatic differentiation of `patches` would do.
    pads = lax.padtype_to_pads(images.shape[1:3], window, strides, padding)
    spread = [
        (w - 1 - low, n + low - (s * (m - 1) + 1), s - 1)
        for w, (low, _), n, m, s in zip(
            window, pads, images.shape[1:3], cotangent.shape[1:3], strides, strict=True
        )
    ]
    dilated = lax.pad(cotangent, jnp.zeros((), cotangent.dtype), ((0, 0, 0), *spread, (0, 0, 0)))
    mirrored = kernel[::-1, ::-1].swapaxes(2, 3)
    return _convolve_by_patches(dilated, mirrored, (1, 1), "VALID"), kernel_cotangent


_convolve_by_patches.defvjp(_forward, _backward)
