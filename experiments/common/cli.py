"""What every script here does the same way: parse, complain in one line, exit.

Bad input ends in one line on stderr that says what to do, and exit code 2.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from experiments.common import compile_cache


class UserError(Exception):
    """Something the person at the keyboard can mend; its message is the one line they see."""


class Parser(argparse.ArgumentParser):
    """``argparse`` whose errors are one line, and whose help shows every default."""

    def __init__(self, **kwargs: object) -> None:
        kwargs.setdefault("allow_abbrev", False)
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**kwargs)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Print ``message`` as one line and exit with code 2."""
        self.exit(2, f"{self.prog}: error: {message} (--help lists the options)\n")


def one_of(
    kind: str, valid: Sequence[str], aliases: Mapping[str, str] | None = None
) -> Callable[[str], str]:
    """Argument type: a name out of ``valid`` or an earlier one; any other is an error."""

    def parse(text: str) -> str:
        text = (aliases or {}).get(text, text)
        if text not in valid:
            raise argparse.ArgumentTypeError(f"unknown {kind} {text!r}; valid: {', '.join(valid)}")
        return text

    return parse


def number(
    kind: type, low: float, high: float, *, open_low: bool = False
) -> Callable[[str], float]:
    """Argument type: an ``int`` or ``float`` in [low, high], or in (low, high] if ``open_low``."""
    interval = f"{'(' if open_low else '['}{low}, {high}]"

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            name = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{text!r} is not {name}") from None
        if not low <= value <= high or (open_low and value == low):
            raise argparse.ArgumentTypeError(f"must be in {interval}, got {text}")
        return value

    return parse


def several(one: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    """Argument type: one or more of what ``one`` parses, with commas between, none twice."""

    def parse(text: str) -> tuple[Any, ...]:
        values = tuple(one(part.strip()) for part in text.split(","))
        if len(set(values)) < len(values):
            raise argparse.ArgumentTypeError(f"the same value twice in {text!r}")
        return values

    return parse


def run(main: Callable[[Sequence[str] | None], None], argv: Sequence[str] | None = None) -> None:
    """Call ``main(argv)``; a ``UserError`` becomes one line and exit code 2.

    Products are of float32 unless a script says otherwise: accelerators have less by default.
    """
    compile_cache.switch_on()
    os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "float32")
    try:
        main(argv)
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


@contextlib.contextmanager
def resumable(folder: Path) -> Iterator[None]:
    """Say how to go on with the run in ``folder`` if Ctrl-C ends it."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"interrupted; to go on: --resume --out {folder}", file=sys.stderr)
        sys.exit(130)
