"""``python -m experiments.train`` as a person meets it: results, errors, kills."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from experiments import cli
from experiments import train as train_command
from qagrel_jax import data

ROOT = Path(__file__).resolve().parent.parent
QUICK = ["--hidden", "32", "--seeds", "2", "--epochs", "3"]


def train(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "experiments.train", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, timeout=300, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "digits"
    result = train("--out", folder, *QUICK)
    assert result.returncode == 0, result.stderr
    return folder, result


def test_a_run_leaves_everything(finished):
    folder, result = finished
    summary = json.loads((folder / "summary.json").read_text())
    assert [r["rule"] for r in summary["results"]] == ["q_agrel", "backprop"]
    for entry in summary["results"]:
        assert entry["dataset"] == "digits"
        assert entry["architecture"] == "dense"
        assert entry["feedback"] == "tied"
        assert entry["seeds"] == [0, 1]
        assert len(entry["test_accuracy"]) == len(entry["epochs_to_criterion"]) == 2
        assert all(0 <= a <= 1 for a in entry["test_accuracy"])
        assert entry["epochs"] == 3
        assert entry["images_per_second"] > 0
        assert {"device", "versions", "commit"} <= entry.keys()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(r["rule"], r["epoch"]) for r in lines] == [
        (rule, epoch) for rule in ("q_agrel", "backprop") for epoch in (1, 2, 3)
    ]
    assert (folder / "learning_curves.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "config.json").read_text())["hidden"] == [32]
    assert "test accuracy" in result.stdout


def test_resuming_a_finished_run_changes_nothing(finished):
    folder, _ = finished
    before = (folder / "metrics.jsonl").read_bytes()
    results = json.loads((folder / "summary.json").read_text())["results"]
    result = train("--out", folder, "--resume")
    assert result.returncode == 0, result.stderr
    assert (folder / "metrics.jsonl").read_bytes() == before
    again = json.loads((folder / "summary.json").read_text())["results"]
    assert [r["test_accuracy"] for r in again] == [r["test_accuracy"] for r in results]


def test_another_run_is_not_overwritten(finished):
    folder, _ = finished
    before = {p: p.read_bytes() for p in folder.iterdir()}
    _refused(train("--out", folder, *QUICK), "holds another run")
    _refused(train("--out", folder, "--resume", "--seeds", "9"), "seeds 2 there, 9 here")
    _refused(train("mnist_dense", "--out", folder, "--resume"), "different config")
    assert before == {p: p.read_bytes() for p in folder.iterdir()}


def test_a_damaged_checkpoint_says_which_file(finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished[0], folder)
    (folder / "summary.json").unlink()  # it had not come to its end
    checkpoint = folder / "checkpoint_q_agrel.msgpack"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    _refused(train("--out", folder, "--resume"), "checkpoint_q_agrel.msgpack is damaged")


@pytest.mark.parametrize("delay", [0.5, 4.0, 5.5])
def test_killed_and_resumed_it_ends_the_same(finished, tmp_path, delay):
    """SIGKILL at some moment; then as often as it takes to get through."""
    whole, _ = finished
    folder = tmp_path / "killed"
    command = [sys.executable, "-m", "experiments.train", "--resume", "--out", str(folder), *QUICK]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not folder.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(delay)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    # A temporary file that a kill leaves behind must not disturb anything.
    (folder / ".checkpoint_q_agrel.msgpack.1.tmp").write_bytes(b"half")
    result = train("--resume", "--out", folder, *QUICK)
    assert result.returncode == 0, result.stderr
    for name in ("metrics.jsonl", "checkpoint_q_agrel.msgpack", "checkpoint_backprop.msgpack"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name


BAD = {
    "config": (["nonesuch"], "unknown config 'nonesuch'; valid: cifar100_conv"),
    "rule": (["--rule", "hebb"], "unknown rule 'hebb'; valid: q_agrel, backprop"),
    "policy": (["--policy", "best"], "valid: greedy, epsilon_greedy, softmax, max_boltzmann"),
    "feedback": (["--feedback", "magic"], "valid: tied, reciprocal, random, sign"),
    "dataset": (["--dataset", "nonesuch"], "nonesuch"),
    "epsilon": (["--epsilon", "1.5"], "must be in [0, 1], got 1.5"),
    "temperature": (["--temperature", "0"], "must be in (0"),
    "seeds": (["--seeds", "0"], "must be in [1"),
    "not a number": (["--epochs", "many"], "'many' is not a whole number"),
    "batch": (["--batch-size", "5000"], "--batch-size 5000 is larger than the"),
    "hidden": (["mnist_conv", "--hidden", "8"], "goes with the dense architecture"),
    "resume": (["--resume"], "--resume needs --out"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(name, tmp_path):
    arguments, message = BAD[name]
    out = [] if name == "resume" else ["--out", tmp_path / "out"]
    began = time.monotonic()
    result = train(*arguments, *out, "--data-dir", tmp_path)
    _refused(result, message)
    assert time.monotonic() - began < 40  # under 5 s on an idle machine
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data dir with a small set of three classes, prepared here."""
    tfds = pytest.importorskip("tensorflow_datasets")
    image = pytest.importorskip("PIL.Image")

    class QjTrained(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        url_infos = None  # nothing to download

        def _info(self):
            features = {"image": tfds.features.Image(shape=(6, 6, 1), encoding_format="png"),
                        "label": tfds.features.ClassLabel(num_classes=3)}  # fmt: skip
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, manager):
            return {"train": self._generate_examples(20), "test": self._generate_examples(9)}

        def _generate_examples(self, count):
            for i in range(count):
                yield i, {"image": image.fromarray(np.full((6, 6), i, np.uint8)), "label": i % 3}

    root = tmp_path_factory.mktemp("tfds")
    data.load("qj_trained", root, root / "cache")
    return root


