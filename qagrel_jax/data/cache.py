"""A cache of named arrays on disk: whole or absent, and never in the way.

One uncompressed ``.npz`` an entry: its checksums tell a damaged file from a good one. A cache only
saves time, so a missing, damaged or unwritable one costs a rebuild (and a warning), never an error.
An array too large for memory can be mapped from its entry instead of read (its checksum is then not
looked at; an entry cut short is noticed all the same).
"""

import hashlib
import os
import struct
import warnings
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from qagrel_jax import atomic


def default_folder() -> Path:
    """Return $QAGREL_JAX_CACHE, else $XDG_CACHE_HOME/qagrel_jax, else ~/.cache/qagrel_jax.

    Raises:
      RuntimeError: no home folder is known.
    """
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


def read(path: Path, map_above: float = float("inf")) -> dict[str, np.ndarray] | None:
    """Return the arrays stored at ``path``, or None if there is no whole file.

    Args:
      path: from ``entry``.
      map_above: bytes above which an array is a read-only ``np.memmap`` of the file.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            sizes = {i.filename.removesuffix(".npy"): i.file_size for i in stored.zip.infolist()}
            return {
                name: _mapped(file, stored.zip, f"{name}.npy")
                if sizes[name] > map_above
                else stored[name]
                for name in stored.files
            }
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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacing(path) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        for old in path.parent.glob(f"{path.stem.rpartition('-')[0]}-*.npz"):
            if old != path:
                old.unlink(missing_ok=True)
    except OSError as error:
        warnings.warn(
            f"cannot write the cache {path.parent} ({error.strerror or error}): the images will be "
            "decoded again next time (set QAGREL_JAX_CACHE to a writable folder)",
            stacklevel=3,
        )


def _mapped(file: BinaryIO, archive: zipfile.ZipFile, member: str) -> np.ndarray:
    """Map an uncompressed ``.npy`` member of a zip file."""
    with archive.open(member) as content:
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[np.lib.format.read_magic(content)]
        shape, fortran, dtype = read_header(content)
        header = content.tell()
    # The zip format: 30 bytes, of which the last four are the lengths of a name and of extras.
    start = archive.getinfo(member).header_offset
    file.seek(start + 26)
    start += 30 + sum(struct.unpack("<HH", file.read(4))) + header
    return np.memmap(file, dtype, "r", start, shape, "F" if fortran else "C")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
