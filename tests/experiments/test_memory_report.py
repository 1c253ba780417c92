"""The working-memory part of the report, from folders made by hand."""

import json

import numpy as np
import pytest

from experiments.plots import named_lines
from experiments.reports import memory, memory_speed
from experiments.working_memory import plots, summary

CONFIG = {"networks": 4, "seed": 3, "feedbacks": ["tied"]}
RUN = {
    "command": "python -m experiments.working_memory …",
    "device": "an abacus",
    "commit": "0123456789abcdef-dirty",
    "seconds": 12.4,
    "config": CONFIG,
}
GOT = {
    "converged_fraction": 0.75,
    "median_trials": 20.0,
    "mean_trials": 2000.0,
    "quartiles_trials": [15.0, 25.0],
    "networks": 4,
    "max_trials": 25_000,
}
NEVER = GOT | {
    "converged_fraction": 0.0,
    "median_trials": None,
    "mean_trials": None,
    "quartiles_trials": None,
}


@pytest.fixture
def results(tmp_path):
    def write(name, content):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        file = "memory_speed.json" if name == "memory_speed" else "summary.json"
        (folder / file).write_text(json.dumps(RUN | content))

    vibro = GOT | {"task": "vibrotactile", "trials": [30, None, 10, 20], "median_trials": 3339.6}
    write("working_memory/vibrotactile", vibro)
    settings = {"learning_rates": [0.15, 0.6], "tag_decays": [0.2]}
    cells = [{"feedback": "tied", "learning_rate": b, "tag_decay": 0.2} for b in (0.15, 0.6)]
    grid = {
        "task": "saccade",
        "networks": 8,
        "max_trials": 25_000,
        "converged_fraction": 3 / 8,
        "median_trials": 20,
        "trials": [30, None, 10, 20, None, None, None, None],
        "config": CONFIG | settings,
        "grid": [cells[0] | GOT, cells[1] | NEVER],
    }
    write("working_memory/saccade_grid", grid)
    both = [cells[0] | GOT, cells[0] | {"feedback": "separate"} | GOT]
    test = [{"learning_rate": 0.15, "tag_decay": 0.2, "p": 0.04321}]
    write("working_memory/saccade_feedback", grid | {"grid": both, "feedback_mann_whitney": test})
    gated = {
        "rule": "recollect",
        "end_input": True,
        "slope": "corrected",
        "policy": "epsilon_greedy",
        "task_parameters": {"blank_steps": 0, "delay_steps": 8, "curriculum": True},
    }
    saccade = GOT | {"task": "saccade", "trials": [30, None, 10, 20], "max_trials": 500_000}
    write("working_memory/recollect_saccade_delay_8", saccade | {"config": CONFIG | gated})
    plain = gated | {"end_input": False, "slope": "published", "task_parameters": {}}
    write("working_memory/recollect_saccade", saccade | {"config": CONFIG | plain})
    larger = plain | {"policy": "max_boltzmann", "memory": 50, "exploration": 0.5}
    write("working_memory/recollect_saccade_large", saccade | {"config": CONFIG | larger})
    for name, leak, cell in (("standard", 1.0, NEVER), ("hybrid", [0.7, 1.0], GOT)):
        trials = [None] * 4 if cell is NEVER else [30, None, 10, 20]
        ax = cell | {"task": "twelve_ax", "trials": trials, "max_trials": 100_000}
        own = CONFIG | {"leak": leak, "feedbacks": ["kolen_pollack"]}
        write(f"working_memory/twelve_ax_{name}", ax | {"config": own})
    changed = own | {"bias": True, "learning_rates": [0.9]}
    gating = {"rule": "workmate", "regular": 15, "memory": 30, "tag_decays": [0.8], "blocks": 2}
    gating |= {"time_cells": 20, "exploration": 0.5, "task_parameters": {"letters": "QXZ"}}
    levels = [
        {"level": 1, "passed": 4, "median_trials": 1500.5, "quartiles_trials": [1200, 1800]},
        {"level": 2, "passed": 3, "median_trials": 80, "quartiles_trials": [70, 90]},
    ]
    sample = GOT | {"task": "match_to_sample", "trials": [30, None, 10, 20], "max_trials": 30_000}
    sample |= {"levels": levels}
    write("working_memory/workmate_sample", sample | {"config": CONFIG | gating})
    write("working_memory/sample", sample | {"config": CONFIG | {"task_parameters": {}}})
    lost = NEVER | {"task": "match_to_sample", "trials": [None] * 4, "max_trials": 30_000}
    lost |= {"levels": [{"level": 1, "passed": 0, "median_trials": None, "quartiles_trials": None}]}
    write("working_memory/workmate_lost", lost | {"config": CONFIG | gating})
    write("working_memory/twelve_ax_changed", ax | {"config": changed})
    piece = {"trials": 5, "seconds": 1.0, "cpu_seconds": 2.0}
    ours = {"trials_per_second": 5000.0, "cores_busy": 1.94, "first_turn_seconds": 7.0}
    row = {
        "networks": 1000,
        "qagrel_jax": ours | {"pieces": [piece, piece | {"trials": 7}, piece | {"seconds": 4.0}]},
        "numpy": ours | {"pieces": [piece] * 3, "trials_per_second": 2500.0},
        "qagrel_jax_over_numpy": 2.0,
    }
    write("memory_speed", {"task": "saccade", "seed": 3, "rows": [row]})
    return tmp_path


