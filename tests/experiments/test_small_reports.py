"""The reports on AGREL, on precisions and on a learning rate against numbers worked out by hand."""

import json

from experiments import reports
from experiments.reports import NOT_RUN, small_weights
from tests.experiments.test_report import ENVIRONMENT, row, write_run


def _entry(task, rule, trials, quartiles, **fields):
    low, median, high = quartiles
    reached = [t for t in trials if t is not None]
    return {
        "task": task,
        "rule": rule,
        "feedback": "tied",
        "hidden": 8,
        "learning_rate": 0.2,
        "criterion": 0.9,
        "max_trials": 10_000,
        "trials_between_tests": 20,
        "networks": len(trials),
        "converged_fraction": len(reached) / len(trials),
        "first_quartile_trials": low,
        "median_trials": median,
        "third_quartile_trials": high,
        "last_mean_reward": 0.625,
        "diverged": 0,
        "trials": trials,
        **fields,
    }


def test_agrel(tmp_path):
    assert reports.section("agrel", tmp_path).count("*Not run.*") == 3
    results = [
        _entry("xor", "agrel", [30, 60, 10, 1200, None], (30, 60, 1200)),
        _entry("xor", "backprop", [20, 40, 40, 50, 50], (40, 40, 50)),
        _entry("digits", "agrel", [None] * 5, (None,) * 3, hidden=30, learning_rate=0.02),
        _entry("digits", "backprop", [200, 400, 600, None, None], (400, 600, None), hidden=30),
    ]
    folder = tmp_path / "agrel_reciprocal"
    folder.mkdir()
    content = {"config": {"seed": 3}, "results": results, **ENVIRONMENT}
    (folder / "summary.json").write_text(json.dumps(content))
    text = reports.section("agrel", tmp_path)
    assert text.count("*Not run.*") == 2
    assert "`do it`; 5 networks with each rule, seed 3; abacus; commit `0123456`" in text
    # Differences 10, 20, -30, 1150, never: of 32 sign patterns 2 · 5 are as far out.
    assert row(text, "xor") == [
        "2 – 8 – 2",
        "0.2",
        "60 (30–1,200); 4 of 5 networks",
        "40 (40–50)",
        "1.50",
        "0.31",
    ]
    # Three of five pairs differ, all one way: p = 2/8; the others never got there with either rule.
    assert row(text, "digits") == [
        "64 – 30 – 10",
        "0.02",
        "0 of 5 networks reach the criterion; mean expected reward after 10,000: 0.62",
        "600 (400–∞); 3 of 5 networks",
        "–",
        "0.25",
    ]
    assert "(../agrel_reciprocal/trials_to_criterion.png)" in text
    folder = tmp_path / "agrel"
    folder.mkdir()
    (folder / "summary.json").write_text(json.dumps(content | {"results": results[:2]}))
    headline = "1.50 times backprop's trials to criterion (1 task, both rules at one learning rate)"
    assert f"| {headline} |" in reports.section("index", tmp_path)
    folder = tmp_path / "agrel_digits_fast"
    folder.mkdir()
    (folder / "summary.json").write_text(json.dumps(content | {"results": results[2:]}))
    failing = "; on the digits at 0.02 0 of 5 networks learn, with backprop 3 of 5"
    assert f"| {headline}{failing} |" in reports.section("index", tmp_path)


