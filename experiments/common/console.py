"""What is printed, on any console: 80 columns, and letters that its encoding lacks spelled out."""

import codecs
import contextlib
import sys
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

WORDS = {
    "α": "alpha",
    "β": "beta",
    "γ": "gamma",
    "δ": "delta",
    "ε": "epsilon",
    "θ": "theta",
    "λ": "lambda",
    "σ": "sigma",
    "Δ": "Delta",
    "Σ": "sum ",
    "×": "x",
    "·": "*",
    "−": "-",
    "–": "-",
    "—": "-",
    "…": "...",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
    "→": "->",
    "≤": "<=",
    "≥": ">=",
    "±": "+/-",
    "°": " degrees",
    "∘": "o",
    "½": "1/2",
    "█": "#",
}

SPELLED_OUT = "spelled_out"
"""The error handler of a stream whose encoding lacks letters."""


def spell_out() -> None:
    """Let standard output and error print every text, whatever their encoding: ``Σ`` as ``sum``."""
    codecs.register_error(SPELLED_OUT, _spelled_out)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure") and not _is_unicode(stream.encoding):
            stream.reconfigure(errors=SPELLED_OUT)


@contextlib.contextmanager
def short_warnings() -> Iterator[None]:
    """Within the block a warning to the user is printed as one line, without a place in the code.

    Those of other categories tell programmers about programs, and keep their place.
    """
    usual = warnings.formatwarning

    def one_line(message: Warning | str, category: type[Warning], *place: Any) -> str:
        if category is UserWarning:
            return f"warning: {' '.join(str(message).split())}\n"
        return usual(message, category, *place)

    warnings.formatwarning = one_line  # type: ignore[assignment]
    try:
        yield
    finally:
        warnings.formatwarning = usual


def table(title: str | None, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table whose first column folds, between words, where the console is narrow.

    The other columns never fold; those that find no place are printed below, as another table.

    Args:
      title: above it; None for none.
      headings: of the columns; ``\n`` where one may be broken.
      rows: their cells.
    """
    title, headings = title and _printed(title), [_printed(heading) for heading in headings]
    rows = [[_printed(cell) for cell in row] for row in rows]
    console = Console()
    words = [word for row in rows for word in row[0].split()]
    first = max(map(len, [*words, *headings[0].split("\n")])) + FRAME
    for group in _groups([headings, *rows], console.width - 1 - first):
        drawn = Table(title=title)
        drawn.add_column(headings[0])
        for column in group:
            drawn.add_column(headings[column], justify="right", no_wrap=True)
        for row in rows:
            drawn.add_row(row[0], *(row[column] for column in group))
        console.print(drawn)


FRAME = 3
"""Characters that a column takes beside its text."""


def _groups(rows: Sequence[Sequence[str]], space: int) -> list[list[int]]:
    """Divide the columns after the first into groups, each of which fits ``space``, if one can."""
    groups: list[list[int]] = [[]]
    left = space
    for column in range(1, len(rows[0])):
        width = max(len(line) for row in rows for line in row[column].split("\n")) + FRAME
        if width > left and groups[-1]:
            groups.append([])
            left = space
        groups[-1].append(column)
        left -= width
    return groups


def _printed(text: str) -> str:
    """Return ``text`` as standard output prints it: what is spelled out takes more columns."""
    stream = sys.stdout
    if getattr(stream, "errors", None) != SPELLED_OUT:
        return text
    return text.encode(stream.encoding, SPELLED_OUT).decode(stream.encoding)


def _is_unicode(encoding: str | None) -> bool:
    return (encoding or "").lower().replace("-", "").startswith("utf")


def _spelled_out(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(WORDS.get(letter) or _plain(letter) for letter in text), error.end


def _plain(letter: str) -> str:
    return unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode() or "?"
