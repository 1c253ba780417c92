"""Images of one's own: NumPy arrays in one ``.npz`` file.

    np.savez("birds.npz", train_images=..., train_labels=..., test_images=..., test_labels=...)

Images are uint8[n, height, width, channels], or [n, height, width] if they are gray; labels are
whole numbers from 0. There are as many classes as the largest label says, or as ``num_classes``
where the file has such a number.
"""

import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from qagrel_jax.data.dataset import DataError, Dataset, validate

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


def load(path: Path) -> Dataset:
    """Read a file; its name without ``.npz`` is the set's.

    Raises:
      DataError: no such file, one that is no ``.npz``, or lacks an array; arrays that are not as
        said above, training and test images of different shape.

    Warns:
      UserWarning: a class has no image, where the file has no ``num_classes``.
    """
    found = _read(path)
    classes = found.get("num_classes", np.asarray(0))
    if classes.shape or not np.issubdtype(classes.dtype, np.integer):
        raise DataError(f"num_classes of {path} must be one whole number, got {classes!r}")
    splits = []
    for split in ("train", "test"):
        images, labels = found[f"{split}_images"], found[f"{split}_labels"]
        if not np.issubdtype(labels.dtype, np.integer):
            raise DataError(f"{split}_labels of {path} must be whole numbers, got {labels.dtype}")
        splits.append((images[..., None] if images.ndim == 3 else images, labels))
    num_classes = int(classes) or 1 + max(int(labels.max(initial=0)) for _, labels in splits)
    for split, (images, labels) in zip(("train", "test"), splits, strict=True):
        try:
            validate(images, labels, num_classes)
        except ValueError as error:
            raise DataError(f"{split} of {path}: {error}") from None
    if not int(classes):
        _warn_of_gaps(path, [labels for _, labels in splits])
    (images, classes), (test_images, test_classes) = splits
    if images.shape[1:] != test_images.shape[1:]:
        raise DataError(
            f"images of {path} must be of one shape, got {list(images.shape[1:])} to train on and "
            f"{list(test_images.shape[1:])} to test on"
        )
    labels, test_labels = classes.astype(np.int32), test_classes.astype(np.int32)
    return Dataset(path.stem, "npz", images, labels, test_images, test_labels, num_classes)


def _warn_of_gaps(path: Path, labels: list[np.ndarray]) -> None:
    there = sorted({int(label) for some in labels for label in np.unique(some)})
    missing = [number for number, label in enumerate(there) if number != label]
    if missing:
        warnings.warn(
            f"{path} has no image of class {missing[0]}, but labels up to {there[-1]}, and so many "
            "outputs: number the classes from 0 on, or add num_classes",
            stacklevel=4,
        )


def _read(path: Path) -> dict[str, np.ndarray]:
    """Return the file's arrays."""
    if not path.exists():
        raise DataError(f"{path} does not exist")
    if not path.is_file() or not zipfile.is_zipfile(path):
        raise DataError(f"{path} is no whole file of arrays: write it with np.savez")
    try:
        with np.load(path, allow_pickle=False) as stored:
            lacking = [name for name in ARRAYS if name not in stored]
            found = {
                name: _numbers(path, name, stored)
                for name in (*ARRAYS, "num_classes")
                if name in stored
            }
    except DataError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"cannot read {path}: {error}") from None
    if lacking:
        raise DataError(f"{path} has no {', '.join(lacking)}: it must hold {', '.join(ARRAYS)}")
    return found


def _numbers(path: Path, name: str, stored: Mapping[str, np.ndarray]) -> np.ndarray:
    try:
        return stored[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise DataError(
            f"{name} of {path} holds objects, not numbers: make one array of it, np.stack(...) of "
            "images of one shape"
        ) from None
