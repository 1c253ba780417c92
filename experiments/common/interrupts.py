"""Ctrl-C and SIGTERM, which batch queues send, end a command alike: one line, a clean exit.

Both raise ``KeyboardInterrupt`` in the main thread. A second signal ends the process at once: every
file of a run is whole or absent, so nothing is lost but the last words.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM; what a Ctrl-C would undo or save is undone or saved for it, too."""


class _Signal:
    """The signal that came, if one has, and how many ``held_back`` blocks are open."""

    number: int | None = None
    blocks = 0


def end_at_once() -> None:
    """Let SIGINT and SIGTERM end the process in one line, until ``caught``: nothing has begun."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _on_early)


@contextlib.contextmanager
def caught() -> Iterator[None]:
    """Within the block SIGINT and SIGTERM raise ``KeyboardInterrupt``, once."""
    before = {}
    _Signal.number = None
    with contextlib.suppress(ValueError):  # not the main thread: signals are another's affair
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as of a job in the background
                before[number] = signal.signal(number, _on_signal)
    hook, sys.unraisablehook = sys.unraisablehook, _quiet(sys.unraisablehook)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        _Signal.number = None
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """A signal that comes within the block is raised at its end: what it does is done whole."""
    _Signal.blocks += 1
    try:
        yield
    finally:
        _Signal.blocks -= 1
    check()


def check() -> None:
    """Raise the signal that came, unless a block holds it back.

    For long loops: an exception raised while a callback or a finalizer runs goes no further.
    """
    if _Signal.number is not None and not _Signal.blocks:
        raise Terminated if _Signal.number == signal.SIGTERM else KeyboardInterrupt


def exit_code(error: KeyboardInterrupt) -> int:
    """Return what a shell reports of a process that the signal ended: 130 or 143."""
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


def leave(code: int) -> NoReturn:
    """End the process with ``code``, without Python's finalization.

    XLA's threads may still be at work on what was interrupted; finalization frees what they use.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _on_early(number: int, frame: FrameType | None) -> NoReturn:
    with contextlib.suppress(OSError):
        os.write(2, b"interrupted\n")
    os._exit(128 + number)


def _on_signal(number: int, frame: FrameType | None) -> None:
    for each in SIGNALS:
        if signal.getsignal(each) is _on_signal:
            signal.signal(each, _on_second)
    _Signal.number = number
    check()


def _quiet(hook: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Return ``hook`` but for interruptions: ``check`` raises again what a finalizer swallowed."""

    def quiet(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            hook(unraisable)

    return quiet


def _on_second(number: int, frame: FrameType | None) -> NoReturn:
    os._exit(128 + number)
