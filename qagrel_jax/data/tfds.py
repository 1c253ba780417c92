"""TensorFlow Datasets: finding a prepared set, preparing one, asking what it holds.

Sets are prepared as ArrayRecord, whose random-access ``data_source`` needs no TensorFlow. This is
the only file that imports ``tensorflow_datasets``, and only when used.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import logging
import os
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qagrel_jax.data.dataset import INSTALL, DataError

WELL_KNOWN = (
    *("mnist", "fashion_mnist", "kmnist", "emnist/balanced"),
    *("cifar10", "cifar100", "svhn_cropped"),
)
"""TFDS names worth suggesting; any other image classification set works by its name, too."""

_VERSION = re.compile(r"^\d+\.\d+\.\d+$")


def find_prepared(root: Path, name: str, config: str | None, version: str | None) -> Path | None:
    """Return ``root/name/[config/]version`` (the newest, if no version is asked for) or None.

    Raises:
      DataError: several configs are prepared, and none is asked for.
    """
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


def unknown(name: object, root: Path) -> DataError:
    """Return the error about a name that is none, with what there is."""
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


def prepare(root: Path, name: str, config: str | None, version: str | None) -> Path:
    """Download a registered TFDS set, write it as ArrayRecord below ``root``, return its folder.

    Raises:
      DataError: an unknown set, config or version; no image classification set, or images of
        varying size; no network, or TensorFlow missing where preparing needs it.
    """
    full_name = f"{name}/{config}" if config else name
    tfds = import_tfds()
    with quiet():
        try:
            # Not ``tfds.builder``, which asks the network about names it does not know.
            builder_class = tfds.core.registered.imported_builder_cls(name)
            valid = list(getattr(builder_class, "builder_configs", ()))
            if config and config not in valid:
                names = ", ".join(valid) or "none"
                raise DataError(f"data set {name!r} has no config {config!r}; valid: {names}")
            builder = builder_class(data_dir=os.fspath(root), config=config, version=version)
        except tfds.core.DatasetNotFoundError:
            raise unknown(full_name, root) from None
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"data set {full_name!r}: {reason(error)}") from None
    image_key, _ = feature_names(builder)
    if None in builder.info.features[image_key].shape:
        raise DataError(f"data set {full_name!r} holds images of varying size; one size is needed")
    _check_network(builder, full_name, root)
    try:
        with quiet(), contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(file_format="array_record")
    except Exception as error:
        if isinstance(error, ImportError) and "tensorflow" in str(error):
            raise DataError(
                f"preparing {full_name!r} needs TensorFlow once: pip install tensorflow, run "
                "again; reading needs none"
            ) from None
        raise DataError(f"cannot prepare {full_name!r} in {root}: {reason(error)}") from None
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


def feature_names(builder: Any) -> tuple[str, str]:
    """Return the names of the image feature and of the class label, found by their types.

    Raises:
      DataError: not one feature of each type.
    """
    features = import_tfds().features
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


def reason(error: BaseException) -> str:
    """Return the kind and the first line of an error of TFDS."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].strip()[:200]}" if lines else type(error).__name__


def import_tfds() -> Any:
    """Import ``tensorflow_datasets``; a ``DataError`` says what is missing."""
    try:
        with quiet():
            import importlib_resources  # noqa: F401  (tfds imports it without declaring it)
            import tensorflow_datasets as tfds
    except ImportError as error:
        missing = getattr(error, "name", None) or error
        raise DataError(f"TFDS data sets need {missing}: {INSTALL}") from None
    # A failure inside TFDS's own imports is logged there and leaves an empty module.
    if not hasattr(tfds, "builder_from_directory"):
        raise DataError(f"tensorflow_datasets cannot be imported as installed: {INSTALL}")
    return tfds


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back TFDS's advice on other packages and its word on folders that are not there."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
