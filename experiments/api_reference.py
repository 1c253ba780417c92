"""Write the API reference of ``qagrel_jax`` as web pages, its equations typeset.

    python -m experiments.api_reference            # into runs/api
    python -m experiments.api_reference --out DIR

The docstrings hold their equations in Unicode, as ``help()`` shows them. Here they become TeX,
which the browser renders with MathJax.
"""

import builtins
import contextlib
import importlib
import re
import sys
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import chex

from experiments.common import cli, folders
from experiments.common.cli import UserError

try:
    import pdoc
    import pdoc.render
    from jinja2 import pass_context
    from jinja2.runtime import Context
except ImportError as error:
    print(f"error: this needs {error.name}: pip install -e '.[dev]'", file=sys.stderr)
    sys.exit(2)

EQUATIONS = re.compile(r"(?<!::)\n\n((?:    \S.*\n?)+)")
"""An indented block after a blank line; one that is announced by ``::`` is code."""

SYMBOLS = {
    "½": r"\tfrac{1}{2} ",
    "ᵀ": r"^{\top} ",
    "⁺": "^{+}",
    "⁻": "^{-}",
    "−": "-",
    "·": r"\cdot ",
    "∘": r"\circ ",
    "Σ": r"\sum ",
    "∇": r"\nabla ",
    "∂": r"\partial ",
    "~": r"\sim ",
    "q̃": r"\tilde{q}",
    "p̃": r"\tilde{p}",
    "Ẽ": r"\tilde{E}",
    "≥": r"\ge ",
    "²": "^2",
    "←": r"\leftarrow ",
}
WORDS = re.compile(r"( ?)(?<![\\A-Za-z])([A-Za-z]{2,}(?: [a-z]{2,})*)( ?)")
FUNCTIONS = ("exp", "log", "max", "min", "softmax", "greedy")


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, build, say where to look."""
    parser = cli.Parser(prog="python -m experiments.api_reference", description=__doc__)
    parser.add_argument(
        "--out", type=cli.path, default=Path("runs/api"), metavar="DIR", help="default: runs/api"
    )
    out = parser.parse_args(argv).out
    _check_own(out)
    build(out)
    print(f"open {out / 'qagrel_jax.html'} in a browser")


def _check_own(out: Path) -> None:
    """Raise ``UserError`` unless ``out`` is absent, empty or holds a former reference."""
    present = {path.name for path in folders.held(out)}
    if present and not ({"qagrel_jax", "qagrel_jax.html"} <= present):
        raise UserError(f"{out} holds other files: choose another --out")


def build(out: Path) -> None:
    """Write the pages below ``out``."""
    # chex's recursive alias names itself, and pdoc looks the name up where the alias is used.
    builtins.ArrayTree = chex.ArrayTree  # type: ignore[attr-defined]
    pdoc.render.configure(docformat="google", math=True)
    plain = pdoc.render.env.filters["to_markdown"]

    @pass_context
    def to_markdown(context: Context, docstring: str) -> Any:
        return plain(context, typeset(docstring))

    pdoc.render.env.filters["to_markdown"] = to_markdown
    try:
        with _fields_resolved():
            pdoc.pdoc("qagrel_jax", output_directory=out)
    finally:
        pdoc.render.env.filters["to_markdown"] = plain
        del builtins.ArrayTree  # type: ignore[attr-defined]


@contextlib.contextmanager
def _fields_resolved() -> Iterator[None]:
    """For the time being evaluate the types of NamedTuple fields in their modules.

    pdoc would look the names up in the package from which a class is exported.
    """
    importlib.import_module("qagrel_jax")
    as_written = {
        value: value.__new__.__annotations__
        for name, module in list(sys.modules.items())
        if name.startswith("qagrel_jax.")
        for value in vars(module).values()
        if hasattr(value, "_fields") and value.__module__ == name
    }
    for value in as_written:
        value.__new__.__annotations__ = typing.get_type_hints(value)
    try:
        yield
    finally:
        for value, annotations in as_written.items():
            value.__new__.__annotations__ = annotations


def typeset(docstring: str) -> str:
    r"""Put TeX in place of the equations of a docstring.

    >>> print(typeset("One scalar\n\n    δ = r − q_s\n\nfor all."))
    One scalar
    <BLANKLINE>
    $$\begin{array}{l} δ = r - q_s \end{array}$$
    <BLANKLINE>
    for all.
    """

    def display(block: re.Match) -> str:
        if ">>>" in block[1]:
            return block[0]
        lines = r" \cr ".join(tex(line.strip()) for line in block[1].splitlines())
        return f"\n\n$$\\begin{{array}}{{l}} {lines} \\end{{array}}$$\n"

    return EQUATIONS.sub(display, docstring)


def tex(equation: str) -> str:
    r"""Translate one line of equations, which wide spaces separate.

    >>> print(tex("Δw_ij = −α (Ẽ − E) x_i,    if δ ≥ 0"))
    Δw_{i j} = -α (\tilde{E} - E) x_i, \qquad \text{if}\ δ \ge  0
    """
    return r" \qquad ".join(_tex(part) for part in re.split(" {2,}", equation))


def _tex(equation: str) -> str:
    for symbol, command in SYMBOLS.items():
        equation = equation.replace(symbol, command)
    # Letters of an index are symbols of their own, not a word.
    equation = re.sub(r"(?<=_)[A-Za-z]{2,}", lambda index: f"{{{' '.join(index[0])}}}", equation)
    return WORDS.sub(_upright, equation)


def _upright(found: re.Match) -> str:
    before, words, after = found.groups()
    if words in FUNCTIONS:
        return rf"{before}\operatorname{{{words}}}{after}"
    space = r"\ " if words[0].islower() else r"\,"
    return f"{before and space}\\text{{{words}}}{after and space}"


if __name__ == "__main__":
    cli.run(main)