def test_precision(tmp_path):
    write_run(tmp_path / "digits", name="digits", dataset="digits", architecture="dense")
    text = reports.section("precision", tmp_path)
    assert "*Not run.* `python -m experiments.train --precision bfloat16" in text
    assert "| float32" not in text
    write_run(
        tmp_path / "digits_bfloat16",
        name="digits",
        dataset="digits",
        architecture="dense",
        precision="bfloat16",
        backprop=[[0.87, 0.9, 0.79], [0.88, 0.97, 0.79]],
        q_agrel=[[0.1, 0.2, 0.3], [0.5, 0.86, 0.3], [0.89, 0.9, 0.9], [0.9, 0.93, 0.95]],
    )
    text = reports.section("precision", tmp_path)
    # Q-AGREL's best: .89, .9, .9 and .9, .93, .95: d = 1, 3, 5 points, sd 2, t(.975, 2) = 4.3027;
    # p = 1 - t / sqrt(2 + t²), t = 3 / (2 / √3). 98 % of backprop's best is .882, and .862.
    assert row(text, "Q-AGREL", "float32") == ["89.67 (0.58)", "–", "–", "3.3 (0.6)"]
    assert row(text, "Q-AGREL", "bfloat16") == [
        "92.67 (2.52)",
        "+3.00 [−1.97, +7.97]",
        "0.12",
        "3.0 (0.0)",
    ]
    # Backprop's: .9, 1, .8 and .88, .97, .79: d = -2, -3, -1.
    assert row(text, "backprop", "float32") == ["90.00 (10.00)", "–", "–", "not reached by all"]
    assert row(text, "backprop", "bfloat16") == [
        "88.00 (9.00)",
        "−2.00 [−4.48, +0.48]",
        "0.074",
        "not reached by all",
    ]
    assert "*Not run.* `python -m experiments.train --precision tensorfloat32" in text
    # Epochs are counted to the accuracy of backprop in the same precision: .49 of .5.
    write_run(
        tmp_path / "digits_tensorfloat32",
        name="digits",
        dataset="digits",
        architecture="dense",
        precision="tensorfloat32",
        backprop=[[0.5] * 3],
        q_agrel=[[0.3] * 3, [0.495] * 3],
    )
    text = reports.section("precision", tmp_path)
    assert row(text, "Q-AGREL", "tensorfloat32")[-1] == "2.0 (0.0)"


def test_learning_rate(tmp_path):
    assert reports.section("learning_rate", tmp_path).startswith("*Not run.* `python -m")
    dense = {"name": "mnist_dense", "architecture": "dense"}
    # 98 % of backprop's best: .882, which it reaches in epochs 2, 1, 2.
    write_run(
        tmp_path / "cells" / "mnist_dense" / "paper",
        backprop=[[0.6, 0.9, 0.7], [0.9, 0.9, 0.9]],
        **dense,
    )
    write_run(
        tmp_path / "mnist_dense_rate_1",
        learning_rate=1.0,
        finished=False,
        q_agrel=[[0.85, 0.8, 0.85], [0.89, 0.885, 0.883]],
        backprop=[],
        **dense,
    )
    text = reports.section("learning_rate", tmp_path)
    assert "over the same seeds" not in text
    assert "Not finished: Q-AGREL 2 epochs, backprop 0 epochs." in text
    assert "epochs to 85.50 % | epochs to 88.20 % | epochs to 89.10 %" in text
    # 2, 2, 2 against 2, 1, 2, whose mean is 5/3 ± 4.3027 · 1/3: Fieller's ends are 2 over those.
    assert row(text, "Q-AGREL\\*", "1") == [
        "88.60 (0.36) [88.30–89.00]",
        "2.0 (0.0)",
        "2.0 (0.0)",
        "not reached",
        "2.0 (0.0)",
        "1.20 [0.64, 8.60]",
    ]
    assert row(text, "Q-AGREL", "0.1")[2] == "3.3 (0.6)"
    assert row(text, "backprop", "0.1")[-1] == "1"


