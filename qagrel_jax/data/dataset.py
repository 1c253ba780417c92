"""What an image classification set is here: uint8 images and int32 labels, checked."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from qagrel_jax import checks

Progress = Callable[[str, int, int], None]
"""``(split, images done, images in all)``, called while a set is decoded for the first time."""

INSTALL = "pip install 'qagrel_jax[experiments]'"


class DataError(ValueError):
    """A data set that cannot be had; the message is one line and says what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class Dataset(NamedTuple):
    """An image classification set in memory, or (``np.memmap``) on disk.

    >>> images, labels = np.zeros((5, 8, 8, 1), np.uint8), np.zeros(5, np.int32)
    >>> Dataset("blank", "1.0.0", images[:3], labels[:3], images[3:], labels[3:], 10)
    <Dataset 'blank' 1.0.0: 3 training and 2 test images [8, 8, 1], 10 classes>
    """

    name: str  # of the TFDS data set, or of the file; "digits"
    version: str  # of the data set; "npz" of a file
    train_images: np.ndarray  # uint8[n, height, width, channels]
    train_labels: np.ndarray  # int32[n], the class of each image
    test_images: np.ndarray  # uint8[m, height, width, channels]
    test_labels: np.ndarray  # int32[m], likewise
    num_classes: int  # labels are in [0, num_classes)

    def __repr__(self) -> str:
        shapes: list[Any] = [getattr(x, "shape", 0) for x in (self.train_images, self.test_images)]
        if not all(isinstance(shape, tuple) and len(shape) == 4 for shape in shapes):
            return f"Dataset{tuple(self)!r}"  # after jax.tree.map anything may stand in a field
        train, test = shapes
        return (
            f"<Dataset {self.name!r} {self.version}: {train[0]:,} training and {test[0]:,} test "
            f"images {list(train[1:])}, {self.num_classes} classes>"
        )


def validate(images: np.ndarray, labels: np.ndarray, num_classes: int) -> None:
    """Check that arrays are what the networks here expect.

    Args:
      images: uint8[n, height, width, channels], n ≥ 1; where they look like [n, channels, height,
        width] (1, 3 or 4 by more than 4 by more than 4), they are refused.
      labels: integer[n], each in [0, num_classes).
      num_classes: ≥ 2.

    Raises:
      ValueError: anything else, with the offending value.
      TypeError: ``num_classes`` is no number.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim != 4:
        raise ValueError(f"images must be [n, height, width, channels], got shape {images.shape}")
    if images.dtype != np.uint8:
        floats = np.issubdtype(images.dtype, np.floating)
        hint = ": of floats in [0, 1], (255 * images).round().astype(np.uint8)" if floats else ""
        raise ValueError(f"images must be uint8 (0..255), got {images.dtype}{hint}")
    if images.shape[1] in (1, 3, 4) and min(images.shape[2:]) > 4:
        raise ValueError(
            f"images must be [n, height, width, channels], got shape {images.shape}, channels "
            "first: np.moveaxis(images, 1, -1)"
        )
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be integers [n], got {labels.dtype} {labels.shape}")
    if len(images) != len(labels):
        raise ValueError(f"got {len(images)} images but {len(labels)} labels")
    if images.size == 0:
        raise ValueError(f"no images: shape {images.shape}")
    checks.whole("num_classes", num_classes, 2)
    outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if outside.size:
        first = outside[0]
        raise ValueError(f"label {labels[first]} (image {first}) is not in [0, {num_classes})")
