"""The table of configurations: every one is in it, numbers from summaries alone."""

import json
import sys

from experiments import config as configs
from experiments.reports import configs as report


def _write(folder, config, rule_entries):
    folder.mkdir(parents=True)
    content = {"config": configs.to_json(config), "results": rule_entries}
    (folder / "summary.json").write_text(json.dumps(content))


def _entry(rule, accuracy, seconds, config):
    return {
        "rule": rule,
        "dataset": config.dataset,
        "architecture": config.architecture,
        "test_accuracy": accuracy,
        "train_seconds": seconds,
        "epochs": 10,
        "seeds": list(range(len(accuracy))),
        "device": "a device",
    }


def test_rows_by_hand(tmp_path):
    config = configs.load("mnist_conv")
    entries = [
        _entry("q_agrel", [0.98, 0.99, 1.0], 60.0, config),
        _entry("backprop", [0.995], 9.0, config),
    ]
    _write(tmp_path / "cells" / "a", config, entries)
    other = configs.replace(config, {"initialisation": "he"})  # another recipe, the same cost
    _write(tmp_path / "b", other, [_entry("q_agrel", [0.5], 15.0, other)])
    (tmp_path / "agrel").mkdir()
    (tmp_path / "agrel" / "summary.json").write_text('{"results": [{"rule": "agrel"}]}')
    rows = {line.split("|")[1].strip(" `"): line for line in report.section(tmp_path).splitlines()}
    assert set(configs.names()) <= rows.keys()
    cells = [cell.strip() for cell in rows["mnist_conv"].split("|")[1:-1]]
    assert cells[2:] == [
        "99.31 (0.04) after 63 (18) epochs",
        "99.00 (1.00), 3 seeds, paper",
        "99.50, 1 seed, paper",
        "1.5 s, a device",
    ]
    cells = [cell.strip() for cell in rows["cifar100_conv"].split("|")[1:-1]]
    assert cells[2:] == ["not known to us", "not run", "not run", "not run"]


def test_needs_no_jax():
    import subprocess

    code = "import sys; from experiments.reports import configs; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
