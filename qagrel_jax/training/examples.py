"""Labeled images to train on: in memory or streamed, and a validation split held out of them."""

import warnings
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from qagrel_jax import checks, sharding
from qagrel_jax.data import streaming


class Examples(NamedTuple):
    """Images and their labels.

    >>> examples = Examples(np.zeros((5, 8, 8, 1), np.uint8), np.arange(5))
    >>> kept, held_out = split(examples, 0.2)
    >>> kept.images.shape, held_out.images.shape
    ((4, 8, 8, 1), (1, 8, 8, 1))
    """

    images: chex.Array | streaming.HostImages  # uint8[n, height, width, channels], or floats
    labels: chex.Array  # int32[n], the class of each image


def place(examples: Examples, mesh: Mesh | None = None) -> Examples:
    """Put examples on the device, or leave them on the host to be streamed.

    Args:
      examples: in host memory, on a device, or placed already.
      mesh: devices that each get a copy; None for one.

    Returns:
      Examples in device memory; above ``streaming.limit_bytes`` ``examples`` with ``HostImages``.

    Raises:
      ValueError: from ``streaming.limit_bytes``.
    """
    images, labels = as_arrays(examples)
    if isinstance(images, np.ndarray) and images.nbytes > streaming.limit_bytes():
        images = streaming.HostImages(images)
    if isinstance(images, streaming.HostImages):
        return Examples(images, np.asarray(labels))
    return Examples(*jax.tree.map(jnp.asarray, sharding.replicate((images, labels), mesh)))


def split(examples: Examples, fraction: float) -> tuple[Examples, Examples]:
    """Hold a validation set out of ``examples``, the same one for every seed and rule.

    Args:
      examples: n examples.
      fraction: of them to hold out, in (0, 1); at least one, drawn by a fixed permutation.

    Returns:
      ``(kept, held_out)``.

    Raises:
      ValueError: a fraction that leaves one side empty; not as many images as labels.
      TypeError: ``fraction`` is no number.
    """
    checks.number("fraction", fraction, 0, 1, above=True)
    images, labels = paired(examples)
    examples_in_all = len(labels)
    held_out = max(1, round(fraction * examples_in_all))
    if fraction == 1 or held_out >= examples_in_all:
        raise ValueError(f"validation fraction must leave examples on both sides, got {fraction}")
    order = np.random.default_rng(0).permutation(examples_in_all)
    kept, held = np.sort(order[held_out:]), np.sort(order[:held_out])
    if isinstance(images, np.ndarray) and images.nbytes > streaming.limit_bytes():
        images = streaming.HostImages(images)  # so that nothing is copied
    if isinstance(images, streaming.HostImages):
        parts = images.rows(kept), images.rows(held)
    else:
        parts = images[kept], images[held]
    return Examples(parts[0], labels[kept]), Examples(parts[1], labels[held])


def paired(examples: Examples) -> Examples:
    """Return ``as_arrays`` of as many images as labels.

    Raises:
      ValueError: as ``as_arrays``; not as many; one label instead of [n].
    """
    images, labels = as_arrays(examples)
    if not labels.ndim:
        raise ValueError(f"labels must be [n], the number of each image's class, got {labels}")
    if len(images) != len(labels):
        raise ValueError(f"there are {len(images)} images, but {len(labels)} labels")
    return Examples(images, labels)


