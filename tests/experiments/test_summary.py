"""A run's summary against numbers worked out by hand: the criterion, epochs to it, the slowdown."""

import pytest

from experiments import config as configs
from experiments.common.names import PROTOCOLS
from experiments.train import summary

ENVIRONMENT = {"device": "abacus", "versions": {"jax": "1"}, "commit": "0123", "command": "do it"}
# Accuracies by epoch of two seeds; None: that seed has stopped.
CURVES = {
    "q_agrel": [[0.5, 0.6], [0.87, 0.8], [0.89, 0.85], [0.9, 0.9], [None, 0.95]],
    "backprop": [[0.9, 0.8], [1.0, 0.8], [0.9, 0.9]],
}
LATER = {"device": "slide rule", "versions": {"jax": "2"}, "commit": "4567", "command": "go on"}


def summarize(*rules, protocol="clean", criterion=0.9, curves=CURVES, timings=()):
    config = configs.replace(
        configs.load("digits"), {"protocol": protocol, "criterion": criterion, "rules": rules}
    )
    watched = "validation_accuracy" if protocol == "clean" else "test_accuracy"
    metrics = [
        {"rule": rule, "epoch": epoch, watched: row, "train_accuracy": [0.99, 0.99]}
        for rule in rules
        for epoch, row in enumerate(curves[rule], 1)
    ]
    results = [
        {
            "rule": rule,
            "test_accuracy": [0.7, 0.8],
            "best_monitored_accuracy": [max(filter(None, s)) for s in zip(*rows, strict=True)],
            "best_epoch": [s.index(max(filter(None, s))) + 1 for s in zip(*rows, strict=True)],
        }
        for rule, rows in curves.items()
        if rule in rules
    ]
    return summary.summarize(config, results, metrics, [ENVIRONMENT, LATER], timings)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_criterion_and_the_slowdown(protocol):
    content = summarize("q_agrel", "backprop", protocol=protocol)
    # Backprop's best: 1, .9; mean .95; 90 % of it .855.
    assert content["criterion_accuracy"] == pytest.approx(0.855)
    images = "validation" if protocol == "clean" else "test"
    assert content["criterion_is"] == f"0.9 x mean best {images} accuracy of backprop"
    q_agrel, backprop = content["results"]
    assert (q_agrel["rule"], q_agrel["epochs_to_criterion"]) == ("q_agrel", [2, 4])
    assert (backprop["rule"], backprop["epochs_to_criterion"]) == ("backprop", [1, 3])
    assert content["slowdown"] == 3.0 / 2.0
    # Best epochs: 4 and 5 against 2 and 3.
    assert content["slowdown_by_best_epoch"] == 9.0 / 5.0
    assert "validation" in content["test_accuracy_is"] or protocol == "paper"
    assert "papers' protocol" in content["test_accuracy_is"] or protocol == "clean"


def test_the_epoch_in_which_a_seed_diverged():
    """One that stopped by the rule has no error either, but no accuracy in that epoch."""
    metrics = [
        {"rule": "agrel", "test_accuracy": [0.1, 0.1], "error": [None, None], "epoch": 1},
        {"rule": "q_agrel", "test_accuracy": [0.5, 0.4, 0.3], "error": [1, 2, 3], "epoch": 1},
        {"rule": "q_agrel", "test_accuracy": [0.5, 0, 0.3], "error": [1, None, 3], "epoch": 2},
        {"rule": "q_agrel", "test_accuracy": [0.5, None, None], "error": [1] + 2 * [None]}
        | {"epoch": 3},
    ]
    assert summary.diverged(metrics, "q_agrel") == [None, 2, None]
    assert summary.diverged(metrics, "backprop") == []


def test_an_accuracy_of_just_the_criterion_is_enough():
    curves = {"q_agrel": [[0.25, 0.5], [0.5, 0.5]], "backprop": [[0.5, 0.5], [1.0, 1.0]]}
    content = summarize("q_agrel", "backprop", criterion=0.5, curves=curves)
    assert [entry["epochs_to_criterion"] for entry in content["results"]] == [[2, 1], [1, 1]]
    assert content["slowdown"] == 1.5


