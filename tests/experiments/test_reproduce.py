"""``python -m experiments.reproduce``: its plan, and kills and budgets that change no result."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from experiments import config as configs
from experiments.common import files
from experiments.common.cli import UserError
from experiments.config import Config
from experiments.reproduce import __main__ as reproduce
from experiments.reproduce import plan as reproduce_plan
from experiments.reproduce import step_time, stored_times
from experiments.reproduce.plan import Work, duration
from experiments.train import __main__ as train
from experiments.train import folder as run_folder
from experiments.train import one_rule
from qagrel_jax import data

pytestmark = pytest.mark.usefixtures("folded_keys")

ROOT = Path(__file__).resolve().parents[2]
TINY = Config(
    name="tiny",
    dataset="digits",
    architecture="dense",
    hidden=(16,),
    batch_size=64,
    epochs=4,
    patience=4,
    seeds=2,
)
CONV = Config(
    name="tiny_conv",
    dataset="digits",
    architecture="conv",
    rules=("q_agrel",),
    batch_size=479,
    epochs=3,
    seeds=1,
)
FILES = ("metrics.jsonl", "checkpoint_q_agrel.msgpack", "checkpoint_backprop.msgpack")


def config_file(config, folder):
    path = folder / f"{config.name}.py"
    path.write_text(f"from experiments.config import Config\nconfig = {config!r}\n")
    return str(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The tiny cell, run without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    assert train.run(TINY, folder / "run") is not None
    return folder / "run"


def test_out_of_time_and_on_again_is_the_same_run(whole, tmp_path, monkeypatch):
    """A clock that jumps past the deadline at its n-th look stops the run in many places."""
    looks = count()
    # Of another machine, which did not come to an epoch.
    run_folder.claim(tmp_path / "run", TINY, resume=False)
    killed = {"device": "killed", "versions": {}, "commit": "0", "command": "begin"}
    files.append_line(tmp_path / "run" / "environments.jsonl", killed)

    def clock(jump):
        first = next(looks)
        return SimpleNamespace(
            monotonic=lambda: 0.0 if next(looks) - first < jump else float("inf"),
            perf_counter=time.perf_counter,
        )

    epochs = []
    for jump in (4, 8):
        monkeypatch.setattr(one_rule, "time", clock(jump))
        deadline = time.monotonic() + 1e6
        assert train.run(TINY, tmp_path / "run", resume=True, deadline=deadline) is None
        assert not (tmp_path / "run" / "summary.json").exists()
        assert (tmp_path / "run" / "learning_curves.png").is_file()
        lines = files.read_lines(tmp_path / "run" / "metrics.jsonl")
        epochs.append([(line["rule"], line["epoch"]) for line in lines])
    assert 0 < len(epochs[0]) < len(epochs[1]) < 8
    monkeypatch.setattr(one_rule, "time", time)
    content = train.run(TINY, tmp_path / "run", resume=True)
    for name in FILES:
        assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes(), name
    assert [s["device"] == "killed" for s in content["sessions"]] == [True, False, False, False]
    assert all(entry["device"] != "killed" for entry in content["results"])
    times = files.read_lines(tmp_path / "run" / "timings.jsonl")
    assert times[0]["session"] == 1 and times[-1]["session"] == 3
    expected = json.loads((whole / "summary.json").read_text())
    for ours, theirs in zip(content["results"], expected["results"], strict=True):
        for key in ("test_accuracy", "best_epoch", "epochs_to_criterion", "stopped_early"):
            assert ours[key] == theirs[key]


@pytest.mark.slow
def test_killed_and_called_again(tmp_path, monkeypatch):
    """SIGKILL in a cell of a convolutional net, then the same command: as if nothing had been."""
    arguments = f"--cells {config_file(CONV, tmp_path)} --protocol clean --out {tmp_path / 'cells'}"
    folder = tmp_path / "cells" / "tiny_conv" / "clean"
    command = [sys.executable, "-m", "experiments.reproduce", *arguments.split()]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        if files.read_lines(folder / "metrics.jsonl"):
            break
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "summary.json").exists()
    reproduce.main(arguments.split())
    assert (tmp_path / "cells" / "step_times.json").is_file()
    assert (folder / "summary.json").is_file()
    assert train.run(CONV, tmp_path / "whole") is not None
    for name in FILES[:2]:
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_what_is_done_is_left_alone_and_what_cannot_be_had_is_said(whole, tmp_path, capsys):
    out = tmp_path / "cells"
    (out / "tiny").mkdir(parents=True)
    whole.rename(out / "tiny" / "clean")
    try:
        before = {p: p.read_bytes() for p in (out / "tiny" / "clean").iterdir()}
        missing = configs.replace(TINY, {"name": "missing", "dataset": "nonesuch"})
        cells = f"{config_file(TINY, tmp_path)},{config_file(missing, tmp_path)}"
        arguments = f"--cells {cells} --protocol clean --out {out} --seeds 3 --data-dir {tmp_path}"
        reproduce.main(arguments.split())
        assert before == {p: p.read_bytes() for p in before}
    finally:
        (out / "tiny" / "clean").rename(whole)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["tiny", "clean", "2", "done"]
    assert lines[2].strip() == "has 2 seeds, not 3"
    assert lines[3].split() == ["missing", "clean", "3", "left", "out"]
    assert lines[4].strip().startswith("unknown data set 'nonesuch'")
    assert max(map(len, lines[:-1])) <= 80
    assert not (out / "missing").exists()


def test_a_cell_that_does_not_fit_its_share_does_not_start(tmp_path, monkeypatch, capsys):
    """60 s for three cells: what an epoch takes decides who can share them."""
    slow = Work(TINY, tmp_path / "slow", "to do", "", (0,), (4,), epoch_seconds=1000)
    quick = Work(TINY, tmp_path / "quick", "to do", "", (0, 0), (4, 4), epoch_seconds=40)
    shares = []

    def run(work, data_dir, deadline, mesh):
        shares.append(deadline - time.monotonic())
        return work._replace(state="done")

    monkeypatch.setattr(reproduce, "_run", run)
    works = reproduce._rounds([slow, quick, quick], None, time.monotonic() + 60)
    # The two quick ones need 80 s, so one gets all; that took no time here, so the other is next.
    assert [work.state for work in works] == ["to do", "done", "done"]
    assert shares == pytest.approx([60, 60], abs=30)
    assert (
        "no time for it now; to compile and an epoch of a rule take about 17 min"
        in capsys.readouterr().out
    )
    assert reproduce._fitting([slow, quick, quick], [0, 1, 2], 80) == [1, 2]
    assert reproduce._fitting([slow, quick, quick], [0, 1, 2], 39) == []


def test_seeds_that_do_not_divide_over_the_mesh_fail_alone(tmp_path, capsys):
    work = Work(TINY, tmp_path / "run", "to do")
    three = SimpleNamespace(shape={"seeds": 3, "batch": 1})
    assert reproduce._run(work, None, None, three).state == "failed"
    assert "--seeds 2 does not divide evenly over 3 devices" in capsys.readouterr().err
    assert not work.folder.exists()


def test_the_plan_says_once_which_data_are_not_here(tmp_path, capsys, monkeypatch):
    (tmp_path / "cifar10").mkdir()
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    own = config_file(dataclasses.replace(TINY, dataset="birds.npz"), tmp_path)
    cells = f"mnist_dense,mnist_conv,cifar10_conv,digits,{own}"
    arguments = ["--plan", "--cells", cells, "--out", str(tmp_path / "out")]
    reproduce.main([*arguments, "--data-dir", str(tmp_path)])
    text = capsys.readouterr().out
    assert " ".join(text.split()).count(f"Not in {tmp_path}: mnist. What") == 1
    reproduce.main(arguments)
    text = capsys.readouterr().out
    for line in text.splitlines():
        assert len(line) <= 80
    assert text.count("Not in") <= 1 and "not here" not in text


def test_the_plan(tmp_path):
    config = configs.load("mnist_conv")
    fresh = reproduce_plan.inspect(config, tmp_path / "a", seeds_asked=True)
    assert fresh.state == "to do" and fresh.epochs_left == (63, 63)  # as published
    # 63 epochs of 20 s and 30 s of compiling, twice.
    fresh = fresh._replace(epoch_seconds=20.0, compiling_seconds=30.0)
    assert fresh.seconds_left == 2580 and fresh.seconds_at_least == 50

    begun = tmp_path / "b"
    run_folder.claim(begun, config, resume=False)
    for rule, epochs in (("q_agrel", 70), ("backprop", 2)):
        for epoch in range(1, epochs + 1):
            accuracy = [min(epoch, 20) / 100] * 10  # the last gain is in epoch 20
            line = {"rule": rule, "epoch": epoch, "test_accuracy": accuracy}
            files.append_line(begun / "metrics.jsonl", line)
    work = reproduce_plan.inspect(config, begun, seeds_asked=True)
    assert work.state == "unfinished"
    assert work.epochs_done == (70, 2)
    assert work.epochs_left == (0, 61)  # q_agrel stopped in epoch 20 + 45 at the latest
    work = work._replace(epoch_seconds=20.0, compiling_seconds=30.0)
    text = reproduce_plan.text([fresh, work], budget=3600.0)
    assert "unfinished  21 min" in text
    assert "q_agrel 70 of 70 epochs; backprop 2 of 63 epochs" in text
    assert "In all about 64 min on cpu" in text and "the budget is 60 min." in text
    assert "150, for both rules alike" in text.replace("\n", " ")  # what it assumes

    clean = configs.replace(config, {"protocol": "clean"})
    absent = [Work(c, tmp_path, "left out", "no data") for c in (config, clean)]
    _, line, note, *_ = reproduce_plan.text(absent, None).splitlines()
    assert line.split() == ["mnist_conv", "paper,", "clean", "10", "left", "out"]
    assert note.strip() == "no data"

    other = configs.replace(config, {"learning_rate": 0.5})
    assert reproduce_plan.inspect(other, begun, True).note.startswith(
        "was run with another learning"
    )
    (begun / "failed.json").write_text('{"error": "seed 0 diverged"}')
    assert reproduce_plan.inspect(config, begun, True).state == "failed"
    told = {rule: f"{rule}: seed 0 diverged" for rule in config.rules}
    run_folder.write_failures(begun, {"q_agrel": told["q_agrel"]})
    work = reproduce_plan.inspect(config, begun, True)
    assert (work.state, work.epochs_left, work.note) == ("unfinished", (0, 61), told["q_agrel"])
    run_folder.write_failures(begun, {"backprop": told["backprop"]})  # q_agrel has stopped
    assert reproduce_plan.inspect(config, begun, True).state == "failed"
    run_folder.write_failures(begun, told)
    assert reproduce_plan.inspect(config, begun, True).state == "failed"


@pytest.mark.parametrize(("min_gain", "last"), [(0.0, 4), (0.15, 3)])
def test_a_rule_goes_on_while_one_of_its_seeds_may(min_gain, last):
    """The first seed has stopped; the second one's last gain counts, if it is a gain."""
    config = configs.replace(configs.load("mnist_conv"), {"patience": 5, "min_gain": min_gain})
    curves = np.array([[0.1, 0.1], [0.2, 0.1], [0.2, 0.3], [np.nan, 0.4]])
    assert reproduce_plan._earliest_stop(curves, config) == last + 5


