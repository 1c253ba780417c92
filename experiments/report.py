"""Rebuild every table and figure of the project's pages from the stored results alone.

    python -m experiments.report          # after a new result
    python -m experiments.report --check  # exit code 1 if they are not what would be written
    python -m experiments.report --results runs  # pages of one's own, as runs/cells/README.md

The project's pages are README.md, experiments/README.md, experiments/configs/README.md and the
README.md of each folder in experiments/results. Everything between the lines
``<!-- report NAME: begin -->`` and
``<!-- report NAME: end -->`` is written by ``experiments/reports/NAME.py``. The prose around it is
written by hand and kept. Of other results than the project's, a folder that is called as one of
experiments/results gets a page beside them, and the project's pages stay as they are.
"""

import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from experiments import reports
from experiments.common import cli, files
from experiments.common.cli import UserError

HERE = Path(__file__).resolve().parent
MARKER = re.compile(r"^<!-- report (\w+): (begin|end) -->$", re.MULTILINE)


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, rebuild, write or compare."""
    parser = cli.Parser(prog="python -m experiments.report", description=__doc__)
    add = parser.add_argument
    add("--check", action="store_true", help="write nothing; exit 1 if they are out of date")
    add(
        "--results",
        type=cli.path,
        default=HERE / "results",
        metavar="DIR",
        help="the result folders (default: experiments/results)",
    )
    add(
        "--readme",
        type=cli.path,
        action="append",
        metavar="FILE",
        help="a page to rebuild (default: all pages)",
    )
    arguments = parser.parse_args(argv)
    if not arguments.results.is_dir():
        raise UserError(
            f"{arguments.results} is no folder of results: run from a checkout, or say "
            "where it is (--results)"
        )
    for path in arguments.readme or []:
        if not MARKER.search(_read(path)):
            raise UserError(
                f"{path} has no lines `<!-- report NAME: begin -->` and `... end -->` to write "
                f"between; NAME is one of {', '.join(reports.NAMES)}"
            )
    if arguments.readme or arguments.results.resolve() == HERE / "results":
        texts = {path: _read(path) for path in arguments.readme or pages()}
    else:
        texts = _own_pages(arguments.results)
    if arguments.check:
        from experiments import plots

        with plots.unsaved():  # a check must leave no trace
            rebuilt = _rebuilt(texts, arguments.results)
        old = [path for path, text in texts.items() if text != rebuilt[path]]
        for path in old:
            print(f"{path} is out of date: run `python -m experiments.report`", file=sys.stderr)
        if old:
            sys.exit(1)
        return
    # All or none: pages that tell of different results would contradict each other.
    for path, after in _rebuilt(texts, arguments.results).items():
        files.write_bytes(path, after.encode())
        print(f"{path} {'unchanged' if after == texts[path] else 'rewritten'}")


def _rebuilt(texts: dict[Path, str], results: Path) -> dict[Path, str]:
    rebuilt = {}
    for path, text in texts.items():
        try:
            rebuilt[path] = rebuild(text, results)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
    return rebuilt


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror} (--readme)") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text in UTF-8: {error}") from None


def pages() -> list[Path]:
    """Return every page of the project that may hold a generated section."""
    first = [HERE.parent / "README.md", HERE / "README.md", HERE / "configs" / "README.md"]
    return [*first, *sorted(HERE.glob("results/*/README.md"))]


def _own_pages(results: Path) -> dict[Path, str]:
    """Return the pages of results that are not the project's: as they are, or new ones.

    Raises:
      UserError: no folder there has what a page is made of.
    """
    found, templates = {}, {p.parent.name: p for p in sorted(HERE.glob("results/*/README.md"))}
    for name, template in templates.items():
        path = results / name / "README.md"
        if path.is_file():
            found[path] = _read(path)
        elif path.parent.is_dir() and (text := _new_page(_read(template), results)):
            found[path] = text
    if not found:
        raise UserError(
            f"{results} has no results in folders of the names {', '.join(templates)}: rename them"
        )
    return found


def _new_page(template: str, results: Path) -> str:
    """Return the title of a page and its sections that ``results`` has something for."""
    from experiments import plots

    title, *_ = template.splitlines()
    names = re.findall(r"^<!-- report (\w+): begin -->$", template, re.MULTILINE)
    with tempfile.TemporaryDirectory() as nothing, plots.unsaved():
        there = [n for n in names if _section(n, results) != _section(n, Path(nothing))]
    marks = (f"\n<!-- report {n}: begin -->\n<!-- report {n}: end -->\n" for n in there)
    return "".join([f"{title}\n", *marks]) if there else ""


def rebuild(text: str, results: Path) -> str:
    """Return ``text`` with every marked section written anew from ``results``.

    Raises:
      UserError: a marker without its partner, or of a section that does not exist.
    """
    pattern = re.compile(
        r"^<!-- report (?P<name>\w+): begin -->\n(?P<old>.*?)^<!-- report (?P=name): end -->$",
        re.MULTILINE | re.DOTALL,
    )
    markers = MARKER.findall(text)
    pairs = [
        (name, side)
        for match in pattern.finditer(text)
        for name in [match["name"]]
        for side in ("begin", "end")
    ]
    if markers != pairs:
        raise UserError("the report markers do not come in pairs of begin and end")
    for name, _ in pairs:
        if name not in reports.NAMES:
            raise UserError(f"unknown report section {name!r}; valid: {', '.join(reports.NAMES)}")

    def written(match: re.Match) -> str:
        name = match["name"]
        body = _section(name, results)
        return f"<!-- report {name}: begin -->\n{body}\n<!-- report {name}: end -->"

    return pattern.sub(written, text)


def _section(name: str, results: Path) -> str:
    try:
        return reports.section(name, results)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"the part {name!r}: a file in {results} is damaged, or of another "
            f"version ({type(error).__name__}: {error})"
        ) from error


if __name__ == "__main__":
    cli.run(main)