def as_arrays(examples: Examples, name: str = "examples") -> Examples:
    """Return images and labels as arrays where they are lists, whole labels as int32.

    Raises:
      ValueError: a label that int32 does not hold.
      TypeError: no pair, images that are no array.
    """
    if not (isinstance(examples, tuple | list) and len(examples) == 2):
        raise TypeError(
            f"{name} must be Examples(images, labels), such as Examples(digits.train_images, "
            f"digits.train_labels), got {checks.in_a_line(type(examples).__name__)}"
        )
    images, labels = examples
    if not isinstance(images, jax.Array | np.ndarray | streaming.HostImages):
        images = np.asarray(images)
        if images.dtype == object:
            raise TypeError(
                f"images of {name} must be an array [n, height, width, channels], got "
                f"{checks.in_a_line(type(examples[0]).__name__)}"
            )
    if not isinstance(labels, jax.Array | np.ndarray):
        labels = np.asarray(labels)
    if jnp.issubdtype(labels.dtype, jnp.integer) and labels.dtype != np.int32:
        largest = np.iinfo(np.int32).max
        if labels.size and not -largest <= labels.min() <= labels.max() <= largest:
            raise ValueError(f"labels must be class numbers, got up to {labels.max()}")
        labels = labels.astype(np.int32)  # narrower ones could not say "of no class"
    if isinstance(images, np.ndarray):
        images = checks.native(images)
    return Examples(images, labels)


def check_kind(name: str, examples: Examples, image_shape: tuple[int, ...] | None) -> None:
    """Check dtypes and shapes of arrays.

    Args:
      name: what the examples are called in a message.
      examples: arrays.
      image_shape: (height, width, channels); None: any.

    Raises:
      ValueError: images of another shape, labels that are not [n], n that of the images.
      TypeError: images that are neither uint8 nor floats, labels that are no whole numbers.
    """
    images, labels = examples
    check_images(name, images, image_shape)
    checks.whole_numbers(f"labels of {name}", labels)
    if labels.ndim != 1:
        raise ValueError(
            f"labels of {name} must be [n], the number of each image's class, got "
            f"{list(labels.shape)}"
        )
    if len(images) != len(labels):
        raise ValueError(f"{name} has {len(images)} images, but {len(labels)} labels")


def check_images(
    name: str, images: chex.Array | streaming.HostImages, image_shape: tuple[int, ...] | None
) -> None:
    """Check dtype and shape of images.

    Args:
      name: what the examples are called in a message.
      images: [n, height, width, channels].
      image_shape: (height, width, channels); None: any.

    Raises:
      ValueError: of another shape.
      TypeError: neither uint8 nor floats.
    """
    if image_shape is not None and tuple(images.shape[1:]) != image_shape:
        wanted = ", ".join(map(str, image_shape))
        raise ValueError(f"images of {name} must be [n, {wanted}], got {list(images.shape)}")
    dtype = images.dtype
    if dtype != np.uint8 and not jnp.issubdtype(dtype, jnp.floating):
        instead = ": give 255 * images.astype(np.uint8)" if np.issubdtype(dtype, np.bool_) else ""
        raise TypeError(
            f"images of {name} must be uint8, or floats as they are, got {dtype}{instead}"
        )


def check_pixels(name: str, images: chex.Array | streaming.HostImages) -> None:
    """Check that float images are finite, where they are known; of streamed ones the first.

    Raises:
      ValueError: NaN or infinity.

    Warns:
      UserWarning: floats look like pixels up to 255: floats are taken as they are; uint8 images
        hold nothing above 1, and are divided by 255.
    """
    seen: Any = images
    if not len(images):
        return
    if isinstance(images, streaming.HostImages):
        seen = images.read(np.arange(min(len(images), 256)))
    elif not checks.known(images):
        return
    if images.dtype == np.uint8:
        if np.asarray(seen[:256]).max(initial=0) == 1:
            warnings.warn(
                f"images of {name} are uint8 of 0 and 1, which are divided by 255: multiply by "
                "255, or give floats",
                stacklevel=3,
            )
        return
    if not (jnp if isinstance(seen, jax.Array) else np).isfinite(seen).all():
        checks.finite(f"images of {name}", seen)
    some = np.asarray(seen[:256], np.float32)
    if some.min() >= 0 and some.max() > 128:
        warnings.warn(
            f"images of {name} are floats up to {some.max():g}, taken as they are: divide by "
            "255, or give uint8",
            stacklevel=3,
        )