def test_a_rule_that_diverged_does_not_stop_the_other(tmp_path, monkeypatch, capsys):
    def out_of_time(folder, config, rule, *rest):
        if rule == "q_agrel":
            raise one_rule.Diverged("q_agrel: seed 1 diverged")

    monkeypatch.setattr(one_rule, "run_rule", out_of_time)
    work = reproduce._run(Work(TINY, tmp_path / "run", "to do"), None, time.monotonic() + 1e6)
    assert (work.state, work.epochs_left[0]) == ("unfinished", 0)
    assert work.note == "q_agrel: seed 1 diverged"
    assert "error: q_agrel: seed 1 diverged" in capsys.readouterr().err

    def both(folder, config, rule, *rest):
        raise one_rule.Diverged(f"{rule}: seed 1 diverged")

    monkeypatch.setattr(one_rule, "run_rule", both)
    assert reproduce._run(work, None, time.monotonic() + 1e6).state == "failed"
    assert reproduce_plan.inspect(TINY, tmp_path / "run", True).state == "failed"


def test_stored_times_by_hand(tmp_path):
    """A benchmark's image takes 1/500 s; the cell's own epochs 2 s for 1,000 images of 4 seeds."""
    benchmark = {
        "device": "a cpu",
        "cells": {
            "dense": {
                "architecture": "dense",
                "image_shape": [28, 28, 1],
                "subjects": {"q_agrel": {"images_per_second": 500.0}},
            },
            "deep": {
                "architecture": "deep",
                "image_shape": [32, 32, 3],
                "subjects": {"q_agrel": {"images_per_second": 100.0}},
            },
        },
    }
    (tmp_path / "benchmark").mkdir()
    (tmp_path / "benchmark" / "benchmark.json").write_text(json.dumps(benchmark))
    cell = tmp_path / "cells" / "mnist_dense" / "paper"
    config = configs.load("mnist_dense")
    run_folder.claim(cell, config, resume=False)
    known = {"device": "that cpu", "versions": {}, "commit": None, "command": "x"}
    files.append_line(cell / "environments.jsonl", known)
    for seconds in (9.0, 2.0, 2.0):  # the first compiled
        line = {"rule": "q_agrel", "epoch": 1, "seconds": seconds, "images": 1000}
        files.append_line(cell / "timings.jsonl", line)
    stored = stored_times.read(tmp_path)
    assert stored == {
        ("dense", 28): stored_times.Stored("that cpu", 0.002),
        ("deep", 32): stored_times.Stored("a cpu", 0.01),
    }

    def epoch(name, **changes):
        return stored_times.epoch(configs.replace(configs.load(name), changes), stored)

    assert epoch("mnist_dense", seeds=2)[0] == pytest.approx(60_000 * 2 * 0.002)
    assert epoch("mnist_dense", seeds=2, protocol="clean")[0] == pytest.approx(54_000 * 2 * 0.002)
    assert epoch("cifar100_deep", seeds=1)[0] == pytest.approx(50_000 * 0.01)  # as CIFAR-10's
    assert epoch("tiny_imagenet_deep", seeds=1)[0] == pytest.approx(100_000 * 0.01 * 4)  # 64 x 64
    assert epoch("mnist_conv") is None and epoch("digits") is None
    assert epoch("mnist_dense", hidden=(8,)) is None


