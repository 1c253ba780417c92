"""``python -m experiments.tangent_kernel``: the measure of finished runs, and its table's place."""

import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import tangent_kernel
from experiments.common import files
from experiments.train import __main__ as train
from qagrel_jax import analysis, data, make_network
from tests.experiments import running


@pytest.mark.parametrize("feedback", ["tied", "random"])
def test_every_rule_and_seed_of_a_run(feedback, tmp_path, capsys):
    options = f"--hidden 16 --seeds 2 --first-seed 3 --epochs 1 --feedback {feedback}"
    folder = tmp_path / "run"
    result = running.run(train.main, "--out", folder, *options.split())
    assert result.returncode == 0, result.stderr
    (session,) = files.environments(folder)
    files.append_line(folder / "environments.jsonl", session | {"command": "go on"})
    times = files.read_lines(folder / "timings.jsonl")
    moved = [line | {"session": int(line["rule"] == "backprop")} for line in times]
    files.write_lines(folder / "timings.jsonl", moved)
    out = tmp_path / "out"
    tangent_kernel.main([str(folder), "--images", "20", "--out", str(out)])
    assert "Q-AGREL" in capsys.readouterr().out
    content = json.loads((out / tangent_kernel.FILE).read_text())
    assert content["images"] == 20 and content["command"]
    assert [line["rule"] for line in content["runs"]] == ["q_agrel", "backprop"]
    for line in content["runs"]:
        assert line["run"] == "run"
        assert line["command"] == ("go on" if line["rule"] == "backprop" else session["command"])
        assert [network["seed"] for network in line["networks"]] == [3, 4]
        for network in line["networks"]:
            of_layers = sum(network["layers"].values())
            assert network["kernel"] == pytest.approx(of_layers, rel=1e-4)
            assert network["kernel"] != network["before"]
    # Both rules start from the same weights.
    before = [[network["before"] for network in line["networks"]] for line in content["runs"]]
    assert before[0] == before[1]


def test_runs_of_one_name_are_told_apart():
    given = [Path("cells/a/paper"), Path("cells/b/paper"), Path("runs/c"), Path(".")]
    assert tangent_kernel._told(given) == ["cells/a/paper", "cells/b/paper", "c", "."]


def test_what_was_not_measured_is_a_dash():
    line = {"networks": [{"before": None, "kernel": 2.0}, {"before": None, "kernel": 4.0}]}
    assert tangent_kernel.shown(tangent_kernel.mean(line, "before")) == "–"
    assert tangent_kernel.shown(tangent_kernel.mean(line, "kernel")) == "3"


@pytest.mark.slow
def test_before_learning_batchnorm_has_no_statistics(tmp_path):
    folder = tmp_path / "run"
    own = tmp_path / "small_conv.py"
    own.write_text(
        "from experiments.config import Config\n"
        'config = Config(name="small_conv", dataset="digits", architecture="conv")\n'
    )
    options = ["--seeds", "1", "--epochs", "1", "--rule", "q_agrel"]
    result = running.run(train.main, own, "--out", folder, *options)
    assert result.returncode == 0, result.stderr
    (line,) = tangent_kernel.measure(folder, 20)
    (network,) = line["networks"]
    assert network["before"] is None and network["kernel"] > 0


def test_the_networks_are_those_of_the_checkpoint(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    options = ["--hidden", "16", "--seeds", "1", "--epochs", "1", "--rule", "q_agrel"]
    result = running.run(train.main, "--out", folder, *options)
    assert result.returncode == 0, result.stderr
    (line,) = tangent_kernel.measure(folder, 20)
    variables, _ = tangent_kernel.export.best(folder, "q_agrel", 0)
    network = make_network("dense", 10, hidden=(16,))
    inputs = jnp.asarray(data.load("digits").test_images[:20] / 255, jnp.float32)

    def forward(params, images):
        return network.apply({"params": params}, images)

    kernel = analysis.tangent_kernel(forward, variables["params"], inputs)
    for layer, values in kernel.items():
        found = line["networks"][0]["layers"][layer]
        np.testing.assert_allclose(found, values.mean(), rtol=1e-4)

    # A network that is not there is found before hours of work on others.
    monkeypatch.setattr(tangent_kernel, "measure", None)
    second = shutil.copytree(folder, tmp_path / "second")
    (second / "checkpoint_q_agrel.msgpack").unlink()
    result = running.run(tangent_kernel.main, folder, second, "--out", tmp_path / "out")
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    assert "checkpoint_q_agrel.msgpack does not exist" in result.stderr
    assert not (tmp_path / "out").exists()
