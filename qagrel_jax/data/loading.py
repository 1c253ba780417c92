"""Any data set by its name: the digits, a set of TensorFlow Datasets, or a file of arrays."""

from __future__ import annotations

import os
import re
from pathlib import Path

from qagrel_jax.data import cache, decoding, digits, npz, tfds
from qagrel_jax.data.dataset import DataError, Dataset, Progress

_NAME = re.compile(r"^(?P<name>\w+)(/(?P<config>[\w\-.+]+))?(:(?P<version>\d+\.\d+\.\d+))?$")


def load(
    name: str | os.PathLike,
    data_dir: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Load an image classification set: splits "train" and "test" (or "validation").

    Args:
      name: "digits", a TFDS name (``name[/config][:version]``), a prepared folder in ``data_dir``,
        or the path (text or ``Path``) of an ``.npz`` file with arrays ``train_images``,
        ``train_labels``, ``test_images`` and ``test_labels`` (``qagrel_jax.data.npz``).
      data_dir: where TFDS keeps prepared sets; $TFDS_DATA_DIR, else ~/tensorflow_datasets.
      cache_dir: where decoded arrays are kept; $QAGREL_JAX_CACHE, else ~/.cache/qagrel_jax, or
        $XDG_CACHE_HOME/qagrel_jax where this is set.
      progress: called as images are decoded; by default a bar on an interactive stderr.

    Returns:
      A ``Dataset`` of uint8 images [n, height, width, channels] and int32 labels [n].

    Raises:
      DataError: an unknown name, a damaged or missing file, a set that is not image classification
        with images of one size, no network, or a missing package. One line, in seconds.

    >>> digits = load("digits")
    >>> digits.train_images.shape, digits.num_classes
    ((1437, 8, 8, 1), 10)
    """
    if isinstance(name, os.PathLike):
        name = os.fspath(name)
    if name == "digits":
        return digits.load()
    if isinstance(name, str) and name.endswith(".npz"):
        return npz.load(Path(name).expanduser())
    match = _NAME.match(name) if isinstance(name, str) else None
    wanted_root = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    try:
        root = wanted_root.expanduser()
        kept = Path(cache_dir or cache.default_folder()).expanduser()
    except RuntimeError:
        raise DataError(
            "no home folder is known: set TFDS_DATA_DIR, where the data are, and QAGREL_JAX_CACHE"
        ) from None
    if match is None:
        raise tfds.unknown(name, root)
    wanted = match.groupdict()
    folder = tfds.find_prepared(root, **wanted) or tfds.prepare(root, **wanted)
    named = folder.parent.relative_to(root).as_posix()
    return decoding.read(named, folder, kept, progress)
