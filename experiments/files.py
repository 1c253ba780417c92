"""Files that are either whole or absent: write beside, flush to disk, rename."""

import json
import os
from pathlib import Path


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` so that a crash at any moment leaves the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_json(path: Path, content: object) -> None:
    """Write ``content`` as indented JSON, whole or not at all; NaN is refused (``ValueError``)."""
    text = json.dumps(content, indent=2, allow_nan=False)
    write_bytes(path, (text + "\n").encode())
