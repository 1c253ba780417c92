"""``python -m experiments.new_letters``: frozen tests on letters that were in no set."""

import json
import string

import jax
import numpy as np
import pytest

from experiments import new_letters
from experiments.common.cli import UserError
from experiments.reports import memory_successors
from experiments.working_memory import __main__ as working_memory
from experiments.working_memory import trained
from qagrel_jax.population import Setup, record

LETTERS = string.ascii_uppercase[:3]


@pytest.fixture(scope="module", params=["augment", "workmate"])
def run(request, tmp_path_factory):
    """Two networks that have seen one set for some trials; none has learned it."""
    folder = tmp_path_factory.mktemp("runs") / request.param
    options = f"match_to_sample --rule {request.param} --networks 2 --max-trials 60"
    sets = ["--set", "sets=1", "--set", f"letters={LETTERS}"]
    working_memory.main([*options.split(), *sets, "--out", str(folder)])
    return folder


@pytest.fixture
def learned(monkeypatch):
    """Networks of which the second counts as having learned."""

    def load(folder, before=trained.load):
        setup, networks = before(folder)
        monkeypatch.setattr(networks, "trials_to_convergence", lambda: [None, 7])
        return setup, networks

    monkeypatch.setattr(trained, "load", load)


def test_accuracies_are_those_of_single_trials(run, learned, tmp_path, capsys):
    out = tmp_path / "new_letters"
    new_letters.main([str(run), "--out", str(out)])
    assert "1 of 2" in capsys.readouterr().out
    assert (out / "new_letters.png").read_bytes().startswith(b"\x89PNG")
    (line,) = json.loads((out / new_letters.FILE).read_text())["runs"]
    assert line["learned"] == [1] and line["rule"] == run.name
    assert list(line["sets"])[:3] == [LETTERS, "DEF", "GHI"] and len(line["sets"]) == 9
    assert set("".join(list(line["sets"])[1:])) == set(string.ascii_uppercase) - set(LETTERS)
    setup, networks = trained.load(run)
    for letters in (LETTERS, "DEF"):
        params = setup.task.params(sets=1, letters=letters)
        other = Setup(setup.task, params, setup.config, setup.criterion)
        found = {True: [], False: []}
        for index in range(9):
            trial = record(other, networks.network(1).learner, index, jax.random.key(index))
            sample, probe = trial.observation[1], trial.observation[3]  # mark, sample, mark, probe
            if len(trial.observation) > 3:
                assert np.array_equal(sample, probe) == (index in new_letters.SAME)
            found[index in new_letters.SAME].append(trial.correct)
        tested = line["sets"][letters]
        assert tested["same"] == [pytest.approx(np.mean(found[True]), abs=1e-4)]
        assert tested["different"] == [pytest.approx(np.mean(found[False]), abs=1e-4)]
    text = memory_successors.new_letters(tmp_path)
    assert f"| {run.name} | " in text and "| 1 of 2 |" in text


def test_without_a_network_that_has_learned(run, capsys):
    new_letters.main([str(run)])
    assert "0 of 2" in capsys.readouterr().out


def test_the_mean_of_same_and_different_by_hand():
    sets = {"ABC": ([1.0], [0.5]), "DEF": ([1.0], [0.0]), "GHI": ([0.0], [0.5])}
    sets = {name: {"same": a, "different": b} for name, (a, b) in sets.items()}
    line = {"sets": sets, "learned": [0], "networks": 3}
    last, new = new_letters.balanced(line)
    assert last.tolist() == [75.0] and new.tolist() == [37.5]
    assert new_letters.cells(line) == ["1 of 3", "75.0", "37.5", "50.0", "25.0"]


@pytest.mark.parametrize(
    ("letters", "sets", "expected"),
    [
        (string.ascii_uppercase[3:], 7, ["ABC", "YZA"]),
        (string.ascii_uppercase[2:], 7, ["ABX", "YZA"]),
        (string.ascii_uppercase, 1, None),
    ],
)
def test_new_sets_hold_every_letter_that_is_left(letters, sets, expected):
    found = new_letters.new_sets(letters, sets)
    assert expected is None or found == expected
    assert set("".join(found)) == set(string.ascii_uppercase) - set(letters[: 3 * sets])
    assert all(len(set(group)) == 3 for group in found)


def test_other_runs_are_refused(tmp_path):
    with pytest.raises(UserError, match="only Y, Z are left: learn fewer sets"):
        new_letters.new_sets(string.ascii_uppercase, 8)
    folder = tmp_path / "saccade"
    working_memory.main(["saccade", "--networks", "1", "--max-trials", "5", "--out", str(folder)])
    with pytest.raises(UserError, match="saccade is a run of saccade, not of match_to_sample"):
        new_letters.main([str(folder)])
    grid = tmp_path / "grid"
    options = "match_to_sample --networks 1 --max-trials 5 --learning-rates 0.1,0.2"
    working_memory.main([*options.split(), "--out", str(grid)])
    with pytest.raises(UserError, match="grid is a grid of settings"):
        new_letters.main([str(grid)])