def test_the_whole_matrix_by_hand():
    """Both rules, ten seeds, both protocols: 60,000 + 54,000 images of MNIST, 95,000 of others."""
    dense, conv = (stored_times.Stored("abacus", seconds) for seconds in (5e-4, 1e-3))
    text = reproduce_plan.whole_matrix({("dense", 28): dense, ("conv", 28): conv})
    told = " ".join(text.split())
    # MNIST, dense: 2 · 150 · 1,140,000 · .0005 s; convolutional, published with 63 epochs:
    # 2 · 63 · 1,140 s; on three sets of 32 × 32 pixels 2 · 150 · 950 · (32/28)² s each.
    total = 171_000 + 143_640 + 3 * 285_000 * (32 / 28) ** 2
    assert f"takes about {total / 86_400:.1f} days from nothing, on abacus" in told
    assert "of which cifar10_conv alone 4.3 days" in told
    # With one seed of the papers' protocol 7,560 s; 9,000 s more are too much for four hours.
    assert "could buy one seed, about 2.1 h" in told and told.endswith("--cells mnist_conv")


def test_seconds_of_the_epochs_done_here(tmp_path, monkeypatch):
    """The median of three or more, if it was this device that did the last ones."""
    monkeypatch.setattr(reproduce_plan.provenance, "device", lambda: "this cpu")
    session = {"device": "this cpu", "versions": {}, "commit": None, "command": "x"}
    files.append_line(tmp_path / "environments.jsonl", session)
    found = []
    for epoch, seconds in enumerate((9.0, 2.0, 2.0), 1):
        line = {"rule": "q_agrel", "epoch": epoch, "seconds": seconds}
        files.append_line(tmp_path / "timings.jsonl", line)
        found.append(reproduce_plan._seconds_so_far(tmp_path))
    assert found == [None, None, 2.0]
    files.append_line(tmp_path / "environments.jsonl", session | {"device": "another"})
    assert reproduce_plan._seconds_so_far(tmp_path) is None


