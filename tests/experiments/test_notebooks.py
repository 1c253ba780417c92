"""The notebooks run, and are stored with what they show and nothing that should not be."""

import ast
import re
import sys

import jax
import nbformat
import pytest

from experiments.notebooks import refresh

NOTEBOOKS = sorted(refresh.FOLDER.glob("*.ipynb"))
QUICK = "1_q_agrel_on_digits"


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem != QUICK))
        for path in NOTEBOOKS
    ],
)
def test_runs_from_top_to_bottom(path):
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
    cells = nbformat.read(path, as_version=4).cells
    code = ast.parse("\n".join(c.source for c in cells if c.cell_type == "code"))
    modules = set()
    for node in ast.walk(code):
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module.partition(".")[0])
    allowed = {"flax", "jax", "matplotlib", "numpy", "optax", "qagrel_jax"}
    assert modules - sys.stdlib_module_names <= allowed


def _outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


def _pictures(notebook):
    return sum("image/png" in output.get("data", {}) for output in _outputs(notebook))


def test_readme_lists_them_all():
    linked = re.findall(
        r"\((experiments/notebooks/.*?\.ipynb)\)", (refresh.ROOT / "README.md").read_text()
    )
    assert [refresh.ROOT / path for path in linked] == NOTEBOOKS != []


def test_the_t_maze_keeps_its_rules():
    """The task of the fifth notebook, step by step."""
    notebook = nbformat.read(refresh.FOLDER / "5_your_own_task.ipynb", as_version=4)
    code = next(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert len([line for line in code.splitlines() if line.strip()]) < 50
    names = {}
    exec(code, names)
    maze = names["t_maze"](length=2, time_limit=5)
    forward, left, right = 0, 1, 2
    key = jax.random.key(100)  # nothing in a step is random
    for food in (left, right):
        place, seen = maze.reset(jax.random.key(0))
        place = place._replace(food=jax.numpy.int32(food))
        assert seen.tolist()[2:] == [1, 0]  # the corridor
        assert sum(seen.tolist()[:2]) == 1  # a light
        timeline = [  # action, reward, seen, terminated, truncated
            (left, -0.05, [food == left, food == right, 1, 0], False, False),
            (forward, 0, [0, 0, 1, 0], False, False),
            (forward, 0, [0, 0, 0, 1], False, False),
            (forward, -0.05, [0, 0, 0, 1], False, False),
        ]
        last = [
            (food, 1.5, [0, 0, 0, 1], True, False),
            (3 - food, 0, [0, 0, 0, 1], True, False),
            (forward, -0.05, [0, 0, 0, 1], False, True),  # the time is up
        ]
        for action, *expected in timeline:
            place, seen, reward, *over = maze.step(key, place, action)
            assert [pytest.approx(float(reward)), seen.tolist(), *over] == expected
        for action, *expected in last:
            _, seen, reward, *over = maze.step(key, place, action)
            assert [pytest.approx(float(reward)), seen.tolist(), *over] == expected
    foods = {int(maze.reset(jax.random.key(n))[0].food) for n in range(20)}
    assert foods == {left, right}
