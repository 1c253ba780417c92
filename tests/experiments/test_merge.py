"""``python -m experiments.merge``: rules and seeds trained apart are the run that trains them
together."""

import functools
import json
import re
import shutil

import flax.serialization
import jax
import numpy as np
import pytest

from experiments import config as configs
from experiments import export, merge, plots
from experiments.common import files
from experiments.common.cli import UserError
from experiments.train import __main__ as train
from experiments.train import folder as run_folder
from experiments.train import joined
from experiments.train.parts import merged
from qagrel_jax.training import checkpoints
from tests.experiments import running

SMALL = ["--hidden", "16", "--seeds", "2", "--first-seed", "4", "--epochs", "2"]
RULES = ("q_agrel", "backprop")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("merge")
    for name in ("q_agrel", "backprop", "q_agrel,backprop"):
        result = running.run(train.main, "--rule", name, "--out", folder / name, *SMALL)
        assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture
def no_pictures(monkeypatch):
    """Leave out what takes most of the time of a merge."""
    monkeypatch.setattr(plots, "of_run", lambda folder: None)


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


@pytest.mark.slow
def test_resumes_for_more_epochs(runs, tmp_path):
    """Each rule stays of the device and commit on which it began."""
    out, other = tmp_path / "out", tmp_path / "backprop"
    shutil.copytree(runs / "backprop", other)
    elsewhere = {"commit": "fedcba9", "device": "another"}
    for name in ("environments.jsonl", "summary.json"):
        content = _json(other / name)
        (content["results"][0] if "results" in content else content).update(elsewhere)
        (other / name).write_text(json.dumps(content) + "\n")
    merge.main([str(runs / "q_agrel"), str(other), "--out", str(out)])
    assert export.best(out, "backprop")[1]["commit"] == "fedcba9"
    assert export.best(out, "q_agrel")[1]["commit"] != "fedcba9"
    result = running.run(train.main, "--out", out, "--resume", "--epochs", "3")
    assert result.returncode == 0, result.stderr
    lines = (out / "metrics.jsonl").read_text().splitlines()
    epochs = [json.loads(line)["epoch"] for line in lines]
    assert sorted(epochs) == [1, 1, 2, 2, 3, 3]
    times = [json.loads(line) for line in (out / "timings.jsonl").read_text().splitlines()]
    sessions = {rule: [t["session"] for t in times if t["rule"] == rule] for rule in RULES}
    assert sessions == {"q_agrel": [0, 0, 2], "backprop": [1, 1, 2]}
    first, second = _json(out / "summary.json")["results"]
    assert (second["commit"], second["device"]) == ("fedcba9", "another")
    assert first["commit"] != "fedcba9" and first["device"] != "another"


@pytest.mark.usefixtures("no_pictures")
def test_sessions_of_a_part_that_was_resumed_are_counted_on(runs, tmp_path):
    parts = [shutil.copytree(runs / rule, tmp_path / rule) for rule in RULES]
    for part in parts:
        (session,) = files.environments(part)
        files.append_line(part / "environments.jsonl", session | {"command": f"resume {part.name}"})
        times = files.read_lines(part / "timings.jsonl")
        resumed = [line | {"session": line["epoch"] - 1} for line in times]
        files.write_lines(part / "timings.jsonl", resumed)
    out = tmp_path / "out"
    merge.main([*map(str, parts), "--out", str(out)])
    commands = [session["command"] for session in files.environments(out)]
    assert commands[1::2] == ["resume q_agrel", "resume backprop"]
    times = files.read_lines(out / "timings.jsonl")
    assert [(line["rule"], line["epoch"], line["session"]) for line in times] == [
        ("q_agrel", 1, 0),
        ("q_agrel", 2, 1),
        ("backprop", 1, 2),
        ("backprop", 2, 3),
    ]


def test_a_finished_part_without_its_sessions_is_of_what_its_results_say(runs, tmp_path):
    other = tmp_path / "backprop"
    shutil.copytree(runs / "backprop", other)
    (other / "environments.jsonl").unlink()
    merge.main([str(runs / "q_agrel"), str(other), "--out", str(tmp_path / "out")])
    lines = (tmp_path / "out" / "environments.jsonl").read_text().splitlines()
    there = _json(runs / "backprop" / "environments.jsonl")
    assert json.loads(lines[1]) == {
        key: there[key] for key in ("device", "versions", "commit", "command")
    }


def _without_an_epoch(run, folder):
    shutil.copytree(run, folder)
    for path in folder.iterdir():
        if path.name not in ("config.json", "environments.jsonl"):
            path.unlink()
    return folder


