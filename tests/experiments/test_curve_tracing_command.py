"""``python -m experiments.curve_tracing``: what it writes, resuming, a line for every mistake."""

import functools
import itertools
import json
import shutil
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common.cli import UserError
from experiments.curve_tracing import __main__ as command
from experiments.curve_tracing import config as curve_config
from experiments.curve_tracing import learners, trained
from experiments.curve_tracing import run as curve_run
from experiments.curve_tracing import summary as curve_summary
from experiments.curve_tracing.config import CurveConfig
from experiments.curve_tracing.learners import FrozenTest
from qagrel_jax import recurrent, rules
from qagrel_jax.policies import make_policy
from qagrel_jax.random_keys import root_key
from qagrel_jax.tasks import curve_tracing

SMALL_CONFIG = {"networks": 2, "grid": 6, "max_length": 3, "max_trials": 90, "test_every": 30}
SMALL_CONFIG |= {"test_trials": 4, "steps": 6, "sweeps": 2}
SMALL = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL_CONFIG.items()]


def refused(capsys, *arguments):
    """The one line on stderr of a command that ends with code 2."""
    with pytest.raises(SystemExit) as stop:
        command.cli.run(command.main, list(map(str, arguments)))
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    return message


def _tests(folder):
    lines = [json.loads(line) for line in (folder / "tests.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def test_rates_of_shared_weights_are_refused_without_them(capsys):
    for name in ("neighbor-rate", "output-rate"):
        says = refused(capsys, "--unshared", f"--{name}", "0.5")
        assert f"--{name} does nothing with --unshared" in says


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("curves") / "run"
    command.main([*SMALL, "--out", str(folder)])
    return folder, json.loads((folder / "summary.json").read_text())


def test_writes_summary_and_pictures(finished):
    folder, summary = finished
    assert {"device", "versions", "commit", "command", "seconds", "trials"} <= set(summary)
    assert summary["networks"] == 2
    assert list(summary["accuracy"]) == ["3", "4", "5", "6", "7"]
    assert list(summary["trials_by_length"]) == ["2", "3"]
    for apart, of_apart in zip(summary["apart"]["3"], summary["accuracy_apart"]["3"], strict=True):
        assert 0 <= apart <= 1 and (of_apart is None if apart == 0 else 0 <= of_apart <= 1)
    tests = _tests(folder)
    assert [line["trials"] for line in tests] == [30, 60, 90][: len(tests)]
    assert summary["training_trials_of_all_networks"] == 30 * sum(
        sum(line["learning"]) for line in tests
    )
    for name in ("learning.png", "generalization.png", "activity.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_a_notebook_reads_the_networks(finished):
    folder, summary = finished
    before = {p: p.read_bytes() for p in folder.iterdir()}
    run = trained.load(str(folder))
    assert {p: p.read_bytes() for p in folder.iterdir()} == before
    assert run.config == CurveConfig(**SMALL_CONFIG) and run.trials == 90
    assert run.lengths.shape == run.done.shape == (2,)
    # The test of the longest trained curves, once more.
    length = SMALL_CONFIG["max_length"]
    number = SMALL_CONFIG["max_trials"] + length
    tested = run.functions.test(run.variables, number, np.full(2, length))
    np.testing.assert_allclose(tested.accuracy, summary["accuracy"][str(length)])
    first = jax.tree.map(lambda leaf: leaf[0], run.variables)
    _, image, states = run.functions.record(first, jax.random.key(0), length)
    assert image.shape[:2] == states.modulated_input.shape[1:3] == (6, 6)


def test_curves_longer_than_can_be_drawn_are_refused(finished):
    """They were cut short, and no network could trace them."""
    run = trained.load(finished[0], longest=4)
    first = jax.tree.map(lambda leaf: leaf[0], run.variables)
    for length in (1, 5):
        says = f"curves must be 2 to 4 pixels long, got {length}"
        with pytest.raises(ValueError, match=says):
            run.functions.record(first, jax.random.key(0), length)
        with pytest.raises(ValueError, match=says):
            run.functions.test(run.variables, 0, np.array([2, length]))
        with pytest.raises(ValueError, match=says):
            run.functions.learn(run.variables, 0, np.array([length, 2]), np.ones(2, bool))
    for longest in (1, 8):
        says = rf"longest must be in \[3, 7\] pixels, got {longest}"
        with pytest.raises(UserError, match=says):
            trained.load(finished[0], longest=longest)


def test_a_notebook_is_told_what_is_not_there(finished, tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        trained.load(tmp_path)
    folder = shutil.copytree(finished[0], tmp_path / "run")
    (folder / curve_run.CHECKPOINT).unlink()
    with pytest.raises(UserError, match=r"has no checkpoint\.npz, which a run writes"):
        trained.load(folder)
    (folder / curve_run.CHECKPOINT).write_bytes(b"PK")
    with pytest.raises(UserError, match="damaged"):
        trained.load(folder)
    (folder / "config.json").write_text('{"task": "saccade"}')
    with pytest.raises(UserError, match="is no curve-tracing run"):
        trained.load(folder)


def test_a_trial_moves_the_weights_of_those_that_learn_as_the_rule_says_and_no_others():
    """Trial 5 of eight networks, every other one of which has finished."""
    config = CurveConfig(
        networks=8,
        seed=3,
        grid=5,
        max_length=3,
        max_trials=1,
        test_every=1,
        learning_rate=0.3,
        neighbor_rate=0.5,
        output_rate=0.2,
        exploration=0.4,
        reward=2.0,
        clip=0.1,
        steps=6,
        sweeps=3,
        tolerance=1e-3,
    )
    network = recurrent.GridNet()
    rule = rules.relearnn(
        make_policy("max_boltzmann", epsilon=0.4),
        steps=6,
        sweeps=3,
        tolerance=1e-3,
        clip=0.1,
        scale=functools.partial(recurrent.relative_rates, network, neighbors=0.5, outputs=0.2),
    )

    def by_hand(number, variables, length):
        draw, choose = jax.random.split(
            jax.random.fold_in(jax.random.fold_in(root_key(3), number), 5)
        )
        task = curve_tracing.Params(5, 5, jnp.minimum(length, 3), length)
        trial, image = curve_tracing.reset(draw, task)
        functions = recurrent.as_recurrent(network)
        decision = rule.act(choose, functions, variables["params"], image[None])
        correct = decision.action == trial.target[length - 1]
        return correct[0], rule.update(decision, 2.0 * correct)[0]

    functions, learning = learners.make(config), np.array([True, False] * 4)
    variables, lengths = functions.init(), np.array([2, 2, 2, 2, 3, 3, 4, 4])
    correct, grads = jax.jit(jax.vmap(by_hand))(jnp.arange(8), variables, lengths)
    after, figures = functions.learn(variables, 5, lengths, learning)
    np.testing.assert_array_equal(figures.correct, correct)
    assert set(np.asarray(correct[learning]).tolist()) == {False, True}

    def check(before, now, gradient):
        np.testing.assert_array_equal(now[~learning], before[~learning])
        assert (now[learning] != before[learning]).any()
        expected = before - np.float32(0.3) * gradient
        np.testing.assert_allclose(now[learning], expected[learning], rtol=1e-5, atol=1e-6)

    jax.tree.map(check, *jax.device_get((variables["params"], after["params"], grads)))


def test_a_frozen_test_takes_the_best_action_whatever_the_exploration():
    """One network values the blue pixel alone, the other the red one."""
    functions = learners.make(CurveConfig(**SMALL_CONFIG, exploration=1.0))
    params = jax.tree.map(np.zeros_like, jax.device_get(functions.init()["params"]))
    params["to_modulated_input"]["kernel"][:, 0] = 1  # from the bias: X^m is X
    of_color = params["to_output"]["kernel"][:, -len(curve_tracing.COLORS) :, 0]
    of_color[[0, 1], [curve_tracing.BLUE, curve_tracing.RED]] = 1
    tested = functions.test({"params": params}, 30, np.array([2, 2]))
    assert [np.asarray(x).tolist() for x in tested] == [[1, 0], [1, 1], [1, 0]]


def test_curves_become_longer_and_networks_finish_by_their_own_accuracy(tmp_path, monkeypatch):
    config = CurveConfig(
        networks=3, max_length=4, max_trials=600, test_every=100, accuracy=0.8, final_accuracy=0.9
    )
    accuracies = [[0.8, 0.79, 1], [0.85, 0.8, 0.5], [0.89, 1, 0.8], [0.9, 0.85, 1], [0, 0.9, 0]]
    learned, tested, lines, turns = [], [], [], []

    def learn(variables, first, lengths, learning):
        learned.append((first, lengths.tolist(), learning.tolist()))
        return variables + 1, learners.Trials(*4 * [np.zeros(3)])

    def test(variables, number, lengths):
        tested.append((variables, number, lengths.tolist()))
        return FrozenTest(np.float32(accuracies[len(tested) - 1]), None, None)

    def save(folder, config, state, line):
        del folder, config
        lines.append((line["trials"], line["length"], line["learning"]))
        turns.append((state["lengths"].tolist(), state["done"].tolist()))

    monkeypatch.setattr(curve_run, "_save", save)
    clock = SimpleNamespace(perf_counter=itertools.count().__next__)
    monkeypatch.setattr(curve_run, "time", clock)  # what is faked takes no time
    state = {"trials": 0, "variables": 0, "lengths": np.full(3, 2), "done": np.zeros(3, bool)}
    functions = learners.Learners(None, learn, test, None)
    curve_run._train(config, tmp_path, functions, state)
    lengths = [[2, 2, 2], [3, 2, 3], [4, 3, 3], [4, 4, 4], [4, 4, 4]]
    learning = [[True] * 3] * 4 + [[False, True, False]]
    assert learned == list(zip(range(0, 500, 100), lengths, learning, strict=True))
    assert tested == list(zip(range(1, 6), range(100, 600, 100), lengths, strict=True))
    assert lines == list(zip(range(100, 600, 100), lengths, learning, strict=True))
    assert [now for now, _ in turns] == [*lengths[1:], [4, 4, 4]]
    assert [done for _, done in turns] == [[False] * 3] * 3 + [[True, False, True], [True] * 3]


def test_an_interrupted_run_ends_as_if_it_had_not_been(finished, tmp_path, monkeypatch):
    folder, summary = finished
    other = tmp_path / "run"
    save = curve_run._save

    def interrupt(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(curve_run, "_save", interrupt)
    with pytest.raises(KeyboardInterrupt, match=f"--resume --out {other}"):
        command.main([*SMALL, "--out", str(other)])
    # A line whose checkpoint a kill prevented is thrown away.
    with (other / "tests.jsonl").open("a") as file:
        file.write(json.dumps(_tests(other)[0] | {"trials": 60, "seconds": 1}) + "\n")
    monkeypatch.setattr(curve_run, "_save", save)
    command.main(["--resume", "--out", str(other)])
    assert _tests(other) == _tests(folder)
    again = json.loads((other / "summary.json").read_text())
    assert again["accuracy"] == summary["accuracy"]
    with np.load(folder / "checkpoint.npz") as a, np.load(other / "checkpoint.npz") as b:
        assert all(np.array_equal(a[name], b[name]) for name in a.files)


def test_a_run_that_cannot_write_keeps_what_it_has(finished, tmp_path, monkeypatch):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    tests = folder / "tests.jsonl"
    whole = tests.read_bytes()
    tests.write_bytes(whole + b'{"trials": 120, "cut')  # a line to be dropped

    def full(*_):
        raise OSError(28, "no space left on device")

    for module in ("files.write_bytes", "files.append_line"):
        with monkeypatch.context() as patch:
            patch.setattr(f"experiments.common.{module}", full)
            with pytest.raises(UserError, match="no space left"):
                command.main(["--resume", "--out", str(folder)])
        assert tests.read_bytes().startswith(whole)
    command.main(["--resume", "--out", str(folder)])
    assert tests.read_bytes() == whole


def test_a_finished_run_is_resumed_as_it_was_and_not_as_another(finished, capsys):
    folder, _ = finished
    assert "add --resume" in refused(capsys, *SMALL, "--out", folder)
    message = refused(capsys, "--resume", "--out", folder, "--seed", 5)
    assert "seed 0 there, 5 here" in message
    assert "holds files that are no run" in refused(capsys, "--out", folder.parent)
    assert "--resume needs --out" in refused(capsys, "--resume")


def test_the_options_that_the_command_repeats_are_the_librarys():
    config = CurveConfig()
    assert config.neighbor_rate == recurrent.NEIGHBOR_RATE
    assert config.output_rate == recurrent.OUTPUT_RATE
    for grid, apart in itertools.product((5, 15, 36), (False, True)):
        most = CurveConfig(grid=grid, max_length=3, apart=apart).longest_curve
        assert most == curve_tracing.longest_curve(grid, apart)


def test_a_run_of_before_weights_had_relative_rates_goes_on_without(finished, tmp_path):
    folder, _ = finished
    config = json.loads((folder / "config.json").read_text())
    assert (config.pop("neighbor_rate"), config.pop("output_rate")) == (0.25, 0.05)
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = curve_config.load(tmp_path)
    assert (loaded.neighbor_rate, loaded.output_rate) == (1, 1)


def test_a_damaged_checkpoint_is_told(finished, tmp_path, capsys):
    folder, _ = finished
    for name in ("config.json", "checkpoint.npz"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "checkpoint.npz").write_bytes((folder / "checkpoint.npz").read_bytes()[:300])
    assert "is damaged" in refused(capsys, "--resume", "--out", tmp_path)
    (tmp_path / "config.json").write_text("{}}")
    assert "is no curve-tracing run" in refused(capsys, "--resume", "--out", tmp_path)


def _edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _first_line(path, text):
    path.write_bytes(b"\n".join([text, *path.read_bytes().splitlines()[1:]]) + b"\n")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: _edit(f / "config.json", learning_rate=0.03), "learning_rate 0.02 there, 0.03"),
        (
            lambda f: _edit(f / "config.json", networks="2"),
            "no curve-tracing run (--networks must be",
        ),
        (lambda f: (f / "tests.jsonl").unlink(), "tests.jsonl lacks tests that checkpoint.npz has"),
        (lambda f: _first_line(f / "tests.jsonl", b"17"), "tests.jsonl lacks tests"),
        (lambda f: _first_line(f / "tests.jsonl", b"{}"), "tests.jsonl lacks tests"),
        (lambda f: _first_line(f / "tests.jsonl", b"\xff"), "tests.jsonl lacks tests"),
    ],
)
def test_damaged_files_are_not_trained_on(finished, tmp_path, capsys, damage, says):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    damage(folder)
    before = (folder / "checkpoint.npz").read_bytes()
    assert says in refused(capsys, "--resume", "--out", folder)
    assert before == (folder / "checkpoint.npz").read_bytes()


@pytest.mark.slow
def test_a_checkpoint_that_tells_no_config_goes_on(finished, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    with np.load(folder / "checkpoint.npz") as saved:
        older = {name: saved[name] for name in saved.files if name != "about"}
    np.savez(folder / "checkpoint.npz", **older)
    command.main(["--resume", "--out", str(folder)])
    assert json.loads((folder / "summary.json").read_text())["accuracy"] == finished[1]["accuracy"]


def test_what_cannot_be_is_refused(capsys):
    assert "--max-length must be at most 5" in refused(capsys, "--grid", "5", "--max-length", "6")
    assert "--final-accuracy must be at least 0.85" in refused(capsys, "--final-accuracy", "0.5")
    message = refused(capsys, "--max-trials", "1000")
    assert "--max-trials must be a multiple of --test-every (2000), got 1000" in message
    assert "unknown feedback 'tide'" in refused(capsys, "--feedback", "tide")


def test_names_are_the_librarys():
    from qagrel_jax.layers import FEEDBACKS

    # Not those that need a random stream or the error of the outputs.
    left_out = ("sign_batchwise", "direct")
    assert tuple(k for k in FEEDBACKS if k not in left_out) == curve_config.FEEDBACKS
    with pytest.raises(UserError):
        CurveConfig(max_length=46)
    assert CurveConfig(max_length=7).test_lengths == [3, 4, 5, 6, 7, 8, 9, 10, 11, 15, 20, 30]


def test_trials_are_those_of_the_first_test_at_the_length():
    def line(trials, lengths, learning, accuracy):
        return {
            "trials": trials,
            "length": lengths,
            "learning": learning,
            "accuracy": accuracy,
            "seconds": 2.0,
        }

    lines = [
        line(2000, [2, 2], [True, True], [0.9, 0.5]),
        line(4000, [3, 2], [True, True], [0.84, 1.0]),
        line(6000, [3, 3], [True, True], [0.85, 0.1]),
        line(8000, [3, 3], [True, True], [1.0, 0.2]),
        line(10_000, [3, 3], [False, False], [1.0, 1.0]),  # by chance: it learns no more
    ]
    config = CurveConfig(networks=2, max_length=3)
    tested = FrozenTest(np.array([1.0, 0.3]), np.array([0.5, 0.0]), np.array([1.0, np.nan]))
    content = curve_summary.summarize(config, lines, [3], [tested], {"commit": "c"})
    assert content["accuracy"] == {"3": [1.0, 0.3]}
    assert content["accuracy_apart"] == {"3": [1.0, None]}
    assert content["trials_by_length"] == {"2": [2000, 4000], "3": [6000, None]}
    assert content["trials"] == [6000, None]
    assert content["trials_to_all_right"] == [8000, None]
    assert (content["converged"], content["mean_trials"]) == (1, 6000)
    assert content["training_trials_of_all_networks"] == 16_000
    assert content["trials_per_second"] == 1600
