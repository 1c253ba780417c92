"""Checkpoints of a run: ``qagrel_jax.training.checkpoints``, with a line to the person."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import qagrel_jax
from experiments.common.cli import UserError
from qagrel_jax.training import checkpoints


def save(path: Path, tree: Any, metadata: Mapping[str, Any]) -> None:
    """Write ``tree`` with the ``metadata`` and the version."""
    checkpoints.save(path, tree, {"qagrel_jax": qagrel_jax.__version__, **metadata})


def load(path: Path, template: Any, metadata: Mapping[str, Any]) -> Any | None:
    """Read what ``save`` wrote into the shape of ``template``; None if there is no such file.

    Raises:
      UserError: the file cannot be read, is damaged, or is of something else.
    """
    if not path.is_file():
        return None
    with explained(path):
        return checkpoints.load(path, template, metadata)


@contextmanager
def explained(path: Path, do: str = "move it away to start it anew") -> Iterator[None]:
    """Errors of reading ``path`` become a ``UserError`` that says what to ``do``."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except checkpoints.CheckpointError as error:
        raise UserError(f"{path}: {error}; {do}") from None
