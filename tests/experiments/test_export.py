"""``python -m experiments.export``: the best network of a run as one file, and one-line errors."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import export
from experiments.common import cli, files
from experiments.train import __main__ as train
from qagrel_jax import data
from qagrel_jax.weights import files as interchange
from tests.experiments import running


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "run"
    options = "--hidden 16 --seeds 2 --first-seed 4 --epochs 2 --feedback reciprocal --tensorboard"
    result = running.run(train.main, "--out", folder, *options.split())
    assert result.returncode == 0, result.stderr
    return folder


@pytest.mark.parametrize(
    ("suffix", "rule", "seed"), [("npz", None, 5), ("safetensors", "backprop", 4)]
)
def test_the_file_answers_as_the_run_said(run, suffix, rule, seed, tmp_path):
    path = tmp_path / f"net.{suffix}"
    arguments = [str(run), str(path), "--seed", str(seed)]
    path.write_text("replaced by --overwrite")
    export.main([*arguments, "--overwrite", *(["--rule", rule] if rule else [])])
    network, variables, metadata = interchange.load_network(path)
    digits = data.load("digits")
    outputs = jax.jit(network.apply)(variables, jnp.asarray(digits.test_images / 255, jnp.float32))
    accuracy = float(np.mean(outputs.argmax(-1) == digits.test_labels))
    results = json.loads((run / "summary.json").read_text())["results"]
    entry = results[["q_agrel", "backprop"].index(rule or "q_agrel")]
    assert accuracy == pytest.approx(entry["test_accuracy"][seed - 4], abs=1e-6)
    assert metadata["epoch"] == entry["best_epoch"][seed - 4]
    assert metadata["seed"] == seed
    assert metadata["rule"] == (rule or "q_agrel")
    assert metadata["config"]["hidden"] == [16]
    for name in ("feedback_init", "feedback_scale"):
        assert metadata["network"][name] == metadata["config"][name] == getattr(network, name)
    assert metadata["commit"] == entry["commit"]


def test_the_commit_is_of_the_session_that_began_the_rule(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    (own,) = files.environments(folder)
    files.append_line(folder / "environments.jsonl", own | {"commit": "later"})
    times = files.read_lines(folder / "timings.jsonl")
    assert {line["session"] for line in times} == {0}
    moved = [line | {"session": int(line["rule"] == "backprop")} for line in times]
    files.write_lines(folder / "timings.jsonl", moved)
    assert export.best(folder, "backprop")[1]["commit"] == "later"
    assert export.best(folder, "q_agrel")[1]["commit"] == own["commit"]
    for line in times:
        del line["session"]  # as the first runs
    files.write_lines(folder / "timings.jsonl", times)
    assert export.best(folder, "backprop")[1]["commit"] == own["commit"]


def test_the_last_of_eleven_layers_has_the_actions():
    params = {f"Dense_{number}": {"kernel": np.zeros((2, 2 + number))} for number in range(11)}
    assert export._num_actions(params) == 12


def test_a_run_leaves_its_pictures(run):
    for name in ("learning_curves", "class_discovery", "angles"):
        assert (run / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    events = {
        p.parent.relative_to(run / "tensorboard") for p in run.glob("tensorboard/*/*/events*")
    }
    assert events == {Path(r) / f"seed_{s}" for r in ("q_agrel", "backprop") for s in (4, 5)}


BAD = {
    "no run": (lambda run: [str(run.parent), "net.npz"], "holds no run"),
    "rule": (lambda run: [str(run), "net.npz", "--rule", "hebb"], "valid: q_agrel, backprop"),
    "seed": (lambda run: [str(run), "net.npz", "--seed", "3"], "no seed 3; valid: 4 to 5"),
    "ending": (lambda run: [str(run), "net.pkl"], "must end in .npz or .safetensors"),
    "there": (lambda run: [str(run), str(run / "net.npz")], "is there: give another name, or --ov"),
    "folder": (lambda run: [str(run), "/none/such/net.npz"], "cannot write"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(run, name, capsys):
    arguments, message = BAD[name]
    (run / "net.npz").write_bytes(b"a data set")
    with pytest.raises(SystemExit) as error:
        cli.run(export.main, arguments(run))
    assert error.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert (run / "net.npz").read_bytes() == b"a data set"