def test_steps_of_one_seed_are_timed_and_counted_for_each(monkeypatch):
    """On a CPU. Three steps a call; the first of three calls compiles."""
    clock, took = [0.0], iter((30.0, 6.0, 3.0))
    monkeypatch.setattr(step_time.time, "perf_counter", lambda: clock[0])
    config = configs.replace(configs.load("digits"), {"seeds": 10, "batch_size": 4})

    def run_steps(states, active, images, labels, order):
        assert (active.shape, order.shape) == ((1,), (1, step_time.STEPS, 4))
        clock[0] += next(took)
        return states, None

    trainer = SimpleNamespace(init=lambda keys: np.zeros(1), run_steps=run_steps)
    monkeypatch.setattr(step_time.build, "make_trainer", lambda *_: trainer)
    few = data.Dataset("x", "1", *[np.zeros((5, 2, 2, 1), np.uint8), np.zeros(5, np.int32)] * 2, 2)
    assert step_time.measure(config, few) == (10.0, 27.0)


def test_every_cell_of_the_papers_has_a_stored_time():
    stored = stored_times.read()
    for name in reproduce.CELLS:
        seconds, device = stored_times.epoch(configs.load(name), stored)
        assert seconds > 0 and device


def test_another_process_in_the_folder_is_code_2(tmp_path, capsys):
    from experiments.common import cli, folders

    arguments = ["--cells", config_file(TINY, tmp_path), "--out", str(tmp_path / "cells")]
    with folders.locked(tmp_path / "cells"), pytest.raises(SystemExit) as stop:
        cli.run(reproduce.main, arguments)
    assert stop.value.code == 2
    assert "another process is at work in" in capsys.readouterr().err
    # A cell alone: the others are run, then the code says so.
    work = Work(TINY, tmp_path / "run", "to do")
    with folders.locked(work.folder):
        refused = reproduce._run(work, None, None)
    with pytest.raises(SystemExit) as stop:
        reproduce._tell([refused], tmp_path / "mine")
    assert stop.value.code == 2
    assert reproduce._tables(Path("runs/cells")).endswith("experiments.report --results runs")
    assert "rename mine to cells, then python -m" in reproduce._tables(Path("mine"))