def test_every_table_holds_its_numbers(results):
    text = memory.section(results) + memory_speed.section(results)
    # 3 of 4 against 100 of 100: Fisher's p is 4/104. The paper's median is 3,036.
    assert (
        "| vibrotactile | 3 of 4 (75 %) | 100 of 100 (100 %) | 0.038 | 3,340 (15–25) | 2,000 "
        "| 3,036 | +10.0 % | 12 |" in text
    )
    assert "| probabilistic | not run |" in text
    assert "| saccade | tied | 3 of 4 (75 %) | 20 (15–25) | 2,000 |  |" in text
    assert "| saccade | Kolen–Pollack | 3 of 4 (75 %) | 20 (15–25) | 2,000 | 0.043 |" in text
    assert "| 0.15 | 0.2 | 3 of 4 (75 %) | 20 (15–25) | 2,000 | (the paper's) |" in text
    assert "| 0.6 | 0.2 | 0 of 4 (0 %) | – | – | " in text
    # 25,000 trials of 1,000 networks at 5,000 a second.
    assert "| 1,000 | 5,000 | 2,500 | 2.00 [0.25–1.40] | 2, 2 | 1.9, 1.9 | 7.0 | 5,000 |" in text
    got = "3 of 4 (75 %) | 20 (15–25) | 2,000 | 500,000 |"
    assert f"| recollect_saccade | saccade | 2 | published | {got}" in text
    variant = "end-of-trial input, corrected slope, curriculum"
    assert f"| recollect_saccade_delay_8 | saccade | 8 | {variant} | {got}" in text
    # 0 of 4 against 0 of 100; 3 of 4 against 60 of 60: Fisher's p is 4/64.
    assert "| standard | 1 | 0 of 4 (0 %) | 0 of 100 (0 %) | 1 | – | – | – | 100,000 |" in text
    assert (
        "| hybrid | 0.7, 1 | 3 of 4 (75 %) | 60 of 60 (100 %) | 0.062 | 20 (15–25) | 2,000 "
        "| 31,132 | 100,000 |" in text
    )
    assert "| leaky | – | not run | 100 of 100 (100 %) | – | – | – | 24,150 | – |" in text
    got = "3 of 4 (75 %) | 20 (15–25) | 2,000 | 30,000 | 1,500 (4), 80 (3) |"
    variant = "exploration 0.5, letters QXZ"
    assert f"| workmate_sample | match_to_sample | WorkMATe | {variant} | {got}" in text
    assert f"| sample | match_to_sample | AuGMEnT | its own settings | {got}" in text
    assert "| 0 of 4 (0 %) | – | – | 30,000 | – (0) |" in text
    assert text.index("| workmate_sample |") < text.index("| sample |")
    # What is not as published says so.
    assert "| hybrid, learning_rates 0.9, bias True | 0.7, 1 | 3 of 4 (75 %) | 60 of 60" in text
    variant = "max-Boltzmann, exploration 0.5, memory 50"
    got = "3 of 4 (75 %) | 20 (15–25) | 2,000 | 500,000 |"
    assert f"| recollect_saccade_large | saccade | 2 | {variant} | {got}" in text
    assert "seed 3; an abacus; commit `0123456` with uncommitted changes" in text
    for picture in (
        "working_memory/vibrotactile/converged.png",
        "working_memory/workmate_sample/levels.png",
        "memory_speed/memory_speed.png",
        "working_memory/saccade_grid/grid.png",
    ):
        assert f"]({picture.split('/', 1)[1]})" in text
        assert (results / picture).is_file()


def test_what_was_not_run_is_said(tmp_path):
    text = memory.section(tmp_path)
    assert text.count("not run") + text.count("Not run") == 4 + 2 + 2 + 2 + 1
    assert memory_speed.section(tmp_path).startswith("*Not run.*")


def test_levels_of_a_grid_are_drawn_setting_by_setting(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        plots, "legend_below", lambda _, panels, **__: drawn.update(named_lines(panels))
    )
    rates = (0.1, 0.2)
    grid = [
        {"feedback": "tied", "learning_rate": rate, "tag_decay": 0.8}
        | {"levels": summary.levels(np.array([[first], [0]]))}
        for rate, first in zip(rates, (300, 40), strict=True)
    ]
    both = summary.levels(np.array([[300, 40], [0, 0]]))
    run = {"task": "match_to_sample", "networks": 2, "grid": grid, "levels": both, "config": {}}
    plots.levels(tmp_path / "levels.png", run)
    assert {name: line.get_ydata().tolist() for name, line in drawn.items()} == {
        "β 0.1": [300],
        "β 0.2": [40],
    }


def test_trials_of_a_level_are_those_of_networks_of_which_they_are_known():
    passed = np.array([[-1, 50, 0, 100], [3000, 80, 0, 0], [3500, 0, 0, 0]])
    rows = summary.levels(passed)
    assert [(row["passed"], row["trials"]) for row in rows] == [
        (3, [50, 100]),
        (2, [30]),
        (1, [500]),
    ]
    assert rows[0]["median_trials"] == 75
