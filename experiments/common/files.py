"""Files of a run, whole or absent: see ``qagrel_jax.atomic``."""

import json
from pathlib import Path


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` so that a crash at any moment leaves the old file or the new one."""
    from qagrel_jax import atomic  # brings JAX: not before arguments are known to be good

    with atomic.replacing(path) as file:
        file.write(content)


def write_json(path: Path, content: object) -> None:
    """Write ``content`` as indented JSON, whole or not at all; NaN is refused (``ValueError``)."""
    text = json.dumps(content, indent=2, allow_nan=False)
    write_bytes(path, (text + "\n").encode())
