"""The notebooks run, and are stored with what they show and nothing that should not be."""

import re
from pathlib import Path

import nbformat
import pytest

from experiments.notebooks import refresh

NOTEBOOKS = sorted(refresh.FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_from_top_to_bottom(path, monkeypatch):
    # The kernel computes more than it compiles, unlike the tests.
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    stored = nbformat.read(path, as_version=4)
    again = refresh.execute(path)
    assert not [o for o in _outputs(again) if o.output_type == "error" or o.get("name") == "stderr"]
    assert _pictures(again) == _pictures(stored) > 0


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_plainly_with_outputs(path):
    text = path.read_text()
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert refresh.strip(nbformat.read(path, as_version=4)) == notebook
    assert _pictures(notebook) > 0
    assert not [o for o in _outputs(notebook) if o.get("name") == "stderr"]
    assert not re.search(r"/home/|/root/|/tmp/|/work/|/Users/|C:\\\\", text)
    assert len(text) < 700_000
    first, last = notebook.cells[0].source, notebook.cells[-1].source
    assert first.startswith("# ")
    assert "**What you will see.**" in first
    assert "## What to try" in last


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_needs_the_library_and_matplotlib_alone(path):
    code = "\n".join(
        c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"
    )
    modules = set(re.findall(r"^(?:from|import) (\w+)", code, re.MULTILINE))
    assert modules <= {"dataclasses", "flax", "jax", "matplotlib", "numpy", "optax", "qagrel_jax"}


def _outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


def _pictures(notebook):
    return sum("image/png" in output.get("data", {}) for output in _outputs(notebook))


def test_there_are_four():
    assert len(NOTEBOOKS) == 4
    assert all(path.suffix == ".ipynb" and isinstance(path, Path) for path in NOTEBOOKS)
