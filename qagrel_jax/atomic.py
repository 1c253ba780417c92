"""Files that are either whole or absent: write beside, flush to disk, rename."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


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
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