def test_parts_without_an_epoch_leave_no_picture(runs, tmp_path, capsys):
    parts = [str(_without_an_epoch(runs / rule, tmp_path / rule)) for rule in RULES]
    merge.main([*parts, "--out", str(tmp_path / "out")])
    assert "not finished" in capsys.readouterr().out
    left = {path.name for path in (tmp_path / "out").iterdir() if path.name[0] != "."}
    assert left == {"config.json", "environments.jsonl"}


def test_what_keeps_a_part_from_going_on_is_kept(runs, tmp_path):
    other = _without_an_epoch(runs / "backprop", tmp_path / "backprop")
    (other / "failed.json").write_text('{"error": "seed 4 diverged"}')
    merge.main([str(runs / "q_agrel"), str(other), "--out", str(tmp_path / "out")])
    assert _json(tmp_path / "out" / "failed.json") == {
        "error": "seed 4 diverged",
        "rules": {"backprop": "seed 4 diverged"},
    }


@pytest.mark.usefixtures("no_pictures")
def test_what_kept_a_part_that_is_finished_now_from_going_on_is_not_kept(runs, tmp_path):
    other = shutil.copytree(runs / "backprop", tmp_path / "backprop")
    (other / "failed.json").write_text('{"error": "seed 4 diverged"}')
    merge.main([str(runs / "q_agrel"), str(other), "--out", str(tmp_path / "out")])
    assert (tmp_path / "out" / "summary.json").exists()
    assert not (tmp_path / "out" / "failed.json").exists()


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (KeyboardInterrupt(), 130, "nothing was written"),
        (OSError(28, "No space left on device"), 2, "No space left on device"),
    ],
)
def test_nothing_is_left_of_one_that_was_cut_short(error, code, says, runs, tmp_path, monkeypatch):
    def cut_short(folder):
        assert (folder / "config.json").is_file()
        raise error

    monkeypatch.setattr(plots, "of_run", cut_short)
    out = tmp_path / "out"
    result = running.run(merge.main, runs / "q_agrel", runs / "backprop", "--out", out)
    assert result.returncode == code
    assert says in result.stderr and len(result.stderr.splitlines()) == 1
    assert not out.exists()


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