@pytest.mark.parametrize("damage", ["truncated file", "label out of range"])
def test_damaged_data_is_one_line(prepared, tmp_path, monkeypatch, capsys, damage):
    root = tmp_path / "tfds"
    shutil.copytree(prepared / "qj_trained", root / "qj_trained")
    folder = root / "qj_trained" / "1.0.0"
    if damage == "truncated file":
        (file,) = folder.glob("*test.array_record*")
        os.truncate(file, file.stat().st_size // 2)
        message = f"data file {file} is damaged"
    else:
        features = folder / "features.json"
        features.write_text(features.read_text().replace('"numClasses": "3"', '"numClasses": "2"'))
        message = "label 2 (image "
    out = tmp_path / "out"
    arguments = ["--dataset", "qj_trained", "--data-dir", str(root), "--out", str(out)]
    monkeypatch.setenv("QAGREL_JAX_CACHE", str(tmp_path / "cache"))
    before = {p: p.read_bytes() for p in folder.iterdir()}
    began = time.process_time()
    with pytest.raises(SystemExit) as stop:
        cli.run(train_command.main, arguments)
    assert stop.value.code == 2
    assert time.process_time() - began < 5
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line
    assert not out.exists()
    assert before == {p: p.read_bytes() for p in folder.iterdir()}


def test_a_diverging_run_says_so(tmp_path):
    result = train("--out", tmp_path / "out", *QUICK, "--learning-rate", "1e9")
    _refused(result, "diverged at step")
    failure = json.loads((tmp_path / "out" / "failed.json").read_text())
    assert "diverged at step" in failure["error"]
    assert not (tmp_path / "out" / "summary.json").exists()


def _refused(result, message):
    assert result.returncode == 2, result.stderr
    errors = [line for line in result.stderr.splitlines() if "error:" in line]
    assert len(errors) == 1, result.stderr
    assert message in errors[0], result.stderr
    assert "Traceback" not in result.stderr
