"""The folder that a command writes its results to: made, its own, and no other process's."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from experiments.common.cli import UserError


def make_new(folder: Path) -> None:
    """Make ``folder`` for results that are written once.

    Raises:
      UserError: it is not empty, or cannot be written to.
    """
    with writable(folder):
        if visible(folder):
            raise UserError(f"{folder} holds another run or other files: choose another --out")
        (folder / ".lock").touch()  # what cannot be written is to be known now, not after hours


@contextlib.contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Make ``folder``; an ``OSError`` in it or while something is written becomes a ``UserError``.

    Raises:
      UserError: it cannot be made or written to; what to do.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror}; choose another --out"
        ) from None


def visible(folder: Path) -> list[Path]:
    """Return what ``folder`` holds, less hidden files: locks, and what a kill left half-written."""
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make ``folder``, and keep every other process from working in it meanwhile.

    The operating system lets go of the lock when the process ends, in whatever way. What a killed
    process left half-written is removed.

    Raises:
      UserError: another process works in it, or it cannot be written to.
    """
    with writable(folder):
        file = (folder / ".lock").open("a")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process is at work in {folder}: let it end, or choose "
                            "another --out") from None  # fmt: skip
        except OSError:
            pass  # a file system without locks
        else:
            for path in folder.glob(".*.tmp"):
                path.unlink(missing_ok=True)
        yield
