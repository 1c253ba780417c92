"""``python -m experiments.agrel``: what it writes, and one line for every mistake."""

import json

import jax
import numpy as np
import pytest

from experiments import plots
from experiments.agrel import __main__ as agrel
from experiments.agrel import plots as agrel_plots
from experiments.common.cli import UserError
from tests.experiments import running


def command(*arguments):
    return running.run(agrel.main, *arguments)


def test_writes_summary_and_picture(tmp_path):
    out = tmp_path / "run"
    result = command("xor", "--networks", 20, "--max-trials", 2000, "--out", out)
    assert result.returncode == 0, result.stderr
    assert "trials" in result.stderr or "criterion" in result.stderr  # progress
    assert (out / "trials_to_criterion.png").read_bytes().startswith(b"\x89PNG")
    summary = json.loads((out / "summary.json").read_text())
    assert summary["config"]["networks"] == 20
    assert {"device", "versions", "commit", "command"} <= set(summary)
    assert [(row["task"], row["rule"]) for row in summary["results"]] == [
        ("xor", "agrel"),
        ("xor", "backprop"),
    ]
    for row in summary["results"]:
        assert len(row["trials"]) == 20
        reached = [t for t in row["trials"] if t is not None]
        assert row["converged_fraction"] == len(reached) / 20
        assert all(0 < t <= 2000 for t in reached)
        assert reached


def test_an_interruption_keeps_the_tasks_that_were_finished(tmp_path, monkeypatch):
    train = agrel.run

    def once(name, *others):
        if name != "xor":
            raise KeyboardInterrupt
        return train(name, *others)

    monkeypatch.setattr(agrel, "run", once)
    result = command("--networks", 2, "--max-trials", 200, "--out", tmp_path / "out")
    assert result.stderr.splitlines()[-1] == (
        f"interrupted; what was done is in {tmp_path / 'out' / 'summary.json'}"
    )
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [row["rule"] for row in summary["results"]] == ["agrel", "backprop"]
    assert [row["task"] for row in summary["comparisons"]] == ["xor"]
    assert summary["not_run"] == ["count_ones", "orientation", "digits"]


@pytest.fixture(scope="module")
def xor_networks():
    task, test = agrel._tasks("xor")
    return agrel._population(task, test, agrel.TASKS["xor"], "agrel", "tied")


def test_networks_depend_on_their_own_key_and_on_nothing_else(xor_networks):
    init, advance = xor_networks
    keys = jax.random.split(jax.random.key(0), 3)

    def rewards(keys):
        learners, first = advance(keys, init(keys), 0)
        return np.stack([first, advance(keys, learners, 20)[1]])

    together = rewards(keys)
    np.testing.assert_array_equal(together, rewards(keys))
    np.testing.assert_allclose(together[:, ::-1], rewards(keys[::-1]), rtol=1e-6)
    assert len(np.unique(together)) == 6


def test_every_chunk_has_trials_of_its_own(xor_networks):
    init, advance = xor_networks
    keys = jax.random.split(jax.random.key(0), 3)
    learners = init(keys)
    assert (advance(keys, learners, 0)[1] != advance(keys, learners, 20)[1]).all()


@pytest.mark.parametrize(
    ("feedback", "output"), [("tied", {"kernel"}), ("kolen_pollack", {"kernel", "feedback_kernel"})]
)
def test_kolen_pollack_feedback_has_weights_of_its_own(feedback, output):
    task, test = agrel._tasks("xor")
    init, _ = agrel._population(task, test, agrel.TASKS["xor"], "agrel", feedback)
    learners = jax.eval_shape(init, jax.random.split(jax.random.key(0), 2))
    params = learners.params["params"]
    assert set(params["output"]) == output and set(params["hidden"]) == {"kernel"}


