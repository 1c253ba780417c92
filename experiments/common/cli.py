"""What every script here does the same way: parse, complain in one line, exit.

Bad input ends in one line on stderr that says what to do, and exit code 2.
"""

import argparse
import contextlib
import difflib
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from experiments.common import compile_cache, console, help_text, interrupts


class UserError(Exception):
    """Something the person at the keyboard can mend; its message is the one line they see."""


class Parser(argparse.ArgumentParser):
    """``argparse`` whose errors are one line, and whose help shows every default."""

    def __init__(self, **kwargs: object) -> None:
        kwargs.setdefault("allow_abbrev", False)
        kwargs.setdefault("formatter_class", help_text.Formatter)
        super().__init__(**kwargs)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Print ``message`` as one line and exit with code 2."""
        options = [option for option in self._option_string_actions if option.startswith("--")]
        if message.startswith("unrecognized arguments: --"):
            given = message.split()[2].partition("=")[0]
            message += did_you_mean(given, options)
        line = " ".join(f"{self.prog}: error: {message} (--help lists the options)".split())
        self.exit(2, f"{line}\n")


def did_you_mean(text: str, valid: Sequence[str]) -> str:
    """Return ``; did you mean 'mnist'?`` for "MNIST", or nothing if no name is like ``text``."""
    plain = {_plain(name): name for name in valid}
    near = difflib.get_close_matches(_plain(text), plain, n=1, cutoff=0.75)
    if len(text) >= 4 and not near:
        near = [name for name in plain if name.startswith(_plain(text))]
    return f"; did you mean {plain[near[0]]!r}?" if near else ""


def unknown(kind: str, text: object, valid: Sequence[str]) -> str:
    """Return the message about a name that is none of ``valid``."""
    hint = did_you_mean(text, valid) if isinstance(text, str) else ""
    return f"unknown {kind} {text!r}{hint}; valid: {', '.join(valid)}"


def one_of(
    kind: str, valid: Sequence[str], aliases: Mapping[str, str] | None = None
) -> Callable[[str], str]:
    """Argument type: a name out of ``valid`` or an earlier one; any other is an error."""

    def parse(text: str) -> str:
        text = (aliases or {}).get(text, text)
        if text not in valid:
            raise argparse.ArgumentTypeError(unknown(kind, text, valid))
        return text

    return parse


def path(text: str) -> Path:
    """Argument type: the path of a file or folder; an empty one is an error."""
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError(f"needs a path, got {text!r}")
    try:
        return Path(text).expanduser()  # of --out=~/runs the shell leaves the ~
    except RuntimeError:
        raise argparse.ArgumentTypeError(f"nobody's home folder is known as {text!r}") from None


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the option ``--data-dir``."""
    parser.add_argument("--data-dir", type=path, metavar="DIR", help="default: $TFDS_DATA_DIR")


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

    Ctrl-C and SIGTERM end it in one line, too, with exit code 130 and 143. Products are of float32
    unless a script says otherwise: accelerators have less by default.
    """
    console.spell_out()
    compile_cache.switch_on()
    os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "float32")
    with interrupts.caught(), console.short_warnings():
        try:
            with _explained():
                main(argv)
            return
        except UserError as error:
            line, code = f"error: {' '.join(str(error).split())}", 2
        except BrokenPipeError:  # of ``| head``
            line, code = "", 1
        except KeyboardInterrupt as error:
            line, code = str(error) or "interrupted", interrupts.exit_code(error)
        with contextlib.suppress(OSError):
            print(line, end="\n" * bool(line), file=sys.stderr, flush=True)
        if argv is None:  # of this process, which has nothing else to do
            interrupts.leave(code)
        sys.exit(code)


@contextlib.contextmanager
def resumable(
    command: str, folder: Path, begun: Callable[[Path], bool] = Path.is_dir
) -> Iterator[None]:
    """Say how ``command`` resumes what has begun in ``folder`` if Ctrl-C or SIGTERM ends it."""

    def what() -> str:
        if not begun(folder):
            return "nothing was begun"
        named = shlex.quote(str(folder))
        return f"to resume: python -m experiments.{command} --resume --out {named}"

    with interrupted_says(what):
        yield


@contextlib.contextmanager
def keeping(path: Path) -> Iterator[None]:
    """Say that ``path`` has what was done if Ctrl-C or SIGTERM ends the rest, once it is there."""

    def what() -> str:
        return f"what was done is in {path}" if path.is_file() else "nothing was written"

    with interrupted_says(what):
        yield


@contextlib.contextmanager
def interrupted_says(what: str | Callable[[], str]) -> Iterator[None]:
    """Let the one line about an interruption end in ``what``."""
    try:
        yield
    except KeyboardInterrupt as error:
        said = what if isinstance(what, str) else what()
        raise type(error)(str(error) or f"interrupted; {said}") from None


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Errors of the machine, not of the program, become a ``UserError``."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        where = "" if error.filename is None else f": {error.filename}"
        raise UserError(f"{error.strerror or error}{where}") from None
    except MemoryError as error:
        raise UserError(f"out of memory ({error}): ask for less at a time") from None
    except RuntimeError as error:
        text = str(error)
        if "RESOURCE_EXHAUSTED" in text or "Out of memory" in text:
            raise UserError(f"out of memory: {text.splitlines()[0]}") from None
        if "initialize backend" in text or "Unknown backend" in text:
            raise UserError(f"JAX has no such device (JAX_PLATFORMS): {text}") from None
        raise


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").strip("_")
