"""The folder that a command writes its results to: named, made, its own, and no other process's."""

import contextlib
import errno
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import filelock

from experiments.common import cli
from experiments.common.cli import UserError

LOCK = ".lock"
BEGINNING = ("config.json", "plan.json", "environments.jsonl")
"""Files that say what a run is, before it has done anything."""


class InUse(UserError):
    """Another process works in the folder."""


def add_options(parser: Any, name: str, *, resume: bool = False) -> None:
    """Give ``parser`` the option ``--out``, and ``--resume`` if the command can.

    Args:
      parser: of a command.
      name: begins the name of the default folder.
      resume: whether a run can be resumed.
    """
    parser.add_argument("--out", type=cli.path, metavar="DIR", help=f"default: runs/{name}-TIME")
    if resume:
        parser.add_argument("--resume", action="store_true", help="resume the run in --out")


def check_resume(resume: bool, folder: Path | None) -> None:
    """Raise ``UserError`` where --resume is given without --out."""
    if resume and folder is None:
        raise UserError("--resume needs --out DIR, the folder of the run to resume")


def start_instead(folder: Path, markers: Sequence[str], named: bool) -> None:
    """Say that a run is started where there is none to resume.

    Args:
      folder: without a run.
      markers: as of ``check``.
      named: whether the command says what to run; if not, the folder's name may be misspelled.

    Raises:
      UserError: nothing says what to run; the folder holds other files.
    """
    check(folder, markers)
    if not named:
        raise UserError(
            f"{folder} holds no run to resume: check --out, or say what to run and it is started"
        )
    print(f"{folder} holds no run yet: starting one", file=sys.stderr)


def other_config(folder: Path, different: str) -> UserError:
    """Return the error about a run that is resumed with options of another one."""
    return UserError(
        f"{folder} was started with a different config ({different}): leave these options out to "
        "resume, or choose another --out"
    )


def default(name: str) -> Path:
    """Return the default folder of a run, ``runs/NAME-TIME``."""
    return Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"


def check(folder: Path, markers: Sequence[str] = (), resume: bool = False) -> bool:
    """Return whether ``folder`` holds a run to resume; nothing is made or changed.

    Args:
      folder: there or not.
      markers: files, each of which makes a folder a run's; none for a command that cannot resume.
      resume: whether a run that is there may be resumed.

    Raises:
      UserError: it is no folder, or holds another run or other files.
    """
    with explained(folder):
        present = held(folder)
        if any((folder / marker).is_file() for marker in markers):
            if not resume:
                raise UserError(
                    f"{folder} holds another run: add --resume if it is to be continued, or "
                    "choose another --out"
                )
            return True
        if present:
            what = "files that are no run" if markers else "another run or other files"
            raise UserError(f"{folder} holds {what}: choose another --out")
        return False


def check_only(folder: Path, *files: str) -> None:
    """Raise ``UserError`` where ``folder`` is no folder, or holds other files than ``files``.

    Folders in it may have any name.
    """
    if any(path.name not in files for path in held(folder) if not path.is_dir()):
        raise UserError(f"{folder} holds another run or other files: choose another --out")


def check_trained(folder: Path, config: str, *checkpoints: str) -> None:
    """Raise ``UserError`` unless ``folder`` holds a run's ``config`` and one of ``checkpoints``."""
    if not (folder / config).is_file():
        raise UserError(f"{folder} holds no run: it has no {config}")
    if not any((folder / name).is_file() for name in checkpoints):
        raise UserError(f"{folder} has no {checkpoints[0]}, which a run writes as it learns")


def check_writable(folder: Path) -> None:
    """Raise ``UserError`` unless files can be written to ``folder``, there or not; none stays."""
    with explained(folder):
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        finally:
            _remove_empty(made)


@contextlib.contextmanager
def claimed(folder: Path, markers: Sequence[str] = (), resume: bool = False) -> Iterator[bool]:
    """Make ``folder``, keep other processes out while the block runs, and yield ``check`` of it.

    What a run that could not begin has left there is gone afterwards, and the folder with it.

    Raises:
      UserError: from ``check``; another process works in it (``InUse``); it cannot be written to,
        or was removed meanwhile.
    """
    with contextlib.ExitStack() as locks, contextlib.ExitStack() as beginnings:
        yield claim(beginnings, locks, folder, markers, resume)