@pytest.mark.parametrize(
    "damage",
    [
        "recipe",
        "same",
        "twice",
        "summary",
        "results",
        "checkpoint",
        "rule",
        "sessions",
        "full",
    ],
)
def test_one_line_and_nothing_left(damage, runs, tmp_path):
    first, second, out = runs / "q_agrel", tmp_path / "other", tmp_path / "out"
    shutil.copytree(runs / "backprop", second)
    says = {
        "recipe": "are not of one recipe: learning_rate 0.1 in the first, 0.2 in the second",
        "same": "another run has q_agrel, too",
        "twice": "is given twice",
        "summary": "summary.json is damaged",
        "results": "summary.json is damaged",
        "checkpoint": "checkpoint_backprop.msgpack: damaged",
        "rule": "checkpoint_backprop.msgpack is of the rule q_agrel",
        "sessions": "environments.jsonl is missing or damaged",
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
    elif damage == "results":
        content = _json(second / "summary.json")
        del content["results"][0]["best_monitored_accuracy"]
        (second / "summary.json").write_text(json.dumps(content))
    elif damage == "rule":
        shutil.copy(first / "checkpoint_q_agrel.msgpack", second / "checkpoint_backprop.msgpack")
    elif damage == "sessions":
        (second / "summary.json").unlink()
        (second / "environments.jsonl").write_text("17\n")
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


STOPPING = ["--hidden", "16", "--epochs", "9", "--patience", "1", "--min-gain", "0.03"]
APART = {
    "together": ("q_agrel,backprop", 4, 2),
    "seed_4": ("q_agrel,backprop", 4, 1),
    "seed_5_backprop": ("backprop", 5, 1),
    "seed_5_q_agrel": ("q_agrel", 5, 1),
}


@pytest.fixture(scope="module")
def seeds_apart(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds")
    for name, (rules, first, seeds) in APART.items():
        chosen = ["--rule", rules, "--first-seed", str(first), "--seeds", str(seeds)]
        out = ["--out", folder / name]
        result = running.run(train.main, *chosen, *out, *STOPPING)
        assert result.returncode == 0, result.stderr
    return folder


def _nearly(content):
    """Numbers that are equal to rounding: a program for more seeds may sum in another order."""
    if isinstance(content, dict):
        return {key: _nearly(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_nearly(value) for value in content]
    return pytest.approx(content, rel=1e-4, abs=1e-4) if isinstance(content, float) else content


def _lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_seeds_apart_equal_the_run_that_trains_them_together(seeds_apart, tmp_path, capsys):
    """They stop in different epochs."""
    out, together = tmp_path / "out", seeds_apart / "together"
    *parts, last = (seeds_apart / name for name in APART if name != "together")
    merge.main([*map(str, [last, *parts]), "--out", str(out)])
    assert "q_agrel, backprop, finished, 2 seeds" in capsys.readouterr().out
    assert (out / "config.json").read_bytes() == (together / "config.json").read_bytes()
    theirs = _lines(together)
    assert any(None in line["validation_accuracy"] for line in theirs)
    for ours, line in zip(_lines(out), theirs, strict=True):
        # The mean over seeds of numbers that were rounded is rounded again.
        np.testing.assert_allclose(
            ours.pop("class_accuracy"), line.pop("class_accuracy"), atol=2e-5
        )
        assert ours == _nearly(line)
    ours, theirs = _json(out / "summary.json"), _json(together / "summary.json")
    for key in ("criterion_accuracy", "slowdown", "slowdown_by_best_epoch"):
        assert ours[key] == theirs[key]
    timed = {"images_per_second", "train_seconds"}
    times = files.read_lines(out / "timings.jsonl")
    for one, other in zip(ours["results"], theirs["results"], strict=True):
        assert one.keys() == other.keys()
        assert {k: one[k] for k in one.keys() - timed} == _nearly(
            {k: other[k] for k in one.keys() - timed}
        )
        of_rule = [line for line in times if line["rule"] == one["rule"]]
        sessions = [line["session"] for line in of_rule]
        firsts = [sessions.index(session) for session in sessions]  # they compile
        later = [line for number, line in enumerate(of_rule) if number not in firsts]
        speeds = [line["images"] / line["seconds"] for line in later]
        assert one["images_per_second"] == pytest.approx(np.median(speeds))
        assert one["train_seconds"] > 0
    for rule in RULES:
        contents = [checkpoints.read(f / f"checkpoint_{rule}.msgpack") for f in (out, together)]
        (merged, described), (whole, metadata) = contents
        assert described == metadata
        merged, whole = map(flax.serialization.msgpack_restore, (merged, whole))
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), merged, whole
        )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["seed_4", "seed_5_q_agrel"], "no run with its seeds has backprop, which others have"),
        (["seed_4", "together"], "together is not the same run as .*seed_4 from seed 5 on"),
        (["seed_4", "later"], "later is not the same run as .*seed_4 from seed 5 on"),
        (["seed_4", "unfinished"], "unfinished is not finished: --resume it"),
        (["seed_4", "other"], "are not of one structure: move them away"),
    ],
)
def test_seeds_that_do_not_make_one_run(given, says, seeds_apart, tmp_path):
    for name, first in (("later", 6), ("unfinished", 5), ("other", 5)):
        folder = tmp_path / name
        shutil.copytree(seeds_apart / "seed_4", folder)
        _say_first_seed(folder, first)
    (tmp_path / "unfinished" / "summary.json").unlink()
    checkpoint = tmp_path / "other" / "checkpoint_q_agrel.msgpack"
    _, metadata = checkpoints.read(checkpoint)
    metadata["config"]["first_seed"] = 5
    checkpoints.write(checkpoint, flax.serialization.msgpack_serialize({"epoch": 1}), metadata)
    there = [tmp_path / n if (tmp_path / n).exists() else seeds_apart / n for n in given]
    result = running.run(merge.main, *there, "--out", tmp_path / "out")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert re.search(says, result.stderr)
    assert not (tmp_path / "out").exists()


def _say_first_seed(folder, seed):
    for path in (folder / "config.json", folder / "summary.json"):
        content = _json(path)
        content.get("config", content)["first_seed"] = seed
        path.write_text(json.dumps(content))


def _copied(seeds_apart, tmp_path, *names):
    """Copies of parts, to be damaged."""
    return [shutil.copytree(seeds_apart / name, tmp_path / name) for name in names]


def _merged(parts, out):
    result = running.run(merge.main, *parts, "--out", out)
    assert len(result.stderr.splitlines()) == (result.returncode != 0)
    return result


