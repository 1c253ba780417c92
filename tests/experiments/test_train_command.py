"""``python -m experiments.train`` as a person meets it: results, errors, kills."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import config as configs
from experiments.common import cli, files
from experiments.train import __main__ as train_command
from experiments.train import one_rule
from qagrel_jax import data
from tests.experiments import running

ROOT = Path(__file__).resolve().parents[2]
QUICK = ["--hidden", "32", "--seeds", "2", "--epochs", "3"]


def train(*arguments):
    return running.run(train_command.main, *arguments)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "digits"
    result = train("--out", folder, *QUICK)
    assert result.returncode == 0, result.stderr
    return folder, result


@pytest.mark.slow
def test_arrays_of_ones_own_train_as_the_same_images_do_elsewhere(finished, tmp_path):
    digits = data.load("digits")
    fields = ("train_images", "train_labels", "test_images", "test_labels")
    np.savez(tmp_path / "mine.npz", **{name: getattr(digits, name) for name in fields})
    result = train("--dataset", tmp_path / "mine.npz", "--out", tmp_path / "run", *QUICK)
    assert result.returncode == 0, result.stderr
    lines = [(folder / "metrics.jsonl").read_text() for folder in (finished[0], tmp_path / "run")]
    assert lines[0] == lines[1]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["name"] == "mine"


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
    _refused(train("--out", folder, "--resume"), "checkpoint_q_agrel.msgpack: damaged")


# Epochs long enough to be killed in.
SLOW = ["--hidden", "256", "--seeds", "2", "--epochs", "3", "--batch-size", "2"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slow") / "run"
    result = train("--out", folder, *SLOW)
    assert result.returncode == 0, result.stderr
    return folder


SLOW_TOO = [pytest.param(epochs, marks=pytest.mark.slow) for epochs in (0, 4)]


@pytest.mark.parametrize("epochs", [1, *SLOW_TOO])
def test_killed_and_resumed_it_ends_the_same(undisturbed, tmp_path, epochs):
    """SIGKILL before anything is learned, within the first rule, and within the second."""
    folder = tmp_path / "killed"
    command = [sys.executable, "-m", "experiments.train", "--resume", "--out", str(folder), *SLOW]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        if (folder / "config.json").exists() and len(_lines(folder)) >= epochs:
            break
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert epochs <= len(_lines(folder)) < 6 and not (folder / "summary.json").exists()
    # A temporary file that a kill leaves behind disturbs nothing, and goes.
    left = folder / ".checkpoint_q_agrel.msgpack.1.tmp"
    left.write_bytes(b"half")
    result = train("--resume", "--out", folder, *SLOW)
    assert result.returncode == 0, result.stderr
    for name in ("metrics.jsonl", "checkpoint_q_agrel.msgpack", "checkpoint_backprop.msgpack"):
        assert (folder / name).read_bytes() == (undisturbed / name).read_bytes(), name
    assert not left.exists()


@pytest.mark.slow
def test_interrupted_and_resumed_with_a_curriculum_it_ends_the_same(tmp_path, monkeypatch):
    """After an epoch some classes are active and some are not."""
    whole, folder = tmp_path / "whole", tmp_path / "interrupted"
    arguments = (
        "--rule q_agrel --hidden 16 --seeds 1 --epochs 2 --batch-size 32 --curriculum random "
        "--curriculum-threshold 0.4 --curriculum-outputs open"
    )
    monkeypatch.setattr(train_command, "_draw", lambda folder: None)
    assert train("--out", whole, *arguments.split()).returncode == 0
    save = one_rule._Saver.save

    def interrupt(*given, **options):
        save(*given, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(one_rule._Saver, "save", interrupt)
    with (
        jax.debug_key_reuse(False),
        pytest.raises(KeyboardInterrupt, match=f"--resume --out {folder}"),
    ):
        train_command.main(["--out", str(folder), *arguments.split()])
    monkeypatch.setattr(one_rule._Saver, "save", save)
    (line,) = _lines(folder)
    assert 2 < line["active_classes"][0] < 10
    assert train("--out", folder, "--resume").returncode == 0
    for name in ("metrics.jsonl", "checkpoint_q_agrel.msgpack"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name


CURRICULUM = (
    "--rule q_agrel --hidden 256 --seeds 2 --epochs 4 --batch-size 4 --curriculum random "
    "--curriculum-threshold 0.4 --curriculum-outputs open"
)


@pytest.mark.slow
def test_killed_and_resumed_with_a_curriculum_it_ends_the_same(tmp_path):
    folder, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-m", "experiments.train", "--out", str(folder), *CURRICULUM.split()]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline and len(_lines(folder)) < 1:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    for out, resume in ((whole, []), (folder, ["--resume"])):
        result = train("--out", out, *CURRICULUM.split(), *resume)
        assert result.returncode == 0, result.stderr
    for name in ("metrics.jsonl", "checkpoint_q_agrel.msgpack"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    first, *_, last = (line["active_classes"] for line in _lines(folder))
    assert len(first) == 2 and min(first) >= 2 and max(first) <= max(last)


def _lines(folder):
    return files.read_lines(folder / "metrics.jsonl")


def test_a_finished_run_goes_on_for_more_epochs(finished, tmp_path):
    folder = tmp_path / "shorter"
    for more in (["--epochs", "2"], ["--resume", "--epochs", "3"]):
        result = train("--out", folder, *QUICK, *more)
        assert result.returncode == 0, result.stderr
    for name in ("config.json", "metrics.jsonl"):
        mine = [line for line in (folder / name).read_text().splitlines() if "patience" not in line]
        there = (finished[0] / name).read_text().splitlines()
        assert sorted(mine) == sorted(line for line in there if "patience" not in line), name
    assert json.loads((folder / "summary.json").read_text())["results"][0]["epochs"] == 3
    _refused(train("--out", folder, "--resume", "--epochs", "2"), "epochs 3 there, 2 here")


def test_epochs_that_got_lost_are_missed(finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished[0], folder)
    (folder / "summary.json").unlink()
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    (folder / "metrics.jsonl").write_text("\n".join(lines[1:]))
    _refused(train("--out", folder, "--resume"), "move the latter away to start this rule anew")


def test_epochs_without_their_checkpoint_are_kept_aside(finished, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / "copy")
    (folder / "summary.json").unlink()
    rule = json.loads((folder / "config.json").read_text())["rules"][0]
    (folder / f"checkpoint_{rule}.msgpack").unlink()
    before = (folder / "metrics.jsonl").read_bytes()
    result = train("--out", folder, "--resume")
    assert result.returncode == 0, result.stderr
    assert f"{rule} begins anew; the epochs that were there are in" in result.stderr
    assert (folder / "metrics_before_1.jsonl").read_bytes() == before
    assert sorted((folder / "metrics.jsonl").read_bytes().splitlines()) == sorted(
        before.splitlines()
    )


def test_another_architecture_leaves_the_sizes_of_the_dense_one_behind(tmp_path):
    arguments = train_command._parser(configs.load("digits")).parse_args(["--architecture", "conv"])
    config, _ = train_command._what_and_where(arguments)
    assert (config.dataset, config.architecture, config.hidden) == ("digits", "conv", None)


BAD = {
    "config": (["nonesuch"], "unknown config 'nonesuch'; valid: cifar100_conv"),
    "rule": (["--rule", "hebb"], "unknown rule 'hebb'; valid: q_agrel, backprop"),
    "policy": (["--policy", "best"], "valid: greedy, epsilon_greedy, softmax, max_boltzmann"),
    "feedback": (["--feedback", "magic"], "valid: tied, kolen_pollack, random, sign"),
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
    _refused(train(*arguments, *out, "--data-dir", tmp_path), message)
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
            features = {
                "image": tfds.features.Image(shape=(6, 6, 1), encoding_format="png"),
                "label": tfds.features.ClassLabel(num_classes=3),
            }
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
    out = tmp_path / "out"
    hopeless = ["--reward-right", "1e9", "--seeds", "1", "--first-seed", "7"]  # backprop has none
    curriculum = ["--curriculum", "index", "--curriculum-start", "9"]
    result = train("--out", out, *QUICK, *hopeless, *curriculum)
    _refused(result, "q_agrel: seed 7 diverged at step")
    _refused(result, "try a lower --learning-rate or a higher --curriculum-start in a new --out")
    failure = json.loads((out / "failed.json").read_text())
    assert "diverged at step" in failure["error"]
    assert not (out / "summary.json").exists()
    assert [line["rule"] for line in _lines(out)] == 3 * ["backprop"]  # it went on


def _damage_a_seed(monkeypatch, index):
    """Let the weights of one seed, of those that a rule begins with, be as large as 1e30."""
    start = one_rule.start

    def damaged(*arguments):
        run = start(*arguments)
        params = jax.tree.map(lambda leaf: leaf.at[index].set(1e30), run.states.params)
        return run._replace(states=run.states._replace(params=params))

    monkeypatch.setattr(one_rule, "start", damaged)


@pytest.mark.parametrize("protocol", ["clean", pytest.param("paper", marks=pytest.mark.slow)])
def test_a_seed_that_diverges_is_told_and_the_others_go_on(protocol, tmp_path, monkeypatch):
    out = tmp_path / "out"
    options = [*QUICK, "--first-seed", "7", "--protocol", protocol, "--feedback", "sign"]
    expected = train("--out", tmp_path / "whole", *options)
    assert expected.returncode == 0, expected.stderr
    _damage_a_seed(monkeypatch, 1)
    result = train("--out", out, *options)
    assert result.returncode == 0, result.stderr
    for rule in ("q_agrel", "backprop"):
        lines = [line for line in result.stderr.splitlines() if line.startswith(f"{rule}: ")]
        told = "seed 8 diverged at step 1 (epoch 1): NaN or infinity; it stops, the others go on"
        assert lines == [f"{rule}: {told}"]
        assert f"{rule} diverged: seed 8 in epoch 1;" in result.stdout
    assert "RuntimeWarning" not in result.stderr and "slowdown" not in result.stdout
    folders = (out, tmp_path / "whole")
    found, whole = (json.loads((folder / "summary.json").read_text()) for folder in folders)
    for ours, undamaged in zip(found["results"], whole["results"], strict=True):
        assert ours["test_accuracy"] == [undamaged["test_accuracy"][0], 0]
        assert ours["diverged_in_epoch"] == [None, 1]
        assert undamaged["diverged_in_epoch"] == [None, None]
    for ours, undamaged in zip(_lines(out), _lines(tmp_path / "whole"), strict=True):
        accuracy = next(key for key in ours if key in ("validation_accuracy", "test_accuracy"))
        for key in (accuracy, "error"):
            assert ours[key][0] == undamaged[key][0]
            assert ours[key][1] == (0 if key == accuracy and ours["epoch"] == 1 else None)
    assert (out / "learning_curves.png").is_file() and (out / "angles.png").is_file()
    again = train("--out", out, "--resume", "--epochs", "4")
    assert again.returncode == 0, again.stderr
    entry = json.loads((out / "summary.json").read_text())["results"][0]
    assert (entry["epochs"], entry["diverged_in_epoch"]) == (4, [None, 1])
    assert "diverged" in again.stdout and "diverged" not in again.stderr


def test_the_message_of_seeds_that_all_diverged(tmp_path):
    hopeless = ["--reward-right", "1e9", "--rules", "q_agrel"]
    _refused(train("--out", tmp_path / "out", *QUICK, *hopeless), ", as the other seeds did; ")


def _refused(result, message):
    assert result.returncode == 2, result.stderr
    errors = [line for line in result.stderr.splitlines() if "error:" in line]
    assert len(errors) == 1, result.stderr
    assert message in errors[0], result.stderr
    assert "Traceback" not in result.stderr
