"""Image classification sets as arrays: the embedded digits, and any TFDS set by name.

``load("mnist")`` reads a set prepared by TensorFlow Datasets through its random-access
``data_source``, which needs no TensorFlow, decodes it once into a cache of uint8 arrays, and from
then on takes a fraction of a second. A set that is not prepared yet is downloaded and prepared.
Images of a split larger than ``streaming.limit_bytes`` are never in memory: they are decoded to
disk and mapped from there.

``"digits"`` is always there: scikit-learn's 1,797 handwritten digits of 8×8 pixels (Alpaydin &
Kaynak 1998, UCI), their values 0..16 rescaled to 0..255. Every fifth image (indices 0, 5, 10, ...)
is a test image: 1,437 to train on and 360 to test on.

This is the only file that imports ``tensorflow_datasets`` or scikit-learn, and only when used.
"""

import contextlib
import difflib
import importlib.util
import io
import itertools
import logging
import math
import os
import re
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qagrel_jax import checks
from qagrel_jax.data import cache as array_cache
from qagrel_jax.data import streaming

WELL_KNOWN = (
    *("mnist", "fashion_mnist", "kmnist", "emnist/balanced"),
    *("cifar10", "cifar100", "svhn_cropped"),
)
"""TFDS names worth suggesting; any other image classification set works by its name, too."""

Progress = Callable[[str, int, int], None]
"""``(split, images done, images in all)``, called while a set is decoded for the first time."""

_NAME = re.compile(r"^(?P<name>\w+)(/(?P<config>[\w\-.+]+))?(:(?P<version>\d+\.\d+\.\d+))?$")
_VERSION = re.compile(r"^\d+\.\d+\.\d+$")
_INSTALL = "pip install 'qagrel_jax[experiments]'"
_CHUNK = 500  # images read at once, between two reports of progress


class DataError(ValueError):
    """A data set that cannot be had; the message is one line and says what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class Dataset(NamedTuple):
    """An image classification set in memory, or (``np.memmap``) on disk."""

    name: str  # of the TFDS data set, or "digits"
    version: str  # of the data set
    train_images: np.ndarray  # uint8[n, height, width, channels]
    train_labels: np.ndarray  # int32[n], the class of each image
    test_images: np.ndarray  # uint8[m, height, width, channels]
    test_labels: np.ndarray  # int32[m], likewise
    num_classes: int  # labels are in [0, num_classes)


def load(
    name: str,
    data_dir: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Load an image classification set: splits "train" and "test" (or "validation").

    Args:
      name: "digits", a TFDS name (``name[/config][:version]``), or a prepared folder in
        ``data_dir``.
      data_dir: where TFDS keeps prepared sets; $TFDS_DATA_DIR, else ~/tensorflow_datasets.
      cache_dir: where decoded arrays are kept; see ``cache.default_folder``.
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
    if name == "digits":
        return _digits()
    match = _NAME.match(name) if isinstance(name, str) else None
    root = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    if match is None:
        raise _unknown(name, root)
    folder = _find_prepared(root, **match.groupdict()) or _prepare(root, **match.groupdict())
    return _read_prepared(folder, Path(cache_dir or array_cache.default_folder()), progress)


def validate(images: np.ndarray, labels: np.ndarray, num_classes: int) -> None:
    """Check that arrays are what the networks here expect.

    Args:
      images: uint8[n, height, width, channels], n ≥ 1.
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
        raise ValueError(f"images must be uint8 (0..255), got {images.dtype}")
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


def _digits() -> Dataset:
    table = _digits_table()
    images = np.round(table[:, :64].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    labels = table[:, 64].astype(np.int32)
    test = np.arange(len(labels)) % 5 == 0
    return Dataset("digits", "1.0.0", images[~test], labels[~test], images[test], labels[test], 10)


def _digits_table() -> np.ndarray:
    """Return scikit-learn's table of the digits, float64[images, 64 pixels and the class]."""
    # Its file rather than its function: importing scikit-learn takes a second.
    package = importlib.util.find_spec("sklearn")
    if package is None:
        raise DataError(f"'digits' needs scikit-learn: {_INSTALL}")
    for folder in package.submodule_search_locations or ():
        path = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            return np.loadtxt(path, delimiter=",")
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return np.column_stack([pixels, labels])


# --- finding and preparing ------------------------------------------------------------------------


def _find_prepared(root: Path, name: str, config: str | None, version: str | None) -> Path | None:
    """Return ``root/name/[config/]version`` (the newest, if no version is asked for) or None."""
    base = root / name / config if config else root / name
    if found := _versions(base, version):
        return found[-1]
    # A set with configs has them as folders between its name and its versions.
    configs = {child.name: v for child in _children(base) if (v := _versions(child, version))}
    if len(configs) > 1:
        names = ", ".join(f"{name}/{config}" for config in sorted(configs))
        raise DataError(f"{name!r} is prepared in several configs; valid: {names}")
    return next(iter(configs.values()))[-1] if configs else None


def _versions(folder: Path, version: str | None) -> list[Path]:
    found = [
        child
        for child in _children(folder)
        if _VERSION.match(child.name)
        and version in (None, child.name)
        and (child / "dataset_info.json").is_file()
    ]
    return sorted(found, key=lambda path: [int(part) for part in path.name.split(".")])


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(child for child in folder.iterdir() if child.is_dir())
    except OSError:
        return []


def _unknown(name: object, root: Path) -> DataError:
    prepared = [
        child.name
        for child in _children(root)
        if _versions(child, None) or any(_versions(config, None) for config in _children(child))
    ]
    plain = str(name).lower().replace("-", "_")
    near = difflib.get_close_matches(plain, ["digits", *prepared, *WELL_KNOWN], n=1, cutoff=0.8)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return DataError(
        f"unknown data set {name!r}; {hint}valid: digits; prepared in {root}: "
        f"{', '.join(prepared) or 'none'}; through TFDS: {', '.join(WELL_KNOWN)}, "
        "or any other image classification set there"
    )


def _prepare(root: Path, name: str, config: str | None, version: str | None) -> Path:
    """Download a registered TFDS set, write it as ArrayRecord below ``root``, return its folder."""
    full_name = f"{name}/{config}" if config else name
    tfds = _import_tfds()
    with _quiet():
        try:
            # Not ``tfds.builder``, which asks the network about names it does not know.
            builder_class = tfds.core.registered.imported_builder_cls(name)
            valid = list(getattr(builder_class, "builder_configs", ()))
            if config and config not in valid:
                names = ", ".join(valid) or "none"
                raise DataError(f"data set {name!r} has no config {config!r}; valid: {names}")
            builder = builder_class(data_dir=os.fspath(root), config=config, version=version)
        except tfds.core.DatasetNotFoundError:
            raise _unknown(full_name, root) from None
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"data set {full_name!r}: {_reason(error)}") from None
    image_key, _ = _keys(builder)
    if None in builder.info.features[image_key].shape:
        raise DataError(f"data set {full_name!r} holds images of varying size; one size is needed")
    _check_network(builder, full_name, root)
    try:
        with _quiet(), contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(file_format="array_record")
    except Exception as error:
        if isinstance(error, ImportError) and "tensorflow" in str(error):
            raise DataError(
                f"preparing {full_name!r} needs TensorFlow once: pip install tensorflow, run "
                "again; reading needs none"
            ) from None
        raise DataError(f"cannot prepare {full_name!r} in {root}: {_reason(error)}") from None
    return Path(os.fspath(builder.data_dir))


