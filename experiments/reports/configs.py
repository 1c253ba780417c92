"""What each configuration of ``python -m experiments.train`` is, costs and gives.

What it is and what was published stands in the configuration's file; cost and accuracy are those of
the runs among the results. Any run of the same network on the same data tells the cost; accuracy is
taken from runs of the same recipe only.
"""

import ast
import dataclasses
import json
import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments import config as configs

FREE = ("name", "rules", "seeds", "first_seed", "protocol")
"""Settings in which a run may differ from the configuration and still be its recipe."""

HEADINGS = (
    "config",
    "network, data",
    "published, Q-AGREL %",
    "measured, Q-AGREL %",
    "measured, backprop %",
    "cost: seconds for one seed and epoch of Q-AGREL",
)


def section(results: Path) -> str:
    """Return a table with a row for each configuration."""
    entries = list(_entries(results))
    lines = [HEADINGS, ["---"] * len(HEADINGS)]
    for name in configs.names():
        config = configs.load(name)
        lines.append(
            (
                f"`{name}`",
                f"{config.architecture}, {config.dataset}; batch {config.batch_size}, at most "
                f"{config.epochs} epochs, initialisation {config.initialisation}",
                published(configs.CONFIGS / f"{name}.py"),
                _accuracy(entries, config, "q_agrel"),
                _accuracy(entries, config, "backprop"),
                _cost(entries, config),
            )
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def published(path: Path) -> str:
    """Return what the docstring of a configuration's file says of the papers' figures."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    found = re.search(r"^Published (.*?)$", text, re.MULTILINE)
    if found is None:
        return "–"
    figures = re.match(r"([\d.]+) % \((?:sd )?([\d.]+)\)( after \d+ \(\d+\) epochs)?", found[1])
    return f"{figures[1]} ({figures[2]}){figures[3] or ''}" if figures else found[1]


def _entries(results: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield ``(config, entry)`` for every rule of every finished image run below ``results``."""
    for path in sorted(results.rglob("summary.json")):
        content = json.loads(path.read_text())
        config = content.get("config", {})
        for entry in content.get("results", []):
            if {"dataset", "architecture"} <= config.keys() and "train_seconds" in entry:
                # Fields that came later are at their defaults.
                yield configs.to_json(configs.from_json(config)), entry


def _accuracy(entries: list, config: configs.Config, rule: str) -> str:
    wanted = configs.to_json(config)
    keys = [f.name for f in dataclasses.fields(config) if f.name not in FREE]
    found = []
    for ran, entry in entries:
        if entry["rule"] == rule and all(ran[key] == wanted[key] for key in keys):
            values = [100 * a for a in entry["test_accuracy"]]
            spread = f" ({statistics.stdev(values):.2f})" if len(values) > 1 else ""
            found.append(
                f"{statistics.fmean(values):.2f}{spread}, {len(values)} "
                f"seed{'s' * (len(values) > 1)}, {ran['protocol']}"
            )
    return "; ".join(found) or "not run"


def _cost(entries: list, config: configs.Config) -> str:
    """The quickest on each device: other work on the machine only ever adds."""
    seconds: dict[str, float] = {}
    for ran, entry in entries:
        same = all(ran[key] == getattr(config, key) for key in ("dataset", "architecture"))
        if same and entry["rule"] == "q_agrel" and _same_sizes(ran, config):
            cost = entry["train_seconds"] / (entry["epochs"] * len(entry["seeds"]))
            device = entry["device"]
            seconds[device] = min(cost, seconds.get(device, cost))
    return "; ".join(f"{s:.2g} s, {device}" for device, s in sorted(seconds.items())) or "not run"


def _same_sizes(ran: dict[str, Any], config: configs.Config) -> bool:
    return ran.get("hidden") == configs.to_json(config)["hidden"]