@pytest.mark.usefixtures("no_pictures")
def test_whose_the_times_are_outlives_another_merge(seeds_apart, tmp_path):
    names = ("seed_4", "seed_5_q_agrel", "seed_5_backprop")
    first = tmp_path / "first"
    assert _merged([seeds_apart / name for name in names], first).returncode == 0
    (later,) = _copied(seeds_apart, tmp_path, "seed_4")
    _say_first_seed(later, 6)
    for path in later.glob("checkpoint_*"):
        path.unlink()
    assert _merged([first, later], tmp_path / "out").returncode == 0
    for rule in RULES:
        whose = [
            line["seeds"]
            for line in files.read_lines(tmp_path / "out" / "timings.jsonl")
            if (line["rule"], line["epoch"]) == (rule, 1)
        ]
        assert whose == [[4], [5], [6]]


@pytest.mark.parametrize("damage", ["missing", "cut", "seeds", "seeds of all"])
def test_lines_that_lack_epochs_are_refused(damage, seeds_apart, tmp_path):
    """Else a seed's accuracies would be another's, or of other epochs."""
    first, second = _copied(seeds_apart, tmp_path, "seed_4", "together")
    _say_first_seed(first, 6)
    for path in first.glob("checkpoint_*"):
        path.unlink()
    path = first / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_text("".join([lines[0][:40] + "\n", *lines[1:]]))
    elif damage == "seeds of all":
        doubled = [line | {"validation_accuracy": [0.5, 0.5]} for line in map(json.loads, lines)]
        files.write_lines(path, doubled)
    else:
        lines[0] = (second / "metrics.jsonl").read_text().splitlines(keepends=True)[0]
        path.write_text("".join(lines))
    result = _merged([first, second], tmp_path / "out")
    assert result.returncode == 2 and not (tmp_path / "out").exists()
    assert re.search(r"seed_4/metrics\.jsonl lacks epochs of q_agrel|damaged", result.stderr)


def test_each_seed_is_of_the_commit_that_trained_it(seeds_apart, tmp_path):
    names = [name for name in APART if name != "together"]
    first, *later = _copied(seeds_apart, tmp_path, *names)
    for name in ("environments.jsonl", "summary.json"):
        content = _json(first / name)
        for entry in content.get("results", [content]):
            entry["commit"] = "fedcba9"
        (first / name).write_text(json.dumps(content) + "\n")
    out = tmp_path / "out"
    assert _merged([*later, first], out).returncode == 0  # in another order than that of the seeds
    assert export.best(out, "q_agrel", 4)[1]["commit"] == "fedcba9"
    assert export.best(out, "q_agrel", 5)[1]["commit"] != "fedcba9"
    began = run_folder.sessions_begun(out, "backprop")
    assert [session["commit"] == "fedcba9" for session in began] == [True, False]
    summary = _json(out / "summary.json")
    assert summary["command"] == began[0]["command"]
    assert {entry["commit"] for entry in summary["results"]} == {"fedcba9"}


def test_a_checkpoint_of_another_seed_is_refused(seeds_apart, tmp_path):
    parts = _copied(seeds_apart, tmp_path, "seed_4", "seed_5_q_agrel", "seed_5_backprop")
    shutil.copy(parts[0] / "checkpoint_q_agrel.msgpack", parts[1] / "checkpoint_q_agrel.msgpack")
    result = _merged(parts, tmp_path / "out")
    assert result.returncode == 2
    assert re.search(r"seed_5_q_agrel/checkpoint_q_agrel\.msgpack: rules is", result.stderr)


def test_a_seed_that_cannot_be_finished_says_why(seeds_apart, tmp_path):
    parts = _copied(seeds_apart, tmp_path, "seed_4", "seed_5_q_agrel", "seed_5_backprop")
    (parts[2] / "summary.json").unlink()
    (parts[2] / "failed.json").write_text('{"error": "backprop: seed 5 diverged"}')
    result = _merged(parts, tmp_path / "out")
    assert result.returncode == 2
    assert "seed_5_backprop cannot be finished" in result.stderr
    assert "backprop: seed 5 diverged" in result.stderr


def test_files_of_earlier_versions_are_merged(seeds_apart, tmp_path):
    """Without images in the lines of times, and without who stopped early in the summary."""
    parts = _copied(seeds_apart, tmp_path, "seed_4", "seed_5_q_agrel", "seed_5_backprop")
    summary = _json(parts[0] / "summary.json")
    for entry in summary["results"]:
        del entry["stopped_early"]
    (parts[0] / "summary.json").write_text(json.dumps(summary))
    for part in parts:
        lines = [json.loads(line) for line in (part / "timings.jsonl").read_text().splitlines()]
        for line in lines:
            del line["images"]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (part / "timings.jsonl").write_text(text)
    assert _merged(parts, tmp_path / "out").returncode == 0
    for entry in _json(tmp_path / "out" / "summary.json")["results"]:
        assert entry["seeds"] == [4, 5] and "stopped_early" not in entry


