"""``python -m experiments.merge``: rules trained apart are the run that trains them together."""

import json
import shutil

import numpy as np
import pytest

from experiments import export, merge
from experiments.train import __main__ as train
from tests.experiments import running

SMALL = ["--hidden", "16", "--seeds", "2", "--first-seed", "4", "--epochs", "2"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("merge")
    for name in ("q_agrel", "backprop", "q_agrel,backprop"):
        result = running.run(train.main, "--rule", name, "--out", folder / name, *SMALL)
        assert result.returncode == 0, result.stderr
    return folder


def _json(path):
    return json.loads(path.read_text())


def test_equals_the_run_that_trains_both(runs, tmp_path, capsys):
    out, together = tmp_path / "out", runs / "q_agrel,backprop"
    before = {p: p.read_bytes() for p in runs.rglob("*") if p.is_file()}
    merge.main([str(runs / "q_agrel"), str(runs / "backprop"), "--out", str(out)])
    assert "q_agrel, backprop, finished" in capsys.readouterr().out
    assert {p: p.read_bytes() for p in before} == before
    for name in ("config.json", "metrics.jsonl"):
        assert (out / name).read_bytes() == (together / name).read_bytes()
    ours, theirs = _json(out / "summary.json"), _json(together / "summary.json")
    assert ours["config"] == theirs["config"]
    for key in ("criterion_accuracy", "criterion_is", "slowdown", "slowdown_by_best_epoch"):
        assert ours[key] == theirs[key]
    for one, other in zip(ours["results"], theirs["results"], strict=True):
        timed = {"images_per_second", "train_seconds"}
        assert {k: v for k, v in one.items() if k not in timed} == {
            k: v for k, v in other.items() if k not in timed
        }
    assert len(ours["sessions"]) == 2
    for name in ("learning_curves", "class_discovery"):
        assert (out / f"{name}.png").is_file()
    for rule in ("q_agrel", "backprop"):
        merged, _ = export.best(out, rule, 5)
        own, _ = export.best(runs / rule, rule, 5)
        for layer, weights in own["params"].items():
            np.testing.assert_array_equal(merged["params"][layer]["kernel"], weights["kernel"])


def test_resumes_for_more_epochs(runs, tmp_path):
    out = tmp_path / "out"
    merge.main([str(runs / "q_agrel"), str(runs / "backprop"), "--out", str(out)])
    result = running.run(train.main, "--out", out, "--resume", "--epochs", "3")
    assert result.returncode == 0, result.stderr
    lines = (out / "metrics.jsonl").read_text().splitlines()
    epochs = [json.loads(line)["epoch"] for line in lines]
    assert sorted(epochs) == [1, 1, 2, 2, 3, 3]


def test_commits_and_devices_are_those_of_each_part(runs, tmp_path):
    other = tmp_path / "backprop"
    shutil.copytree(runs / "backprop", other)
    summary = _json(other / "summary.json")
    summary["results"][0] |= {"commit": "fedcba9", "device": "another"}
    (other / "summary.json").write_text(json.dumps(summary))
    merge.main([str(runs / "q_agrel"), str(other), "--out", str(tmp_path / "out")])
    first, second = _json(tmp_path / "out" / "summary.json")["results"]
    assert (second["commit"], second["device"]) == ("fedcba9", "another")
    assert first["commit"] != "fedcba9"


def test_an_unfinished_part_leaves_no_summary(runs, tmp_path, capsys):
    other = tmp_path / "backprop"
    shutil.copytree(runs / "backprop", other)
    (other / "summary.json").unlink()
    (other / "checkpoint_backprop.msgpack").unlink()
    merge.main([str(runs / "q_agrel"), str(other), "--out", str(tmp_path / "out")])
    assert "not finished" in capsys.readouterr().out
    assert not (tmp_path / "out" / "summary.json").exists()


@pytest.mark.parametrize("damage", ["recipe", "same", "twice", "summary", "checkpoint", "full"])
def test_one_line_and_nothing_left(damage, runs, tmp_path):
    first, second, out = runs / "q_agrel", tmp_path / "other", tmp_path / "out"
    shutil.copytree(runs / "backprop", second)
    says = {
        "recipe": "are not of one recipe: learning_rate 0.1 there, 0.2 here",
        "same": "another run has q_agrel, too",
        "twice": "is given twice",
        "summary": "summary.json is damaged",
        "checkpoint": "checkpoint_backprop.msgpack: damaged",
        "full": "holds another run or other files",
    }[damage]
    if damage == "recipe":
        config = _json(second / "config.json")
        (second / "config.json").write_text(json.dumps(config | {"learning_rate": 0.2}))
    elif damage == "same":
        second = runs / "q_agrel,backprop"
    elif damage == "twice":
        second = tmp_path / ".." / tmp_path.name / "link"
        second.symlink_to(first)
    elif damage == "summary":
        (second / "summary.json").write_text('{"results": [1]}')
    elif damage == "checkpoint":
        path = second / "checkpoint_backprop.msgpack"
        path.write_bytes(path.read_bytes()[:-1])
    else:
        out.mkdir()
        (out / "thesis.txt").touch()
    result = running.run(merge.main, first, second, "--out", out)
    assert result.returncode == 2
    assert says in result.stderr and len(result.stderr.splitlines()) == 1
    assert not out.exists() or [p.name for p in out.iterdir()] == ["thesis.txt"]
