"""Files of a run that were damaged, edited or lost: one line, or made anew; never trained on."""

import json
import shutil

import flax.serialization
import numpy as np
import pytest

from experiments import config as configs
from experiments.common import cli, files
from experiments.config import Config
from experiments.train import __main__ as train
from qagrel_jax.training import checkpoints

pytestmark = pytest.mark.usefixtures("folded_keys")

TINY = Config("tiny", "digits", "dense", hidden=(8,), batch_size=128, epochs=2, patience=2, seeds=1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged") / "run"
    assert train.run(TINY, folder) is not None
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of the finished run."""
    return shutil.copytree(finished, tmp_path / "run")


def flip(path, place=0.7):
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 0x10
    path.write_bytes(content)


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def older(path, **changes):
    """Write the checkpoint as older versions did, with no checksum, and with ``changes``."""
    state = flax.serialization.msgpack_restore(checkpoints.read(path)[0])
    path.write_bytes(flax.serialization.msgpack_serialize(state | changes))


UNFINISHED = {
    "a changed byte": (lambda f: flip(f / "checkpoint_q_agrel.msgpack"), "msgpack: damaged"),
    "its first byte": (lambda f: flip(f / "checkpoint_q_agrel.msgpack", 0), "msgpack: damaged"),
    "cut off": (
        lambda f: (f / "checkpoint_q_agrel.msgpack").write_bytes(b"qagrel_jax"),
        "msgpack: damaged",
    ),
    "the other rule's": (
        lambda f: shutil.copy(f / "checkpoint_backprop.msgpack", f / "checkpoint_q_agrel.msgpack"),
        "rule is 'backprop' there, 'q_agrel' here",
    ),
    "an epoch of -1": (
        lambda f: older(f / "checkpoint_q_agrel.msgpack", epoch=np.int32(-1)),
        "damaged: epoch is -1",
    ),
    "an edited learning rate": (
        lambda f: edit(f / "config.json", learning_rate=0.2),
        "learning_rate is 0.1 there, 0.2 here",
    ),
    "a list for a config": (lambda f: (f / "config.json").write_text("[]"), "not a mapping"),
    "a text for a number": (
        lambda f: edit(f / "config.json", seeds="1"),
        "--seeds must be a whole number, got '1'",
    ),
    "metrics that are no UTF-8": (
        lambda f: flip_line(f, b"\xff\xfe"),
        "metrics.jsonl lacks epochs",
    ),
    "a number in the metrics": (lambda f: flip_line(f, b"17"), "metrics.jsonl lacks epochs"),
    "metrics without an accuracy": (
        lambda f: flip_line(f, b'{"rule": "q_agrel", "epoch": 1}'),
        "metrics.jsonl lacks epochs",
    ),
    "metrics of other seeds": (
        lambda f: (f / "metrics.jsonl").write_text(
            (f / "metrics.jsonl")
            .read_text()
            .replace('"validation_accuracy": [', '"validation_accuracy": [0.5, ')
        ),
        "metrics.jsonl lacks epochs",
    ),
}


def flip_line(folder, line):
    path = folder / "metrics.jsonl"
    path.write_bytes(b"\n".join([line, *path.read_bytes().splitlines()[1:]]) + b"\n")


def resumed(folder, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.run(train.main, ["--resume", "--out", str(folder)])
    assert stop.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("damage", UNFINISHED)
def test_a_damaged_run_does_not_go_on(folder, capsys, damage):
    (folder / "summary.json").unlink()  # it had not come to its end
    act, says = UNFINISHED[damage]
    act(folder)
    before = {path: path.read_bytes() for path in folder.glob("c*")}
    assert says in resumed(folder, capsys)
    assert before == {path: path.read_bytes() for path in folder.glob("c*")}


@pytest.mark.parametrize(
    "damage", ["a changed byte", "cut off", "the other rule's", "a number in the metrics"]
)
def test_a_finished_run_that_cannot_be_continued_stays_finished(folder, capsys, damage):
    act, says = UNFINISHED[damage]
    act(folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(SystemExit):
        cli.run(train.main, ["--resume", "--epochs", "3", "--out", str(folder)])
    assert says.replace("rule is 'backprop' there, 'q_agrel' here", "is of the rule") in (
        capsys.readouterr().err
    )
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda f: edit(f / "config.json", learning_rate=0.2), "learning_rate 0.1 there, 0.2 here"),
        (lambda f: (f / "summary.json").write_text("{}"), "summary.json is damaged"),
        (lambda f: (f / "summary.json").write_text("3"), "not a mapping"),
        (lambda f: (f / "summary.json").write_bytes(b"\xff"), "cannot read"),
    ],
)
def test_a_damaged_end_is_not_called_done(folder, capsys, act, says):
    act(folder)
    assert says in resumed(folder, capsys)


def test_pictures_that_a_kill_left_undrawn_are_drawn(folder, capsys):
    pictures = ["learning_curves.png", "class_discovery.png"]
    for name in pictures:
        (folder / name).unlink()
    before = {path: path.read_bytes() for path in folder.iterdir() if path.name[0] != "."}
    train.main(["--resume", "--out", str(folder)])
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    assert before.items() <= {p: p.read_bytes() for p in folder.iterdir()}.items()


def test_damaged_lines_of_times_and_sessions_do_not_end_a_run(folder):
    (folder / "summary.json").unlink()
    for name in ("timings.jsonl", "environments.jsonl"):
        (folder / name).write_bytes(b"17\n\xff\n{}\n" + (folder / name).read_bytes())
    assert train.run(TINY, folder, resume=True)["results"][0]["images_per_second"] > 0


def test_an_older_checkpoint_goes_on(folder, finished):
    (folder / "summary.json").unlink()
    for rule in TINY.rules:
        older(folder / f"checkpoint_{rule}.msgpack")
    longer = configs.replace(TINY, {"epochs": 3})
    assert train.run(longer, folder, resume=True) is not None
    assert len(files.read_metrics(folder)) == 6
    was = (finished / "metrics.jsonl").read_text().splitlines()
    assert set(was) < set((folder / "metrics.jsonl").read_text().splitlines())


def test_the_name_is_no_difference(folder):
    """What was begun before runs on other images were named after them goes on."""
    edit(folder / "config.json", name="another")
    train.main(["--resume", "--out", str(folder)])
