"""Rebuild every table and figure of the project's pages from the stored results alone.

    python -m experiments.report          # after a new result
    python -m experiments.report --check  # exit code 1 if they are not what would be written

The pages are README.md, experiments/README.md, experiments/configs/README.md and the README.md of
each folder in experiments/results. Everything between the lines ``<!-- report NAME: begin -->`` and
``<!-- report NAME: end -->`` is written by ``experiments/reports/NAME.py``. The prose around it is
written by hand and kept.
"""

import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from experiments import reports
from experiments.common import cli, files
from experiments.common.cli import UserError

HERE = Path(__file__).resolve().parent
CHECKPOINTS = shutil.ignore_patterns("checkpoint_*", "*.tmp", ".lock")


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, rebuild, write or compare."""
    parser = cli.Parser(prog="python -m experiments.report", description=__doc__)
    add = parser.add_argument
    add("--check", action="store_true", help="write nothing; exit 1 if they are out of date")
    add(
        "--results",
        type=Path,
        default=HERE / "results",
        metavar="DIR",
        help="the result folders (default: experiments/results)",
    )
    add(
        "--readme",
        type=Path,
        action="append",
        metavar="FILE",
        help="a page to rebuild (default: all pages)",
    )
    arguments = parser.parse_args(argv)
    readmes = arguments.readme or pages()
    for path in (arguments.results, *readmes):
        if not path.exists():
            raise UserError(f"{path} does not exist: run from a checkout, or say where it is")
    if arguments.check:
        # Sections may draw; a check must leave no trace.
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch) / "results"
            shutil.copytree(arguments.results, copy, ignore=CHECKPOINTS)
            old = [path for path in readmes if (text := path.read_text()) != rebuild(text, copy)]
        for path in old:
            print(f"{path} is out of date: run `python -m experiments.report`", file=sys.stderr)
        if old:
            sys.exit(1)
        return
    for path in readmes:
        before = path.read_text()
        after = rebuild(before, arguments.results)
        files.write_bytes(path, after.encode())
        print(f"{path} {'unchanged' if after == before else 'rewritten'}")


def pages() -> list[Path]:
    """Return every page of the project that may hold a generated section."""
    first = [HERE.parent / "README.md", HERE / "README.md", HERE / "configs" / "README.md"]
    return [*first, *sorted(HERE.glob("results/*/README.md"))]


def rebuild(text: str, results: Path) -> str:
    """Return ``text`` with every marked section written anew from ``results``.

    Raises:
      UserError: a marker without its partner, or of a section that does not exist.
    """
    pattern = re.compile(
        r"^<!-- report (?P<name>\w+): begin -->\n(?P<old>.*?)^<!-- report (?P=name): end -->$",
        re.MULTILINE | re.DOTALL,
    )
    markers = re.findall(r"^<!-- report (\w+): (begin|end) -->$", text, re.MULTILINE)
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
        body = reports.section(name, results)
        return f"<!-- report {name}: begin -->\n{body}\n<!-- report {name}: end -->"

    return pattern.sub(written, text)


if __name__ == "__main__":
    cli.run(main)