def test_curve_tracing(tmp_path):
    assert reports.section("curve_tracing", tmp_path) == "*Not run.*"
    content = {
        "networks": 2,
        "max_length": 7,
        "converged": 2,
        "mean_trials": 15_000.0,
        "median_trials": 15_000.0,
        "all_right": {"converged": 0, "mean_trials": None, "median_trials": None},
        "accuracy": {"7": [0.998, 0.9], "8": [0.5, 0.7]},
        "accuracy_apart": {"7": [0.96, None], "8": [None, None]},
        "config": {
            "accuracy": 0.85,
            "shared": True,
            "feedback": "tied",
            "seed": 3,
            "test_trials": 500,
        },
        **ENVIRONMENT,
    }
    (tmp_path / "curve_tracing").mkdir()
    (tmp_path / "curve_tracing" / "summary.json").write_text(json.dumps(content))
    text = reports.section("curve_tracing", tmp_path)
    assert row(text, "85% of a frozen test correct") == ["2 of 2", "15,000", "15,000"]
    assert row(text, "all of a frozen test correct") == ["0 of 2", "–", "–"]
    assert row(text, "mean") == ["94.9", "60.0"]
    assert row(text, "lowest") == ["90.0", "50.0"]
    assert row(text, "mean, no pixel beside both curves") == ["96.0", "–"]
    assert "shared weights, tied feedback, seed 3" in text
    assert "(activity.png)" in text
    (tmp_path / "curve_tracing" / "apart").mkdir()
    content["config"]["apart"] = True
    content["accuracy_apart"] = content["accuracy"]
    (tmp_path / "curve_tracing" / "apart" / "summary.json").write_text(json.dumps(content))
    text = reports.section("curve_tracing", tmp_path)
    assert "tied feedback, no pixel beside both curves, seed 3" in text
    assert "(activity.png)" in text and "(apart/activity.png)" in text


def _statistics_entry(classes, angle, variance):
    statistics = {name: angle for name in ("angle", "bias")}
    statistics |= {"variance": variance, "choice_variance": None}
    of_objective = {"all layers": statistics}
    return {
        "rule": "q_agrel",
        "classes": classes,
        "stage": 5,
        "batch_size": 16,
        "seeds": [0],
        "cross_entropy": of_objective,
        "prediction_error": of_objective,
    }


def _write_statistics(folder, entries, **plan):
    content = {
        "plan": {"batch_sizes": [16], "stages": [5]} | plan,
        "command": "the command",
        "device": "cpu",
        "commit": "abcdef0",
        "results": entries,
    }
    folder.mkdir()
    (folder / "summary.json").write_text(json.dumps(content))


def test_update_statistics_by_number_of_classes(tmp_path):
    entries = [
        _statistics_entry(2, {"mean": 10.0, "sd": 0.5}, {"mean": 4.0}),
        _statistics_entry(10, {"mean": 70.0, "sd": 0.5}, {"mean": 20.0}),
    ]
    for folder in ("update_statistics", "update_statistics/classes"):
        _write_statistics(tmp_path / folder, entries)
    text = reports.section("update_statistics", tmp_path).partition("By number of classes")[2]
    assert "| rule | 2 | 10 |" in text
    assert "| Q-AGREL | 10.0 (0.5) | 70.0 (0.5) |" in text
    assert "| Q-AGREL | 4 | 20 |" in text
    assert "| Q-AGREL | – | – |" in text


def test_update_statistics_by_stage(tmp_path):
    """Of the most classes, in batches of the first size; every column has numbers of its own."""

    def entry(classes, stage, size, value):
        cross = [{"mean": value + more, "sd": 0.5} for more in range(4)]
        of_prediction = {name: {"mean": value + 4} for name in ("angle", "bias")}
        names = ("angle", "bias", "variance", "choice_variance")
        made = _statistics_entry(classes, None, None) | {"stage": stage, "batch_size": size}
        return made | {
            "cross_entropy": {"all layers": dict(zip(names, cross, strict=True))},
            "prediction_error": {"all layers": of_prediction},
        }

    last, small, few = entry(10, 5, 16, 70.0), entry(10, 5, 1, 60.0), entry(2, 5, 16, 50.0)
    first, few_first = entry(10, 0, 16, 80.0), entry(2, 0, 16, 40.0)
    _write_statistics(
        tmp_path / "update_statistics",
        [few_first, few, small, first, last],
        stages=[0, 5],
        batch_sizes=[16, 1],
    )
    entries, sizes = [last, few, first, few_first, small], [16, 1]
    where = tmp_path / "update_statistics" / "classes"
    _write_statistics(where, entries, stages=[0, 5], batch_sizes=sizes)
    text = reports.section("update_statistics", tmp_path)
    by_stage, _, by_classes = text.partition("By number of classes")
    assert "Epoch 5 of training, 10 classes, batches of 16" in by_stage
    assert "batches of 16. Command: `the command`; 1 seed; cpu" in by_classes
    assert [line for line in by_stage.splitlines() if line.startswith("| Q-AGREL")] == [
        "| Q-AGREL | 70.0 (0.5) | 74.0 | 71 (0.5) | 74 | 72 (0.5) | 73 (0.5) |",
        "| Q-AGREL | 80.0 (0.5) | 70.0 (0.5) |",
    ]
    assert [line for line in by_classes.splitlines() if line.startswith("| Q-AGREL")] == [
        "| Q-AGREL | 50.0 (0.5) | 70.0 (0.5) |",
        "| Q-AGREL | 52 (0.5) | 72 (0.5) |",
        "| Q-AGREL | 53 (0.5) | 73 (0.5) |",
    ]


