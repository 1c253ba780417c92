"""``python -m experiments.tangent_kernel``: the measure of finished runs, and its table's place."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import export, tangent_kernel
from experiments.common import files
from experiments.train import __main__ as train
from qagrel_jax import analysis, data, make_network
from tests.experiments import running


@pytest.fixture(scope="module", params=["tied", pytest.param("random", marks=pytest.mark.slow)])
def run(request, tmp_path_factory):
    """Two seeds of two rules, resumed for backprop, that were to have 3 epochs and have one."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    options = f"--hidden 16 --seeds 2 --first-seed 3 --epochs 1 --feedback {request.param}"
    result = running.run(train.main, "--out", folder, *options.split())
    assert result.returncode == 0, result.stderr
    (session,) = files.environments(folder)
    files.append_line(folder / "environments.jsonl", session | {"command": "go on"})
    times = files.read_lines(folder / "timings.jsonl")
    moved = [line | {"session": int(line["rule"] == "backprop")} for line in times]
    files.write_lines(folder / "timings.jsonl", moved)
    _say(folder, epochs=3)
    return folder


def _say(folder, **changed):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changed))


def test_every_rule_and_seed_of_a_run(run, tmp_path, capsys):
    out = tmp_path / "out"
    tangent_kernel.main([str(run), "--images", "20", "--out", str(out)])
    assert "Q-AGREL" in capsys.readouterr().out
    content = json.loads((out / tangent_kernel.FILE).read_text())
    assert content["images"] == 20 and content["command"]
    assert [line["rule"] for line in content["runs"]] == ["q_agrel", "backprop"]
    first = files.environments(run)[0]["command"]
    for line in content["runs"]:
        assert line["run"] == "run"
        assert line["command"] == ("go on" if line["rule"] == "backprop" else first)
        assert [network["seed"] for network in line["networks"]] == [3, 4]
        for network in line["networks"]:
            variables, _ = export.best(run, line["rule"], network["seed"])
            layers, output = _by_hand(variables["params"])
            assert network["layers"] == pytest.approx(layers, rel=1e-4)
            assert network["kernel"] == pytest.approx(sum(layers.values()), rel=1e-4)
            assert network["output"] == pytest.approx(output, rel=1e-4)
            assert network["kernel"] != network["before"]
            assert network["epoch"] == 1
    # Both rules start from the same weights.
    before = [[network["before"] for network in line["networks"]] for line in content["runs"]]
    assert before[0] == before[1]
    assert before[0][0] != before[0][1]


def _by_hand(params):
    """Return K of each layer and the largest output: means over the first 20 test images."""
    images = jnp.asarray(data.load("digits").test_images[:20].reshape(20, -1) / 255, jnp.float32)
    kernels = {layer: weights["kernel"] for layer, weights in params.items()}

    def largest(kernels, image):
        return (jax.nn.relu(image @ kernels["Dense_0"]) @ kernels["Dense_1"]).max()

    outputs, gradients = jax.vmap(jax.value_and_grad(largest), (None, 0))(kernels, images)
    squares = {name: np.square(gradient) for name, gradient in gradients.items()}
    by_layer = {name: square.sum((1, 2)).mean().item() for name, square in squares.items()}
    return by_layer, outputs.mean().item()


@pytest.mark.parametrize("lacks", ["the second rule", "the last seed"])
def test_every_network_is_looked_for_before_the_first_is_measured(
    lacks, run, tmp_path, monkeypatch
):
    monkeypatch.setattr(tangent_kernel, "measure", None)
    other = shutil.copytree(run, tmp_path / "other")
    if lacks == "the second rule":
        (other / "checkpoint_backprop.msgpack").unlink()
    else:
        _say(other, seeds=3)
    result = running.run(tangent_kernel.main, run, other)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    assert f"{other / 'checkpoint_'}" in result.stderr


def test_every_run_that_is_given_is_told(run, tmp_path, monkeypatch):
    networks = [dict.fromkeys(("seed", *tangent_kernel.SHOWN), 1)]

    def measure(folder, images, data_dir):
        return [{"rule": rule, "networks": networks} for rule in ("q_agrel", "backprop")]

    monkeypatch.setattr(tangent_kernel, "measure", measure)
    other = shutil.copytree(run, tmp_path / "other")
    tangent_kernel.main([str(run), str(other), "--out", str(tmp_path / "out")])
    content = json.loads((tmp_path / "out" / tangent_kernel.FILE).read_text())
    told = [(line["run"], line["rule"]) for line in content["runs"]]
    assert told == [(name, rule) for name in ("run", "other") for rule in ("q_agrel", "backprop")]


def test_runs_of_one_name_are_told_apart():
    given = [Path("cells/a/paper"), Path("cells/b/paper"), Path("runs/c"), Path(".")]
    assert tangent_kernel._told(given) == ["cells/a/paper", "cells/b/paper", "c", "."]


def test_what_was_not_measured_is_a_dash():
    line = {"networks": [{"before": None, "kernel": kernel} for kernel in (2.0, 4.0, 9.0)]}
    assert tangent_kernel.shown(tangent_kernel.mean(line, "before")) == "–"
    assert tangent_kernel.shown(tangent_kernel.mean(line, "kernel")) == "5"


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
