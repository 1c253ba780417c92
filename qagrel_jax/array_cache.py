"""A cache of named arrays on disk: whole or absent, and never in the way.

One uncompressed ``.npz`` an entry: its checksums tell a damaged file from a good one. A cache only
saves time, so a missing, damaged or unwritable one costs a rebuild (and a warning), never an error.
"""

import hashlib
import os
import warnings
from pathlib import Path

import numpy as np


def default_folder() -> Path:
    """Return $QAGREL_JAX_CACHE, else $XDG_CACHE_HOME/qagrel_jax, else ~/.cache/qagrel_jax."""
    if own := os.environ.get("QAGREL_JAX_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "qagrel_jax"


def entry(folder: Path, source: Path, name: str) -> Path:
    """Return the cache file for ``source``, a folder of data files, as it is at this moment.

    The file's name changes with the folder's path and with any file's name, size or time, so a
    source that changed is read again.

    Args:
      folder: the cache folder.
      source: the folder the arrays are decoded from.
      name: how the entry's file name begins.

    Returns:
      ``folder/name-<where>-<what>.npz``.
    """
    stats = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(source.iterdir())]
    where = _digest(str(source.resolve()))
    return folder / f"{name.replace('/', '-')}-{where}-{_digest(repr(stats))}.npz"


def read(path: Path) -> dict[str, np.ndarray] | None:
    """Return the arrays stored at ``path``, or None if there is no whole file."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    # A damaged zip raises nearly anything; whatever it is, the answer is to rebuild.
    except Exception:
        return None


def write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Store ``arrays`` at ``path``, whole or not at all, and drop what it replaces.

    Args:
      path: from ``entry``; older entries for the same source are removed.
      arrays: named arrays.

    Warns:
      UserWarning: the cache cannot be written.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        for old in path.parent.glob(f"{path.stem.rpartition('-')[0]}-*.npz"):
            if old != path:
                old.unlink(missing_ok=True)
    except OSError as error:
        warnings.warn(
            f"cannot write the cache {path.parent} ({error.strerror or error}): the images will be "
            "decoded again next time (set QAGREL_JAX_CACHE to a writable folder)",
            stacklevel=3,
        )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
