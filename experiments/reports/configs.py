"""What each configuration of ``python -m experiments.train`` is, costs and gives.

What it is and what was published stands in the configuration's file; cost and accuracy are those of
the runs among the results. Any run of the same network on the same data, trained alike, tells the
cost; accuracy is taken from runs of the same recipe only, of those not finished the best so far.
"""

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from experiments import config as configs
from experiments.common import display, files
from experiments.common.significance import mean_sd
from experiments.reports import markdown, runs
from experiments.train import results as run_results
from experiments.train.results import RunResults

FREE = ("name", "rules", "seeds", "first_seed", "protocol", "seeds_by", "last_batch")
"""Settings in which a run may differ from the configuration and still be its recipe."""

COSTLY = (
    "dataset",
    "architecture",
    "hidden",
    "batch_size",
    "optimizer",
    "precision",
    "feedback",
    "trained_layers",
    "curriculum",
)
"""Settings on which the time of an epoch depends."""

HEADINGS = (
    "config",
    "network, data",
    "published, Q-AGREL %",
    "test accuracy, Q-AGREL %",
    "test accuracy, backprop %",
    "seconds per epoch and seed, Q-AGREL",
)


def section(results: Path) -> str:
    """Return a table with a row for each configuration."""
    found = list(_runs(results))
    rows = []
    for name in configs.names():
        config = configs.load(name)
        rows.append(
            (
                f"`{name}`",
                f"{config.architecture}, {config.dataset}; batch {config.batch_size}, at most "
                f"{config.epochs} epochs, initialization {config.initialization}",
                published(configs.CONFIGS / f"{name}.py"),
                _accuracy(found, config, runs.RULE),
                _accuracy(found, config, run_results.CONTROL),
                _cost(found, config),
            )
        )
    return markdown.table(HEADINGS, rows)


def published(path: Path) -> str:
    """Return what the docstring of a configuration's file says of the papers' figures."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    found = re.search(r"^Published (.*?)$", text, re.MULTILINE)
    if found is None:
        return "–"
    figures = re.match(r"([\d.]+) % \((?:sd )?([\d.]+)\)( after \d+ \(\d+\) epochs)?", found[1])
    return f"{figures[1]} ({figures[2]}){figures[3] or ''}" if figures else found[1]


def _runs(results: Path) -> Iterator[RunResults]:
    """Yield every image run below ``results`` that has an epoch, finished or not."""
    for path in sorted(results.rglob("config.json")):
        further = run_results.FURTHER_SEEDS in path.parent.name
        if not further and {"dataset", "architecture"} <= (files.read_json(path) or {}).keys():
            run = run_results.read(path.parent)
            if run is not None:
                yield run


def _accuracy(found: list[RunResults], config: configs.Config, rule: str) -> str:
    keys = [f.name for f in dataclasses.fields(config) if f.name not in FREE]
    texts = []
    for run in found:
        if run.ran(rule) and all(getattr(run.config, key) == getattr(config, key) for key in keys):
            values = 100 * run.accuracy(rule)
            seeds = display.counted(len(values), "seed")
            notes = "" if run.finished else ", not finished"
            if runs.drops_images(run):
                notes += ", without the last batch"
            lost = sum(epoch is not None for epoch in run.diverged[rule])
            notes += f", {lost} diverged" * bool(lost)
            texts.append(f"{mean_sd(values, 2)}, {seeds}, {run.config.protocol}{notes}")
    return "; ".join(texts) or "not run"


def _cost(found: list[RunResults], config: configs.Config) -> str:
    """The quickest on each device: other work on the machine only ever adds."""
    seconds: dict[str, float] = {}
    for run in found:
        if all(getattr(run.config, key) == getattr(config, key) for key in COSTLY):
            cost, device = _seconds(run), runs.devices(run)
            if cost is not None:
                seconds[device] = min(cost, seconds.get(device, cost))
    costs = [f"{_two_digits(s)} s, {device}" for device, s in sorted(seconds.items())]
    return "; ".join(costs) or "not run"


def _two_digits(seconds: float) -> str:
    """Return two digits, or whole seconds.

    >>> _two_digits(0.0413), _two_digits(7.68), _two_digits(112.3)
    ('0.041', '7.7', '112')
    """
    return f"{seconds:.2g}" if seconds < 99.5 else f"{seconds:,.0f}"


def _seconds(run: RunResults) -> float | None:
    """Seconds that one seed's epoch of Q-AGREL took, on average."""
    epochs = np.isfinite(run.curves.get(runs.RULE, np.array([]))).sum()  # of all seeds together
    if run.summary is not None:
        for entry in run.summary["results"]:
            if entry["rule"] == runs.RULE:
                return entry["train_seconds"] / epochs
    lines = [line for f in run.folders for line in files.read_lines(f / "timings.jsonl")]
    found = [line["seconds"] for line in lines if line["rule"] == runs.RULE]
    return sum(found) / epochs if found else None
