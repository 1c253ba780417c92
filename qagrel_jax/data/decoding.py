"""A prepared TFDS set as arrays, decoded once into a cache.

Images of a split larger than ``streaming.limit_bytes`` are never in memory: they are decoded to
disk and mapped from there.
"""

from __future__ import annotations

import itertools
import math
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from qagrel_jax.data import cache as array_cache
from qagrel_jax.data import streaming
from qagrel_jax.data.dataset import DataError, Dataset, Progress, validate
from qagrel_jax.data.tfds import feature_names, import_tfds, quiet, reason

_CHUNK = 500  # images read at once, between two reports of progress


def read(name: str, folder: Path, cache: Path, progress: Progress | None) -> Dataset:
    """Read a prepared set from the cache, or decode it into the cache.

    Args:
      name: of the set, with its builder config if it has any: ``mnist``, ``emnist/balanced``.
      folder: of a prepared version of the set.
      cache: where decoded arrays are kept.
      progress: called as images are decoded; None: a bar on an interactive stderr.

    Raises:
      DataError: a damaged or missing file, or a set of another kind.
    """
    version = folder.name
    path = array_cache.entry(cache, folder, f"{name}-{version}")
    limit = streaming.limit_bytes()
    arrays = array_cache.read(path, limit)
    if arrays is None:
        arrays = _decode(folder, progress, cache)
        array_cache.write(path, arrays)
        if any(isinstance(array, np.memmap) for array in arrays.values()):
            arrays = array_cache.read(path, limit) or arrays  # frees the space decoded into
    return Dataset(
        name,
        version,
        arrays["train_images"],
        arrays["train_labels"],
        arrays["test_images"],
        arrays["test_labels"],
        int(arrays["num_classes"]),
    )


def _decode(folder: Path, progress: Progress | None, cache: Path) -> dict[str, np.ndarray]:
    """Read both splits of a prepared folder into arrays."""
    tfds = import_tfds()
    with quiet():
        try:
            builder = tfds.builder_from_directory(os.fspath(folder))
            splits = builder.info.splits
        except Exception as error:
            raise DataError(
                f"cannot read {folder / 'dataset_info.json'} ({reason(error)}): prepare the data "
                "set again"
            ) from None
        keys = feature_names(builder)
        num_classes = builder.info.features[keys[1]].num_classes
        test = "test" if "test" in splits else "validation"
        for split in ("train", test):
            if split not in splits:
                raise DataError(
                    f"data set {folder} has no split {split!r}; it has: "
                    f"{', '.join(splits) or 'none'} (needed: train, and test or validation)"
                )
            # All files before any decoding: a damaged one is found in seconds, not after minutes.
            if not splits[split].num_examples:
                raise DataError(f"data set {builder.data_dir} has an empty split {split!r}")
            _check_files(splits[split])
        arrays = {"num_classes": np.asarray(num_classes or 0)}
        for split, role in (("train", "train"), (test, "test")):
            images, labels = _decode_split(builder, split, keys, progress or _bar(split), cache)
            try:
                validate(images, labels, num_classes or 0)
            except ValueError as error:
                raise DataError(f"data set {folder}, split {split!r}: {error}") from None
            arrays[f"{role}_images"], arrays[f"{role}_labels"] = images, labels
    if arrays["train_images"].shape[1:] != arrays["test_images"].shape[1:]:
        sizes = f"{arrays['train_images'].shape[1:]} and {arrays['test_images'].shape[1:]}"
        raise DataError(f"data set {folder} holds images of varying size: {sizes}")
    return arrays


def _decode_split(
    builder: Any, split: str, keys: tuple[str, str], progress: Progress, cache: Path
) -> tuple[np.ndarray, np.ndarray]:
    info = builder.info.splits[split]
    try:
        source = builder.as_data_source(split=split)
    except (NotImplementedError, ValueError):
        raise DataError(
            f"data set {builder.data_dir} is stored as {builder.info.file_format.value}, which "
            "only TensorFlow reads: prepare it again with file_format='array_record'"
        ) from None
    images, labels = None, np.empty(info.num_examples, np.int32)
    for start in range(0, info.num_examples, _CHUNK):
        stop = min(start + _CHUNK, info.num_examples)
        try:
            examples = source.__getitems__(range(start, stop))
        except Exception as error:
            raise _damaged(_shards(info, start, stop), reason(error)) from None
        for i, example in enumerate(examples, start):
            image = np.asarray(example[keys[0]])
            image = image[..., None] if image.ndim == 2 else image
            if image.dtype != np.uint8:
                raise DataError(
                    f"data set {builder.data_dir} holds {image.dtype} images, not uint8"
                )
            if images is None:
                images = _room((info.num_examples, *image.shape), cache)
            if image.shape != images.shape[1:]:
                raise DataError(
                    f"data set {builder.data_dir} holds images of varying size: image {i} of "
                    f"{split!r} is {image.shape}, the first is {images.shape[1:]}"
                )
            images[i], labels[i] = image, example[keys[1]]
        progress(split, stop, info.num_examples)
    return images, labels  # type: ignore[return-value]  # an empty split was refused before


def _room(shape: tuple[int, ...], cache: Path) -> np.ndarray:
    """Return room for images: in memory, or in a nameless file of the cache's disk."""
    size = math.prod(shape)
    if size <= streaming.limit_bytes():
        return np.empty(shape, np.uint8)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache) as file:
            if hasattr(os, "posix_fallocate"):  # else a full disk would kill us while we write
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, np.uint8, "w+", shape=shape)
    except OSError as error:
        raise DataError(
            f"decoding needs {size / 2**30:.1f} GiB in {cache}, twice for a moment, which cannot "
            f"be had ({error.strerror or error}): set QAGREL_JAX_CACHE to another disk"
        ) from None


def _shards(split: Any, start: int, stop: int) -> str:
    """Name the files that hold records ``start`` to ``stop``."""
    ends = itertools.accumulate(split.shard_lengths)
    files = zip(ends, split.shard_lengths, split.filepaths, strict=True)
    return " or ".join(str(p) for end, n, p in files if start < end and end - n < stop)


def _check_files(split: Any) -> None:
    """Compare every record file of ``split`` with the number of records the set says it holds."""
    from array_record.python.array_record_module import ArrayRecordReader

    for path, expected in zip(split.filepaths, split.shard_lengths, strict=True):
        if "array_record" not in Path(path).name:
            continue
        if not Path(path).is_file():
            raise DataError(f"data file {path} is missing: prepare the data set again")
        try:
            reader = ArrayRecordReader(os.fspath(path))
            found = reader.num_records()
            reader.close()
        except Exception as error:
            raise _damaged(path, reason(error)) from None
        if found != expected:
            raise _damaged(path, f"{found} records instead of {expected}")


def _damaged(path: object, why: str) -> DataError:
    return DataError(f"data file {path} is damaged ({why}): prepare the data set again")


def _bar(split: str) -> Progress:
    from tqdm import tqdm

    # ``disable=None``: no bar where stderr is a file.
    bar = tqdm(desc=f"decoding {split} (once)", unit=" images", disable=None, leave=False)

    def report(_: str, done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)
        if done == total:
            bar.close()

    return report
