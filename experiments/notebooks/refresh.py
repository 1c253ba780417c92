"""Run the notebooks and store them with their outputs, as plain as they can be.

    python -m experiments.notebooks.refresh            # all of them
    python -m experiments.notebooks.refresh a.ipynb    # or some

What would differ from one machine or run to the next (execution times, versions, widget state) is
left out, so that a changed notebook file means changed content.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from experiments.common import cli, files
from experiments.common.cli import UserError

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent


def main(argv: Sequence[str] | None = None) -> None:
    """Execute, strip and write each notebook."""
    parser = cli.Parser(prog="python -m experiments.notebooks.refresh", description=__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK", help="default: all")
    for path in parser.parse_args(argv).notebooks or sorted(FOLDER.glob("*.ipynb")):
        if not path.is_file():
            raise UserError(f"no notebook {path}")
        notebook = execute(path)
        files.write_bytes(path, nbformat.writes(notebook).encode() + b"\n")
        print(path.name, file=sys.stderr)


def execute(path: Path) -> nbformat.NotebookNode:
    """Run the notebook at ``path`` in its own folder and return it, outputs in place, stripped.

    Raises:
      nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(FOLDER)}},
    )
    # From a checkout that is not installed, too; and drawing as Jupyter draws.
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    client.execute(env=environment | {"PYTHONPATH": str(ROOT)})
    return strip(notebook)


def strip(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Leave out of ``notebook`` what is not content; return it."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        cell.metadata = {}
        cell.id = f"cell-{number}"
        if cell.cell_type == "code":
            cell.execution_count = None
            for output in cell.outputs:
                output.pop("execution_count", None)
                if "metadata" in output:
                    output.metadata = {}
                if output.output_type == "execute_result":
                    output.execution_count = None
    return notebook


if __name__ == "__main__":
    cli.run(main)