@pytest.mark.parametrize(("rule", "feedback"), [("agrel", "kolen_pollack"), ("backprop", "tied")])
def test_a_run_by_hand(rule, feedback, monkeypatch):
    """Three networks, tested every 20 of 70 trials."""
    rewards = [[0.5, 0.95, 0.1], [0.9, 0.95, 0.1], [0.3, 0.1, 0.2]]
    begun = []

    def population(task, test, settings, rule_name, given):
        assert (rule_name, given) == (rule, feedback)

        def advance(keys, params, first):
            begun.append(first)
            return params, rewards[len(begun) - 1]

        return lambda keys: None, advance

    monkeypatch.setattr(agrel, "_population", population)
    settings = agrel.Settings(8, 2.0, 0.2, 0.9, max_trials=70, trials_between_tests=20)
    options = agrel.Options(networks=3, feedback="kolen_pollack")
    found = agrel.run("xor", settings, rule, options)
    assert begun == [0, 20, 40]
    assert found["trials"] == [40, 20, None]
    assert (found["rule"], found["feedback"], found["diverged"]) == (rule, feedback, 0)
    assert found["last_mean_reward"] == pytest.approx(0.2)
    assert (found["first_quartile_trials"], found["median_trials"]) == (40, 40)


def test_two_rules_compared_by_hand():
    ours = {"task": "xor", "trials": [30, 60, 10, 90, None], "median_trials": 60.0}
    theirs = {"task": "xor", "trials": [20, 40, 40, 50, 50], "median_trials": 40.0}
    # Differences 10, 20, -30, 40, never: of 32 sign patterns 2 · 5 are as far out (W ≤ 3).
    assert agrel.compare(ours, theirs) == {
        "task": "xor",
        "median_ratio_agrel_to_backprop": 1.5,
        "wilcoxon_p": 10 / 32,
    }
    never = {**ours, "median_trials": None}
    assert agrel.compare(never, theirs)["median_ratio_agrel_to_backprop"] is None


def test_statistics_by_hand():
    inf = np.inf
    found = agrel._statistics(np.array([30.0, 10.0, inf, 20.0]))
    assert found == {
        "networks": 4,
        "converged_fraction": 0.75,
        "first_quartile_trials": 20.0,  # of 10, 20, 30, never
        "median_trials": 30.0,
        "third_quartile_trials": None,
        "mean_trials_of_converged": 20.0,
    }
    assert agrel._statistics(np.array([inf, inf]))["mean_trials_of_converged"] is None


def test_the_picture_counts_networks_at_criterion(tmp_path, monkeypatch):
    """In per cent of all, those that never learn too, up to the last trial."""
    drawn = []
    monkeypatch.setattr(plots, "save", lambda drawing, path: drawn.append(drawing))
    row = {"task": "xor", "rule": "agrel", "networks": 4, "max_trials": 90, "criterion": 0.9}
    all_of_them = {**row, "rule": "backprop", "trials": [20, 10, 20, 40]}
    rows = [{**row, "trials": [30, None, 10, None]}, all_of_them]
    agrel_plots.trials_to_criterion(tmp_path / "p.png", rows)
    ours, theirs = (line.get_xydata().tolist() for line in drawn[0].axes[0].lines)
    assert ours == [[0, 0], [10, 25], [30, 50], [90, 50]]
    assert theirs == [[0, 0], [10, 25], [20, 50], [20, 75], [40, 100], [90, 100]]


def test_picture_of_networks_that_never_learn(tmp_path):
    row = {"task": "xor", "rule": "agrel", "networks": 2, "max_trials": 9, "criterion": 0.9}
    agrel_plots.trials_to_criterion(tmp_path / "p.png", [{**row, "trials": [None, None]}])
    assert (tmp_path / "p.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nosuch"], "unknown task 'nosuch'; valid: xor, count_ones, orientation, digits"),
        (["--networks", "0"], "must be in [1, 100000], got 0"),
        (["--networks", "two"], "'two' is not a whole number"),
        (["--max-trials", "-5"], "must be in"),
        (["--learning-rate", "0"], "must be in (0, 100], got 0"),
        (["--feedback", "random"], "valid: tied, kolen_pollack"),
        (["--nosuch"], "--nosuch"),
    ],
)
def test_bad_option_is_one_line(arguments, says, capsys):
    with pytest.raises(SystemExit) as stop:
        agrel.main(arguments)
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert says in message and message.count("\n") == 1


def test_used_folder_is_refused(tmp_path):
    (tmp_path / "summary.json").write_text("{}")
    result = command("xor", "--out", tmp_path)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert "another run" in result.stderr
    assert (tmp_path / "summary.json").read_text() == "{}"


def test_unwritable_folder_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        agrel.main(["xor", "--out", str(tmp_path / "file" / "run")])
