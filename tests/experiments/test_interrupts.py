"""Ctrl-C and SIGTERM: one line, the code a shell expects, what was learned saved."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from flax.serialization import msgpack_restore

from experiments.common import files, interrupts, progress
from experiments.train import folder as run_folder
from experiments.working_memory import run as memory_run
from qagrel_jax.training import checkpoints

ROOT = Path(__file__).resolve().parents[2]
# ``python -m``, but with a line of progress each second, and with SIGINT also in the background.
CODE = """
import runpy, signal, sys
from experiments.common import progress
signal.signal(signal.SIGINT, signal.default_int_handler)
progress.SECONDS_BETWEEN_LINES = 1
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""
COMMANDS = {
    "agrel": ("xor --networks 300 --max-trials 100000000", signal.SIGTERM),
    "controls": ("baselines --seeds 5", signal.SIGINT),
    "working_memory": ("saccade --checkpoint-seconds 1e9", signal.SIGTERM),
    "train": ("--batch-size 2 --hidden 256", signal.SIGINT),
}
SAID = {
    "agrel": "interrupted; nothing was written",
    **{
        name: f"interrupted; to resume: python -m experiments.{name} --resume --out {{}}"
        for name in ("controls", "working_memory", "train")
    },
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """Every command, started together, interrupted while JAX computes: (code, stderr, folder)."""
    root, running = tmp_path_factory.mktemp("interrupted"), {}
    for name, (arguments, _) in COMMANDS.items():
        command = [sys.executable, "-c", CODE, f"experiments.{name}", *arguments.split()]
        command += ["--out", str(root / name)]
        with (root / f"{name}.err").open("w") as log:
            running[name] = subprocess.Popen(
                command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=log
            )
    try:
        _interrupt(root, running)
        return {
            name: (process.wait(150), (root / f"{name}.err").read_text(), root / name)
            for name, process in running.items()
        }
    finally:
        for process in running.values():
            process.kill()
            process.wait()


def _epochs(folder):
    return files.read_lines(folder / "metrics.jsonl")


def _interrupt(root, running):
    """Signal each command once it computes, and the training once it has something to lose."""
    deadline = time.monotonic() + 200
    waiting = dict(running)
    while waiting and time.monotonic() < deadline:
        for name in list(waiting):
            # The second line comes when it has compiled and computed for a second, at the most.
            lines = (root / f"{name}.err").read_text().splitlines()
            computes = len(lines) > 1 and (name != "train" or _epochs(root / name))
            if computes or waiting[name].poll() is not None:
                waiting.pop(name).send_signal(COMMANDS[name][1])
        time.sleep(0.05)


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
@pytest.mark.parametrize("name", COMMANDS)
def test_one_line_and_a_clean_exit(ended, name):
    code, errors, folder = ended[name]
    assert code == 128 + COMMANDS[name][1], errors
    assert errors.splitlines()[-1] == SAID[name].format(folder)
    assert "Traceback" not in errors and "Fatal" not in errors


def test_what_was_learned_is_saved_and_nothing_else_left(ended):
    assert not ended["agrel"][2].exists()
    assert (ended["working_memory"][2] / memory_run.CHECKPOINT).is_file()
    folder = ended["train"][2]
    assert (folder / "config.json").is_file() and not (folder / "summary.json").exists()
    epochs = [line["epoch"] for line in _epochs(folder)]
    assert epochs == list(range(1, len(epochs) + 1)) and epochs
    checkpoint, about = checkpoints.read(run_folder.checkpoint(folder, "q_agrel"))
    assert 1 <= msgpack_restore(checkpoint)["epoch"] <= len(epochs)
    assert about["rule"] == "q_agrel"


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
@pytest.mark.parametrize("number", interrupts.SIGNALS)
def test_one_line_also_while_a_command_is_imported(number, tmp_path):
    imported = f"import os\nos.kill(os.getpid(), {int(number)})\n"
    (tmp_path / "rich.py").write_text(imported)  # in place of the package
    before = signal.signal(number, signal.default_int_handler)  # a child inherits what is ignored
    try:
        process = subprocess.run(
            [sys.executable, "-m", "experiments.train", "--help"],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))},
            cwd=ROOT,
        )
    finally:
        signal.signal(number, before)
    assert (process.returncode, process.stdout) == (128 + number, "")
    assert process.stderr == "interrupted\n"


def test_a_signal_waits_for_what_must_be_whole():
    with interrupts.caught(), pytest.raises(interrupts.Terminated), interrupts.held_back():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        done = True
    assert done
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_signal_waits_for_the_end_of_the_outer_block():
    whole = False
    with interrupts.caught(), pytest.raises(interrupts.Terminated), interrupts.held_back():
        with interrupts.held_back():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
        interrupts.check()
        whole = True
    assert whole


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
@pytest.mark.parametrize("second", interrupts.SIGNALS)
def test_a_second_signal_ends_the_process_at_once(second):
    code = f"""
import os, signal, time
from experiments.common import interrupts
signal.signal(signal.SIGINT, signal.default_int_handler)
with interrupts.caught(), interrupts.held_back():
    for number in (signal.SIGTERM, {int(second)}):
        os.kill(os.getpid(), number)
        time.sleep(0.1)
    os._exit(7)
"""
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True)
    assert process.returncode == 128 + second and not process.stderr


def test_a_signal_that_a_callback_swallowed_is_not_lost():
    with interrupts.caught(), progress.Reporter("work", 2) as reporter:
        with contextlib.suppress(KeyboardInterrupt):  # as Python does in a finalizer
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
        with pytest.raises(interrupts.Terminated):
            reporter.update(1, "going on")


def test_nothing_is_printed_of_a_signal_in_a_finalizer(capsys):
    class Object:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)

    with interrupts.caught():
        Object()
        with pytest.raises(interrupts.Terminated):
            interrupts.check()
    assert capsys.readouterr().err == ""


def test_an_ignored_signal_stays_ignored():
    """A job in the background of a script is started with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts.caught():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", interrupts.SIGNALS)
def test_an_ignored_signal_stays_ignored_while_a_command_is_imported(number):
    before = {each: signal.getsignal(each) for each in interrupts.SIGNALS}
    try:
        for each in interrupts.SIGNALS:  # a shell may have ignored one for this process
            signal.signal(each, signal.SIG_IGN if each == number else signal.SIG_DFL)
        interrupts.end_at_once()
        for each in interrupts.SIGNALS:
            assert (signal.getsignal(each) == signal.SIG_IGN) == (each == number)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def test_codes():
    assert interrupts.exit_code(KeyboardInterrupt()) == 130
    assert interrupts.exit_code(interrupts.Terminated()) == 143