def test_no_slowdown_where_a_seed_never_got_there():
    content = summarize("q_agrel", "backprop", criterion=1.0)  # .95, which only one backprop has
    assert content["criterion_accuracy"] == pytest.approx(0.95)
    assert content["results"][0]["epochs_to_criterion"] == [None, 5]
    assert content["results"][1]["epochs_to_criterion"] == [2, None]
    assert content["slowdown"] is None


def test_the_first_epoch_of_a_session_compiles_and_is_not_its_speed():
    def line(images, session):
        return {"images": images, "seconds": 2.0, "session": session}

    assert summary.images_per_second([line(2, 0)]) == 1.0
    assert summary.images_per_second([line(2, 0), line(20, 0)]) == 10.0
    times = [line(2, 0), line(20, 0), line(4, 1), line(40, 1), line(60, 1)]
    assert summary.images_per_second(times) == 20.0
    assert summary.images_per_second([{"seconds": 1.0}]) == 0.0


def test_without_backprop_the_first_rule_is_its_own_measure():
    content = summarize("q_agrel", criterion=0.98)  # of .9 and .95
    assert content["criterion_accuracy"] == pytest.approx(0.98 * 0.925)
    assert content["criterion_is"] == "0.98 x mean best validation accuracy of q_agrel"
    assert content["results"][0]["epochs_to_criterion"] == [None, 5]
    assert content["slowdown"] is None


def test_the_first_sitting_names_the_run_and_all_are_listed():
    content = summarize("q_agrel", "backprop")
    assert content["command"] == "do it"
    assert [session["command"] for session in content["sessions"]] == ["do it", "go on"]
    for entry in content["results"]:
        assert {k: entry[k] for k in ("device", "versions", "commit")} == {
            "device": "abacus",
            "versions": {"jax": "1"},
            "commit": "0123",
        }
        assert entry["test_accuracy"] == [0.7, 0.8]


def test_a_rule_is_of_the_sitting_in_which_it_began():
    timings = [
        {"rule": "q_agrel", "epoch": 1, "session": 1},
        {"rule": "backprop", "epoch": 1},  # written before lines said it
        {"rule": "backprop", "epoch": 2, "session": 1},
        {"rule": "q_agrel", "epoch": 2, "session": 0},
    ]
    first, second = summarize("q_agrel", "backprop", timings=timings)["results"]
    assert (first["device"], first["versions"], first["commit"]) == (
        "slide rule",
        {"jax": "2"},
        "4567",
    )
    assert (second["device"], second["commit"]) == ("abacus", "0123")


@pytest.mark.parametrize("number", [2, -1, "1", None])
def test_a_sitting_that_is_not_there_is_the_first(number):
    timings = [{"rule": "q_agrel", "epoch": 1, "session": number}]
    assert summarize("q_agrel", timings=timings)["results"][0]["device"] == "abacus"


def test_the_table_that_is_printed(capsys):
    """Of seeds that never got there it says how many did; each slowdown is called by its name."""
    content = summarize("q_agrel", "backprop")
    for entry, epochs in zip(content["results"], ([2, None], [None, None]), strict=True):
        entry |= {"epochs": 5, "images_per_second": 1234.4, "seeds": [0, 1]}
        entry["epochs_to_criterion"] = epochs
    summary.print_table(content)
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "q_agrel 75.00 (7.07) 2.0 (1 of 2 seeds) 5 1,234" in text
    assert "backprop 75.00 (7.07) not reached 5 1,234" in text
    assert "2 seeds; criterion 85.50 % (0.9 x mean best validation accuracy of backprop" in text
    assert "slowdown to the best epoch (probably the papers'): 1.80 x backprop's epochs" in text
    assert "slowdown to the criterion: 1.50 x backprop's epochs" in text
