"""The table of configurations: every one is in it, numbers from summaries alone."""

import json
import sys

import pytest

from experiments import config as configs
from experiments.common import names
from experiments.reports import configs as report
from qagrel_jax import networks, rules
from qagrel_jax.layers import feedback


def _write(folder, config, accuracies, seconds, finished=True):
    """A run of ten epochs, rules in the order of ``accuracies``; a third seed stops after five."""
    folder.mkdir(parents=True)
    rules = dict(zip(config.rules, accuracies, strict=True))
    results = [
        {
            "rule": rule,
            "test_accuracy": accuracy,
            "train_seconds": seconds,
            "epochs": 10,
            "seeds": list(range(len(accuracy))),
        }
        for rule, accuracy in rules.items()
    ]
    lines = {
        "metrics": [
            {
                "rule": rule,
                "epoch": e,
                "test_accuracy": a[:2] + [None] * (len(a) - 2) if e > 5 else a,
            }
            for rule, a in rules.items()
            for e in range(1, 11)
        ],
        "timings": [
            {"rule": rule, "epoch": e, "seconds": seconds / 10}
            for rule in rules
            for e in range(1, 11)
        ],
        "environments": [
            {"device": "a device", "versions": {}, "commit": "c" * 40, "command": "python -m it"}
        ],
    }
    (folder / "config.json").write_text(json.dumps(configs.to_json(config)))
    for name, content in lines.items():
        text = "".join(json.dumps(line) + "\n" for line in content)
        (folder / f"{name}.jsonl").write_text(text)
    if finished:
        (folder / "summary.json").write_text(json.dumps({"results": results}))


def _rows(results):
    """Return the cells of every row by the name it begins with."""
    lines = [line.split("|")[1:-1] for line in report.section(results).splitlines()]
    return {cells[0].strip(" `"): [cell.strip() for cell in cells] for cells in lines}


def test_rows_by_hand(tmp_path):
    config = configs.load("mnist_conv")
    three = [[0.98, 0.99, 1.0], [0.995] * 3]
    _write(tmp_path / "cells" / "a", configs.replace(config, {"seeds": 3}), three, 60.0)
    one = configs.replace(config, {"seeds": 1, "protocol": "clean"})
    _write(tmp_path / "cells" / "b", one, [[0.9], [0.8]], 90.0, finished=False)
    other = configs.replace(one, {"initialization": "he", "seeds": 3})  # of the same cost
    _write(tmp_path / "c", other, [[0.5] * 3, [0.5] * 3], 30.0)
    quicker = configs.replace(one, {"precision": "bfloat16"})  # but of another cost
    _write(tmp_path / "d", quicker, [[0.5], [0.5]], 10.0)
    random = configs.replace(one, {"feedback": "random"})
    _write(tmp_path / "e", random, [[0.5], [0.5]], 10.0)
    begun = configs.replace(configs.load("mnist_dense"), {"seeds": 1})
    _write(tmp_path / "f", begun, [[0.5], [0.5]], 90.0, finished=False)
    (tmp_path / "agrel").mkdir()
    (tmp_path / "agrel" / "config.json").write_text('{"name": "agrel"}')
    rows = _rows(tmp_path)
    assert set(configs.names()) <= rows.keys()
    assert rows["mnist_conv"][2:] == [
        "99.31 (0.04) after 63 (18) epochs",
        "99.00 (1.00), 3 seeds, paper; 90.00, 1 seed, clean, not finished",
        "99.50 (0.00), 3 seeds, paper; 80.00, 1 seed, clean, not finished",
        "1.2 s, a device",  # 30 s for 10, 10 and 5 epochs
    ]
    assert rows["mnist_dense"][-1] == "9 s, a device"  # of Q-AGREL's ten epochs alone
    assert rows["cifar100_conv"][2:] == ["not known to us", "not run", "not run", "not run"]


@pytest.mark.parametrize(
    ("changed", "cost"),
    [
        ({}, "1 s, a device"),
        ({"seeds_by": "map"}, "1 s, a device"),
        ({"dataset": "digits"}, "not run"),
        ({"architecture": "locally_connected"}, "not run"),
        ({"hidden": (7,)}, "not run"),
        ({"batch_size": 7}, "not run"),
        ({"optimizer": "adam"}, "not run"),
        ({"precision": "bfloat16"}, "not run"),
        ({"feedback": "random"}, "not run"),
        ({"trained_layers": "output"}, "not run"),
        ({"curriculum": "index"}, "not run"),
    ],
)
def test_a_run_tells_the_cost_of_networks_trained_alike(changed, cost, tmp_path):
    config = configs.replace(configs.load("mnist_dense"), {"seeds": 1, "learning_rate": 0.7})
    _write(tmp_path / "a", configs.replace(config, changed), [[0.5], [0.5]], 10.0)
    cells = _rows(tmp_path)["mnist_dense"]
    assert cells[3:] == ["not run", "not run", cost]


def test_further_seeds_are_told_once_with_those_they_belong_to(tmp_path):
    config = configs.replace(configs.load("mnist_dense"), {"seeds": 1})
    _write(tmp_path / "a", config, [[0.5], [0.5]], 10.0)
    further = configs.replace(config, {"first_seed": 1})
    _write(tmp_path / "a_from_seed_1", further, [[0.7], [0.5]], 10.0)
    ours = _rows(tmp_path)["mnist_dense"][3]
    assert ours == "60.00 (14.14), 2 seeds, paper"  # 10 √2


def test_needs_no_jax():
    import subprocess

    code = "import sys; from experiments.reports import configs; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_feedback_pathways_are_those_of_the_library_and_earlier_names_load():
    assert (names.FEEDBACKS, names.FEEDBACK_ALIASES) == (feedback.FEEDBACKS, feedback.ALIASES)
    assert names.FEEDBACK_INITS == networks.FEEDBACK_INITS
    of_probabilities = [n for n, make in rules.RULES.items() if make().estimates == "probabilities"]
    assert list(names.OF_PROBABILITIES) == of_probabilities
    now = configs.replace(configs.load("digits"), {"feedback": "kolen_pollack"})
    new = [entry for entry in configs.to_json(now) if entry.startswith("feedback_")]
    assert sorted(new) == [f"feedback_{n}" for n in ("delay", "init", "l2", "rate", "scale")]
    # A config.json of before: the earlier name, and none of the fields that came since.
    old = {k: v for k, v in configs.to_json(now).items() if k not in new}
    assert configs.from_json(old | {"feedback": "reciprocal"}) == now
