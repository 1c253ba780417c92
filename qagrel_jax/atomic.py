"""Files that are either whole or absent: write beside, flush to disk, rename."""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_DAY = 86_400
"""Seconds after which a file half-written is taken to be a killed process's, and removed."""


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Give a binary file to fill; ``path`` becomes it once all of it is on disk.

    A crash at any moment leaves the old ``path`` or the new one, never a part. An exception leaves
    the old one, and nothing beside it.

    Args:
      path: of the file, in a folder that exists.

    Raises:
      OSError: it cannot be written.
    """
    path = Path(os.path.realpath(path))  # a link stays one
    # Not the process's number: containers on one disk may have the same.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    _remove_left_behind(path)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_left_behind(path: Path) -> None:
    for other in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - other.stat().st_mtime > _DAY:
                other.unlink()