def test_pictures_that_a_kill_left_undrawn_are_drawn(whole, tmp_path):
    folder = tmp_path / "cells" / "tiny" / "clean"
    shutil.copytree(whole, folder)
    (folder / "learning_curves.png").unlink()
    cells = config_file(TINY, tmp_path)
    command = ["--cells", cells, "--protocol", "clean", "--out", str(tmp_path / "cells")]
    reproduce.main([*command, "--plan"])
    assert not (folder / "learning_curves.png").exists()
    reproduce.main(command)
    assert (folder / "learning_curves.png").read_bytes().startswith(b"\x89PNG")


def test_durations():
    said = [duration(s) for s in (40, 90, 5399, 5400, 172_799, 172_800)]
    assert said == ["40 s", "2 min", "90 min", "1.5 h", "48.0 h", "2.0 days"]


def test_unknown_cells_are_one_line(tmp_path, capsys):
    from experiments.common import cli

    with pytest.raises(SystemExit) as stop:
        cli.run(reproduce.main, ["--cells", "nonesuch", "--out", str(tmp_path / "out")])
    assert stop.value.code == 2
    assert "unknown config 'nonesuch'; valid: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["config.json", "paper.txt"])
def test_other_files_are_no_place_for_cells(name, tmp_path):
    (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match="holds another run or other files"):
        reproduce.main(["--cells", "digits", "--plan", "--out", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == [name]