def claim(
    beginnings: contextlib.ExitStack,
    locks: contextlib.ExitStack,
    folder: Path,
    markers: Sequence[str] = (),
    resume: bool = False,
) -> bool:
    """Do what ``claimed`` does where many folders are claimed before anything is done in one.

    Args:
      beginnings: when left by a ``UserError``, removes what a run that could not begin has left.
        It must be left before ``locks``.
      locks: keeps other processes out until it is left.
      folder: as of ``check``, whose value is returned.
      markers: likewise.
      resume: likewise.
    """
    check(folder, markers, resume)
    locks.enter_context(locked(folder, resumable=bool(markers)))
    began = check(folder, markers, resume)
    if not began:
        beginnings.enter_context(_beginning(folder))
    return began


@contextlib.contextmanager
def _beginning(folder: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        _remove_beginning(folder)
        raise


@contextlib.contextmanager
def locked(folder: Path, resumable: bool = False) -> Iterator[None]:
    """Make ``folder``, and keep every other process from working in it meanwhile.

    The operating system lets go of the lock when the process ends, in whatever way. What a killed
    process left half-written is removed; so is the folder if it then holds nothing.

    Raises:
      UserError: another process works in it (``InUse``); it cannot be written to, or was removed
        or renamed meanwhile.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    lock = filelock.FileLock(folder / LOCK)
    with explained(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(blocking=False)
        except filelock.Timeout:
            raise InUse(
                f"another process is at work in {folder}: let it end, or choose another --out"
            ) from None
    with explained(folder, " (was it removed or renamed?)", resumable):
        try:
            for path in folder.glob(".*.tmp"):
                path.unlink(missing_ok=True)
            yield
        finally:
            _let_go(lock, folder, made)


def _let_go(lock: filelock.BaseFileLock, folder: Path, made: Sequence[Path]) -> None:
    """Release the lock; of an empty folder nothing stays that ``locked`` made."""
    empty = unlinked = False
    with contextlib.suppress(OSError):  # the folder may be gone, or Windows hold the file
        empty = not visible(folder)
        if empty:
            (folder / LOCK).unlink(missing_ok=True)
            unlinked = True
    lock.release()
    with contextlib.suppress(OSError):
        if empty and not unlinked:  # else it may be another process's by now
            (folder / LOCK).unlink(missing_ok=True)
    _remove_empty(made)


def _remove_empty(folders: Sequence[Path]) -> None:
    for path in folders:
        with contextlib.suppress(OSError):  # it holds something
            path.rmdir()


def _remove_beginning(folder: Path) -> None:
    with contextlib.suppress(OSError):
        left = visible(folder)
        if all(path.name in BEGINNING or not path.stat().st_size for path in left):
            for path in left:
                path.unlink()


def held(folder: Path) -> list[Path]:
    """Return what is visible in ``folder``, nothing where there is none yet.

    Raises:
      UserError: it is no folder, or cannot be read.
    """
    with explained(folder):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is not a folder: choose another --out")
        return visible(folder) if folder.is_dir() else []


def visible(folder: Path) -> list[Path]:
    """Return what ``folder`` holds, less hidden files: locks, and what a kill left half-written."""
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


@contextlib.contextmanager
def explained(folder: Path, if_gone: str = "", resumable: bool = False) -> Iterator[None]:
    """An ``OSError`` about ``folder`` or what lies in it becomes a ``UserError``."""
    try:
        yield
    except BrokenPipeError:  # of what is printed, to ``| head``
        raise
    except OSError as error:
        if not _concerns(error, folder):
            raise
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        why = str(error.strerror or error) + ("" if full or folder.exists() else if_gone)
        instead = f"free some space{' and resume' * resumable}, or " * full
        raise UserError(f"cannot write to {folder}: {why}; {instead}choose another --out") from None


def _concerns(error: OSError, folder: Path) -> bool:
    # The lock's file is named from the root on, that of ``qagrel_jax.atomic`` without links.
    names = [name for name in (error.filename, error.filename2) if name is not None]
    named = [Path(os.path.realpath(str(name))) for name in names]
    folder = Path(os.path.realpath(folder))
    return not named or any(
        path == folder or folder in path.parents or path in folder.parents for path in named
    )