def _check_network(builder: Any, name: str, root: Path) -> None:
    urls = list(builder.url_infos or ())
    if not urls or _downloaded(urls[0], root / "downloads") or _reachable(urls[0]):
        return
    raise DataError(
        f"data set {name!r} is not prepared in {root} and its source {urls[0]} cannot be reached: "
        "copy a prepared folder there, set TFDS_DATA_DIR to where one is, or use 'digits'"
    )


def _downloaded(url: str, downloads: Path) -> bool:
    """Whether TFDS holds ``url`` from an earlier, interrupted preparation."""
    return any(
        url in info.read_text(errors="replace") and info.with_suffix("").is_file()
        for info in downloads.glob("**/*.INFO")
    )


def _reachable(url: str, timeout: float = 3.0) -> bool:
    """Whether a server (or the proxy the environment names) answers for ``url``."""
    answered = []

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            with urllib.request.urlopen(request, timeout=timeout):
                answered.append(True)
        except urllib.error.HTTPError as error:
            # "Forbidden" or "method not allowed" is an answer; a gateway's complaint is not.
            answered.append(error.code < 500 and error.code != 407)
        except (OSError, ValueError):
            answered.append(False)

    # Looking a name up ignores the socket's timeout, so the clock is kept from outside.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout)
    return bool(answered and answered[0])


# --- reading --------------------------------------------------------------------------------------


def _read_prepared(folder: Path, cache: Path, progress: Progress | None) -> Dataset:
    version = folder.name
    name = folder.parent.name
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
    tfds = _import_tfds()
    with _quiet():
        try:
            builder = tfds.builder_from_directory(os.fspath(folder))
            splits = builder.info.splits
        except Exception as error:
            raise DataError(
                f"cannot read {folder / 'dataset_info.json'} ({_reason(error)}): prepare the data "
                "set again"
            ) from None
        keys = _keys(builder)
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
            raise _damaged(_shards(info, start, stop), _reason(error)) from None
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
            raise _damaged(path, _reason(error)) from None
        if found != expected:
            raise _damaged(path, f"{found} records instead of {expected}")


def _keys(builder: Any) -> tuple[str, str]:
    """Return the names of the image feature and of the class label, found by their types."""
    features = _import_tfds().features
    found = builder.info.features
    supervised = builder.info.supervised_keys or ()
    keys = []
    for kind in (features.Image, features.ClassLabel):
        names = [key for key in found if type(found[key]) is kind] if hasattr(found, "keys") else []
        # CIFAR-100 has a fine and a coarse label: the set itself says which is *the* label.
        names = [key for key in names if key in supervised] or names
        if len(names) != 1:
            raise DataError(
                f"data set {builder.info.full_name!r} is not an image classification set: it has "
                f"{len(names)} {kind.__name__} features, one is needed"
            )
        keys += names
    return keys[0], keys[1]


def _damaged(path: object, why: str) -> DataError:
    return DataError(f"data file {path} is damaged ({why}): prepare the data set again")


def _reason(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].strip()[:200]}" if lines else type(error).__name__


def _import_tfds() -> Any:
    try:
        with _quiet():
            import importlib_resources  # noqa: F401  (tfds imports it without declaring it)
            import tensorflow_datasets as tfds
    except ImportError as error:
        missing = getattr(error, "name", None) or error
        raise DataError(f"TFDS data sets need {missing}: {_INSTALL}") from None
    # A failure inside TFDS's own imports is logged there and leaves an empty module.
    if not hasattr(tfds, "builder_from_directory"):
        raise DataError(f"tensorflow_datasets cannot be imported as installed: {_INSTALL}")
    return tfds


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back TFDS's advice on other packages and its word on folders that are not there."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


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