def test_update_statistics_of_sampled_batches(tmp_path):
    exact = [_statistics_entry(10, {"mean": 70.0, "sd": 0.5}, {"mean": 20.0})]
    sampled = {"mean": 60.0, "standard_error": 0.25}
    of_one_seed = [_statistics_entry(10, sampled, {"mean": 3.0, "standard_error": 0.125})]
    _write_statistics(tmp_path / "update_statistics", exact)
    _write_statistics(tmp_path / "update_statistics" / "mnist_dense", of_one_seed)
    text = reports.section("update_statistics", tmp_path).partition("## MNIST")[2]
    assert "| Q-AGREL | 60.0 ± 0.2 | 60.0 ± 0.2 | 60 ± 0.25 | 60 ± 0.25 | 3 ± 0.12 | – |" in text
    assert "(mnist_dense/bias_and_variance.png)" in text


def test_sampled_estimates_tell_their_error_and_what_they_do_not_resolve(tmp_path):
    """An angle of 0 stands for every cosine above 1; a seed without an estimate is counted."""
    sampled = {"mean": 0.0, "sd": 0.0, "standard_error": 2.5}
    partly = {"mean": 60.0, "sd": 5.0, "standard_error": 2.0, "seeds": 2}
    entry = _statistics_entry(10, sampled, partly) | {"seeds": [0, 1, 2], "exact": False}
    _write_statistics(tmp_path / "update_statistics", [entry])
    text = reports.section("update_statistics", tmp_path)
    angle, bias = "0.0 (0.0) ± 2.5‡", "0 (0) ± 2.5‡"
    variance = "60 (5) ± 2, 2 of 3 seeds"
    assert f"| Q-AGREL | {angle} | {angle} | {bias} | {bias} | {variance} | – |" in text
    exact = entry | {"exact": True}
    _write_statistics(tmp_path / "exact", [exact])
    (tmp_path / "exact").rename(tmp_path / "update_statistics" / "classes")
    text = reports.section("update_statistics", tmp_path).partition("By number of classes")[2]
    assert "| Q-AGREL | 0.0 (0.0) |" in text


def test_small_weights_without_the_tangent_kernel(tmp_path):
    assert small_weights.section(tmp_path) == NOT_RUN


def test_small_weights_with_the_tangent_kernel(tmp_path):
    measured = ("seed", "epoch", "accuracy", "output", "before", "kernel")
    values = [(0, 3, 0.85, 0.4, 0.03, 18.0), (1, 3, 0.85, 0.4, 0.03, 18.0)]
    values += [(2, 9, 0.925, 0.7, 0.06, 27.0)]
    networks = [dict(zip(measured, one, strict=True)) for one in values]
    line = {"run": "curriculum", "rule": "q_agrel", "command": "its command", "networks": networks}
    content = {"images": 256, "command": "the command", "device": "cpu", "commit": "abcdef0"}
    (tmp_path / "small_weights").mkdir()
    path = tmp_path / "small_weights" / "tangent_kernel.json"
    path.write_text(json.dumps(content | {"runs": [line]}))
    text = small_weights.section(tmp_path)
    assert "| `curriculum`, Q-AGREL | 5 | 87.50 | 0.5 | 0.04 | 21 |" in text
    assert "seeds 0–2; cpu; commit `abcdef0`" in text
    assert "`curriculum`: `its command`" in text
