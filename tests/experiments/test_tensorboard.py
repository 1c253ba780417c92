"""TensorBoard files: each epoch once, also after a resume; read back from their record format."""

import json
import struct
import time

import pytest
from tensorboardX.proto.event_pb2 import Event

from experiments import config, tensorboard
from experiments.common import cli, files
from experiments.common.cli import UserError
from experiments.train import folder as run_folder

RUNS = {f"{rule}/seed_{seed}" for rule in ("q_agrel", "backprop") for seed in (7, 8)}


def _line(rule, epoch, accuracy):
    return {
        "rule": rule,
        "epoch": epoch,
        "validation_accuracy": accuracy,
        "train_accuracy": [0.5, 0.25],
        "error": [0.1, None],
        "classes_learned": [3.0, 4.0],
        "class_accuracy": [0.5],
        "feedback_angle_degrees": {"Dense_0": [80.0, 70.0]},
        "update_angle_degrees": {"Dense_0": [None, 60.0]},
        "update_norm_ratio": {"Dense_0": [None, 0.5]},
    }


def _events(folder):
    """``{run: [(tag, epoch, value)]}`` of every event file; records are length, crc, data, crc."""
    found = {}
    for path in sorted(folder.glob("tensorboard/**/events.out.tfevents.*")):
        content, at, rows = path.read_bytes(), 0, []
        while at < len(content):
            (length,) = struct.unpack("<Q", content[at : at + 8])
            event = Event.FromString(content[at + 12 : at + 12 + length])
            rows += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
            at += 12 + length + 4
        found.setdefault(str(path.parent.relative_to(folder / "tensorboard")), []).extend(rows)
    return found


@pytest.fixture
def folder(tmp_path):
    content = config.to_json(config.replace(config.load("digits"), {"first_seed": 7, "seeds": 2}))
    files.write_json(tmp_path / "config.json", content)
    files.append_line(tmp_path / "metrics.jsonl", _line("q_agrel", 1, [0.25, 0.5]))
    return tmp_path


def test_numbers_seeds_and_epochs(folder):
    with tensorboard.Mirror(folder) as mirror:
        assert mirror.update() == 11
        files.append_line(folder / "metrics.jsonl", _line("q_agrel", 2, [0.75, None]))
        files.append_line(folder / "metrics.jsonl", _line("backprop", 1, [0.125, 1.0]))
        with (folder / "metrics.jsonl").open("a") as file:
            file.write('{"rule": "backprop", "epo')  # being written
        assert mirror.update() == 10 + 11
        assert mirror.update() == 0
    events = _events(folder)
    assert set(events) == RUNS
    accuracy = [row[1:] for row in events["q_agrel/seed_7"] if row[0] == "validation_accuracy"]
    assert accuracy == [(1, 0.25), (2, 0.75)]
    assert ("feedback_angle_degrees/Dense_0", 2, 70.0) in events["q_agrel/seed_8"]
    assert ("update_angle_degrees/Dense_0", 2, 60.0) in events["q_agrel/seed_8"]
    assert ("update_norm_ratio/Dense_0", 1, 0.5) in events["backprop/seed_8"]
    assert ("validation_accuracy", 2) not in [row[:2] for row in events["q_agrel/seed_8"]]


def test_resuming_shows_every_epoch_once(folder):
    metrics = folder / "metrics.jsonl"
    files.append_line(metrics, _line("q_agrel", 2, [0.75, 0.5]))
    with tensorboard.following(folder, wanted=True):
        pass
    with tensorboard.following(folder, wanted=True):  # resumed: an epoch is repeated
        run_folder.cut_lines(metrics, "q_agrel", 1)
        for epoch in (2, 3):
            files.append_line(metrics, _line("q_agrel", epoch, [0.75, 0.5]))
    epochs = [e for tag, e, _ in _events(folder)["q_agrel/seed_7"] if tag == "validation_accuracy"]
    assert epochs == [1, 2, 3]


def test_what_comes_after_the_last_look_is_written_too(folder, monkeypatch):
    monkeypatch.setattr(tensorboard, "SECONDS", 0.001)
    with tensorboard.following(folder, wanted=True):
        while not _events(folder):
            time.sleep(0.01)
        monkeypatch.setattr(tensorboard, "SECONDS", 60)
        time.sleep(0.05)
        files.append_line(folder / "metrics.jsonl", _line("backprop", 1, [0.125, 1.0]))
    assert set(_events(folder)) == RUNS


def test_a_run_that_is_there_already(folder, capsys):
    tensorboard.main([str(folder)])
    assert "11 scalars" in capsys.readouterr().out
    assert json.loads((folder / "metrics.jsonl").read_text())["epoch"] == 1
    with pytest.raises(SystemExit):
        cli.run(tensorboard.main, [str(folder / "none")])


def test_one_process_at_a_time_writes_them(folder):
    with tensorboard.following(folder, wanted=True), tensorboard.Mirror(folder) as training:
        assert training.update() == 11
        with pytest.raises(UserError, match="keeps its event files up to date itself"):
            tensorboard.main([str(folder)])
    assert len(_events(folder)["q_agrel/seed_7"]) == 5
    tensorboard.main([str(folder)])


def test_unwanted_or_without_a_run_it_does_nothing(folder, tmp_path):
    with tensorboard.following(folder, wanted=False):
        pass
    assert not (folder / "tensorboard").exists()
    with tensorboard.following(tmp_path / "none", wanted=True):
        pass
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("damage", ["missing", "empty", "damaged"])
def test_without_metrics_the_files_that_are_there_stay(damage, folder):
    tensorboard.main([str(folder)])
    before = sorted(path.name for path in (folder / "tensorboard").rglob("*"))
    metrics = folder / "metrics.jsonl"
    metrics.unlink() if damage == "missing" else metrics.write_text("{" * (damage == "damaged"))
    with pytest.raises(UserError, match="is missing, empty or damaged"):
        tensorboard.main([str(folder)])
    assert sorted(path.name for path in (folder / "tensorboard").rglob("*")) == before
