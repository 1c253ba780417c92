"""README, executed: every command (made quick where it says how), every snippet, every name.

Commands run in this process, their options as in README, followed by those of ``QUICK``, which make
them small. ``LONG`` ones, whose own tests are elsewhere, are asked for ``--help``.
"""

import ast
import importlib.util
import re
import shlex
import tomllib
from pathlib import Path

import jax
import numpy as np
import pytest

from qagrel_jax import tasks, training, weights

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [
    shlex.split(part, comments=True)
    for language, block in BLOCKS
    for line in block.splitlines()
    if language == ""
    for part in line.split("&&")
]
MODULES = [c[2:] for c in COMMANDS if c[1] == "-m" and c[2].startswith("experiments.")]

SMALL = ["--dataset", "digits", "--hidden", "8", "--seeds", "1", "--epochs", "1"]
QUICK = {
    "experiments.train": [*SMALL, "--rule", "q_agrel"],
    "experiments.agrel": ["xor", "--networks", "2", "--max-trials", "40"],
    "experiments.working_memory": ["--networks", "2", "--max-trials", "20"],
    "experiments.export": [],
    "experiments.tangent_kernel": ["--images", "8"],
    "experiments.tensorboard": [],
}
LONG = (
    "api_reference",
    "benchmark",
    "controls",
    "curve_tracing",
    "feedback",
    "memory_speed",
    "merge",
    "report",
    "reproduce",
    "update_statistics",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run that ``runs/RUN`` stands for: the first command of README, small."""
    folder = tmp_path_factory.mktemp("readme") / "run"
    _call("experiments.train", [*SMALL, "--out", str(folder)])
    return folder


@pytest.mark.parametrize("command", MODULES, ids=" ".join)
def test_command(command, run, tmp_path, monkeypatch):
    module, *arguments = command
    assert _help(module) == 0
    if module.removeprefix("experiments.") in LONG or command == ["experiments.train"]:
        return  # the latter is the fixture
    monkeypatch.chdir(tmp_path)
    arguments = [str(run) if a == "runs/RUN" else a for a in arguments] + QUICK[module]
    draws_nothing = ("experiments.export", "experiments.tangent_kernel", "experiments.tensorboard")
    takes_out = module not in draws_nothing
    _call(module, arguments + ["--out", "out"] * takes_out)
    assert list((tmp_path / "out").glob("*.png")) or not takes_out
    if module == "experiments.export":
        assert (tmp_path / "net.npz").is_file()


def test_every_other_command_is_an_installation_or_the_tests():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    others = [c for c in COMMANDS if c[1:2] != ["-m"] or not c[2].startswith("experiments.")]
    for command in others:
        text = " ".join(command)
        if installed := re.fullmatch(r"\.venv/bin/pip install -q -e \.\[([\w,]+)\]", text):
            assert set(installed[1].split(",")) <= extras.keys()
        else:
            assert text in (
                "python3 -m venv .venv",
                ".venv/bin/python -m ruff check .",
                ".venv/bin/python -m ruff format --check .",
                ".venv/bin/python -m mypy",
                ".venv/bin/python -m pytest -n auto --dist loadfile",
                ".venv/bin/jupyter lab experiments/notebooks",
            )
    named = re.search(r"^Extras: (.*?);", README, re.MULTILINE | re.DOTALL)[1]
    assert set(re.findall(r"`(\w+)`", named)) == extras.keys()


def test_snippets_run_one_after_the_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "readme"}
    snippets = [block for language, block in BLOCKS if language == "python"]
    assert len(list(filter(None, snippets[0].splitlines()))) <= 12
    with jax.debug_key_reuse(False):  # the checker mistakes shared states for keys used twice
        exec(compile(snippets[0], "README.md", "exec"), names)
    *_, last = capsys.readouterr().out.splitlines()
    assert float(re.fullmatch(r"epoch 10: accuracy (\d+\.\d)%", last)[1]) > 85
    for snippet in snippets[1:]:
        exec(compile(snippet, "README.md", "exec"), names)
    reward = float(re.fullmatch(r"reward (\d\.\d\d)\n", capsys.readouterr().out)[1])
    assert reward > 0.85  # half of the rewards come by chance
    assert set(names["statistics"]) == {"BatchNorm_0"}
    assert (names["norm"].mean[...] != 0).all()
    assert (names["hidden"].kernel[...] == names["params"]["layers"][0]["kernel"][...]).all()
    network, variables, _ = weights.load_network(tmp_path / "net.npz")
    images = tasks.classification.normalize(names["digits"].test_images)
    np.testing.assert_array_equal(network.apply(variables, images), names["q_values"])
    right = names["q_values"].argmax(1) == names["digits"].test_labels
    overall = training.overall_accuracy(names["accuracies"], names["digits"].test_labels)
    assert overall[0] == pytest.approx(right.mean())
    images, labels = names["held_out"]
    chosen = network.apply(variables, tasks.classification.normalize(images)).argmax(1)
    assert names["run"].best_accuracy[0] == pytest.approx((chosen == labels).mean())
    assert set(names["angles"]) == {"Dense_0", "Dense_1"}


def test_files_and_links_exist():
    for path in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"`((?:qagrel_jax|experiments|tests)/[\w./]*)`", README):
        assert (ROOT / path).exists(), path


SYMBOLS = re.findall(r"^\| ([^|]+) \| ([^|]*`[^|]+) \| `(qagrel_jax/[\w/]+\.py)` \|$", README, re.M)


@pytest.mark.parametrize(("symbol", "code", "path"), SYMBOLS, ids=[s[0] for s in SYMBOLS])
def test_symbols_are_where_the_table_says(symbol, code, path):
    """A plain name is one in the file's code; ``Class.field`` is a field of that class there."""
    known = set(_names(ast.parse((ROOT / path).read_text())))
    for name in re.findall(r"`([^`]+)`", code):
        for part in re.findall(r"[A-Za-z_]\w*(?:\.\w+)?", name):
            if "." in part:
                owner, field = part.split(".")
                module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
                assert field in getattr(module, owner)._fields, part
            else:
                assert part in known, part


def _names(tree):
    """What the code of ``tree`` calls things: functions, classes, arguments, variables, weights."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                yield name
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.Constant(value=str(name)):
                yield name


def test_every_row_of_the_tables_of_symbols_is_checked():
    tables = re.findall(r"<summary>Symbols.*?</details>", README, re.DOTALL)
    rows = [line for table in tables for line in table.splitlines() if line.startswith("| ")]
    assert SYMBOLS and len(SYMBOLS) == len(rows) - len(tables)  # each has a line of headings


def _call(module, arguments):
    # The command line does not check for reused keys; resuming makes the same key again.
    with jax.debug_key_reuse(False):
        _module(module).main(arguments)


def _module(name):
    """What ``python -m name`` runs: of a package, its ``__main__``."""
    package = importlib.util.find_spec(name).submodule_search_locations is not None
    return importlib.import_module(f"{name}.__main__" if package else name)


def _help(module):
    with pytest.raises(SystemExit) as stop:
        _module(module).main(["--help"])
    return stop.value.code