def test_joined_lines_by_hand():
    """Means over seeds count the seeds that were at work; a part that has ended adds nothing."""
    first = {
        "rule": "agrel",
        "epoch": 1,
        "step": 10,
        "test_accuracy": [0.5, 0.7, 0.6],
        "error": [1.0, 2.0, 3.0],
        "class_accuracy": [0.9, 0.3],
        "active_classes": [2, 2, 1],
        "angle": {"Dense_0": [10.0, 20.0, 30.0]},
    }
    other = first | {
        "test_accuracy": [0.1],
        "error": [4.0],
        "class_accuracy": [0.5, 0.7],
        "active_classes": [1],
        "angle": {"Dense_0": [40.0]},
    }
    later = other | {"epoch": 2, "step": 20, "test_accuracy": [0.2], "class_accuracy": [0.6, 0.8]}
    one, two = joined.lines([[first], [other, later]])
    assert one == first | {
        "test_accuracy": [0.5, 0.7, 0.6, 0.1],
        "error": [1.0, 2.0, 3.0, 4.0],
        "class_accuracy": [0.8, 0.4],
        "active_classes": [2, 2, 1, 1],
        "angle": {"Dense_0": [10.0, 20.0, 30.0, 40.0]},
    }
    assert two == one | {
        "epoch": 2,
        "step": 20,
        "test_accuracy": [None, None, None, 0.2],
        "error": [None, None, None, 4.0],
        "class_accuracy": [0.6, 0.8],
    }
    # What is told of a seed that has stopped is what was told last.
    ended = first | {"epoch": 2, "step": 20, "active_classes": [3, 2, 2]}
    *_, third = joined.lines([[first, ended], [other, later, later | {"epoch": 3}]])
    assert (third["epoch"], third["active_classes"]) == (3, [3, 2, 2, 1])


def test_joined_results_by_hand():
    first = {
        "rule": "agrel",
        "seeds": [4, 5],
        "test_accuracy": [0.5, 0.7],
        "best_epoch": [2, 3],
        "best_monitored_accuracy": [0.6, 0.8],
        "stopped_early": [True, False],
        "diverged_in_epoch": [None, 3],
        "epochs_to_criterion": [2, None],
        "train_seconds": 2.0,
        "epochs": 3,
    }
    other = first | {
        "seeds": [6],
        "test_accuracy": [0.1],
        "best_epoch": [5],
        "best_monitored_accuracy": [0.2],
        "diverged_in_epoch": [4],
        "epochs_to_criterion": [1],
        "train_seconds": 1.5,
        "epochs": 5,
    }
    del other["stopped_early"]
    assert joined.entry([first, other]) == {
        "rule": "agrel",
        "seeds": [4, 5, 6],
        "test_accuracy": [0.5, 0.7, 0.1],
        "best_epoch": [2, 3, 5],
        "best_monitored_accuracy": [0.6, 0.8, 0.2],
        "diverged_in_epoch": [None, 3, 4],
        "train_seconds": 3.5,
        "epochs": 5,
    }


def _of(**changed):
    return configs.replace(configs.load("digits"), {"seeds": 1, "first_seed": 0} | changed)


@pytest.mark.parametrize("which", [1, 2])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 7),
        ("learning_rate", 0.2),
        ("batch_size", 5),
        ("protocol", "paper"),
        ("hidden", (3,)),
    ],
)
def test_every_part_is_of_the_recipe_of_the_first(field, value, which, tmp_path):
    parts = {tmp_path / name: _of(rules=(name,)) for name in ("q_agrel", "backprop", "agrel")}
    folder = list(parts)[which]
    parts[folder] = configs.replace(parts[folder], {field: value})
    first = tmp_path / "q_agrel"
    with pytest.raises(UserError, match=f"^{first} and {folder} are not of one recipe: {field} "):
        merged(parts)


@pytest.mark.parametrize("lacking", [0, 1])
def test_every_seed_needs_every_rule(lacking, tmp_path):
    parts = {tmp_path / str(seed): _of(rules=RULES, first_seed=seed) for seed in (0, 1)}
    folder = tmp_path / str(lacking)
    parts[folder] = configs.replace(parts[folder], {"rules": ("q_agrel",)})
    with pytest.raises(UserError, match=f"^{folder}: no run with its seeds has backprop"):
        merged(parts)
