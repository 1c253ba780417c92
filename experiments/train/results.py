"""What a run folder says, finished or not: read from its files alone."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.config import Config
from experiments.train import folder as run_folder
from experiments.train import summary

CONTROL = "backprop"
LEVELS = (0.95, 0.98, 0.99)
"""Fractions of backprop's final accuracy whose first epoch is reported."""


class RunResults(NamedTuple):
    """The results of one folder; accuracies are fractions, epochs count from 1."""

    folder: Path
    config: Config
    curves: dict[str, np.ndarray]  # rule: monitored accuracy [epochs, seeds], NaN where stopped
    summary: dict[str, Any] | None  # None: not finished
    sittings: list[dict[str, Any]]  # device, commit, command of each
    failure: str | None

    @property
    def finished(self) -> bool:
        """Whether every rule came to its stopping rule."""
        return self.summary is not None

    def ran(self, rule: str) -> bool:
        """Whether ``rule`` has at least one epoch."""
        return len(self.curves.get(rule, ())) > 0

    def best(self, rule: str) -> np.ndarray:
        """Return each seed's best monitored accuracy so far."""
        return np.nanmax(self.curves[rule], axis=0)

    def best_epoch(self, rule: str) -> np.ndarray:
        """Return the first epoch of each seed's best monitored accuracy."""
        return np.nanargmax(self.curves[rule], axis=0) + 1

    def accuracy(self, rule: str) -> np.ndarray:
        """Return each seed's test accuracy; of a run that is not finished, the best monitored."""
        if self.summary is None:
            return self.best(rule)
        entry = next(e for e in self.summary["results"] if e["rule"] == rule)
        return np.array(entry["test_accuracy"])

    def target(self, level: float) -> float:
        """Return ``level`` × the mean over seeds of backprop's best monitored accuracy."""
        return level * float(self.best(CONTROL).mean())

    def epochs_to(self, rule: str, target: float) -> np.ndarray:
        """Return each seed's first epoch with at least ``target``; NaN where it never got there."""
        first = [summary.first_reaching(curve, target) for curve in self.curves[rule].T]
        return np.array([np.nan if epoch is None else epoch for epoch in first])


def read(folder: Path) -> RunResults | None:
    """Read a run folder; None if it holds no run, or one without a single epoch.

    Raises:
      UserError: a file that is there and cannot be read.
    """
    if not run_folder.holds_run(folder):
        return None
    config = run_folder.saved_config(folder)
    lines = run_folder.read_lines(folder / "metrics.jsonl")
    content = run_folder.saved_summary(folder)
    failed = run_folder.read_json(folder / "failed.json")
    sittings = run_folder.read_lines(folder / "environments.jsonl")
    if content is not None and not sittings:
        first = content["results"][0]
        sittings = [{"command": content["command"], **first}]
    if not lines:
        return None
    curves = {rule: summary.accuracy_curves(lines, rule) for rule in config.rules}
    return RunResults(
        folder, config, curves, content, sittings, failed["error"] if failed else None
    )
