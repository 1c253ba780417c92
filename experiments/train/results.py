"""What a run folder says, finished or not: read from its files alone."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments import config as configs
from experiments.common import files
from experiments.common.cli import UserError
from experiments.config import Config
from experiments.train import folder as run_folder
from experiments.train import summary

CONTROL = "backprop"
LEVELS = (0.95, 0.98, 0.99)
"""Fractions of backprop's best accuracy whose first epoch is reported."""

FURTHER_SEEDS = "_from_seed_"
PER_SEED = {"seeds", "test_accuracy", "best_epoch", "best_monitored_accuracy", "stopped_early"}


class RunResults(NamedTuple):
    """The results of one folder; accuracies are fractions, epochs count from 1."""

    folder: Path
    config: Config
    curves: dict[str, np.ndarray]  # rule: monitored accuracy [epochs, seeds], NaN where stopped
    summary: dict[str, Any] | None  # None: not finished
    sessions: list[dict[str, Any]]  # device, commit, command of each
    failure: str | None
    folders: tuple[Path, ...]  # with an epoch of every rule: of one run, or of further seeds, too

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
    """Read a run; None if there is none, or one without a single epoch.

    Further seeds of the same recipe, trained apart (``--first-seed K``, on another machine if need
    be), lie beside it in ``FOLDER_from_seed_K`` and are read as one run with it.

    Raises:
      UserError: a file that is there and cannot be read, or folders that are not one run.
    """
    beside = folder.parent.glob(f"{folder.name}{FURTHER_SEEDS}*") if folder.name else ()
    parts = [part for path in (folder, *beside) if (part := _read(path)) is not None]
    return _together(sorted(parts, key=lambda part: part.config.first_seed)) if parts else None


def _read(folder: Path) -> RunResults | None:
    """Read one folder."""
    if not configs.holds_run(folder):
        return None
    config = configs.saved(folder)
    lines = files.read_metrics(folder)
    content = run_folder.saved_summary(folder)
    failed = files.read_json(folder / "failed.json") or {}
    sessions = files.environments(folder)
    try:
        curves = {rule: summary.accuracy_curves(lines, rule) for rule in config.rules}
        if content is not None:
            _check(content)
            first = content["results"][0]
            sessions = sessions or [{"command": content["command"], **first}]
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None
    except (KeyError, TypeError, ValueError, IndexError):
        raise UserError(f"{folder / 'summary.json'} is damaged: move it away") from None
    if not lines:
        return None
    return RunResults(folder, config, curves, content, sessions, failed.get("error"), (folder,))


def _check(content: dict[str, Any]) -> None:
    for entry in content["results"]:
        str(entry["rule"]), np.array(entry["test_accuracy"], dtype=float)


def _together(parts: list[RunResults]) -> RunResults:
    """Put runs of one recipe side by side, seed after seed."""
    first = parts[0]
    recipe = _recipe(first.config)
    begun = [
        part
        for part in parts
        if _recipe(part.config) != recipe or all(part.ran(rule) for rule in first.curves)
    ]
    if len(parts) == 1 or not begun:
        return first
    expected = begun[0].config.first_seed
    for part in begun:
        if _recipe(part.config) != recipe or part.config.first_seed != expected:
            raise UserError(
                f"{part.folder} is not the same run as {first.folder} from seed {expected} on: "
                "rename it, or train the seeds between"
            )
        expected += part.config.seeds
    seeds = expected - begun[0].config.first_seed
    summaries = [part.summary for part in begun]
    done = [summary for summary in summaries if summary is not None]
    return RunResults(
        folder=first.folder,
        config=dataclasses.replace(begun[0].config, seeds=seeds),
        curves={rule: _side_by_side([p.curves[rule] for p in begun]) for rule in first.curves},
        summary=_joined(done) if len(done) == len(summaries) else None,
        sessions=[session for part in begun for session in part.sessions],
        failure=next((part.failure for part in begun if part.failure), None),
        folders=tuple(part.folder for part in begun),
    )


def _recipe(config: Config) -> Config:
    return dataclasses.replace(config, name="any", seeds=1, first_seed=0, epochs=1, seeds_by="auto")


def _side_by_side(curves: list[np.ndarray]) -> np.ndarray:
    """Put curves [epochs, seeds] beside each other; NaN where one ended before another."""
    longest = max(len(curve) for curve in curves)
    return np.concatenate(
        [np.pad(c, ((0, longest - len(c)), (0, 0)), constant_values=np.nan) for c in curves], 1
    )


def _joined(summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """Join what is said of each seed; of how long it took, the sum."""
    results = []
    for entries in zip(*(content["results"] for content in summaries), strict=True):
        joined = dict(entries[0])
        for key in PER_SEED & joined.keys():
            joined[key] = [value for entry in entries for value in entry[key]]
        joined["train_seconds"] = sum(entry.get("train_seconds", 0) for entry in entries)
        joined["epochs"] = max(entry.get("epochs", 0) for entry in entries)
        results.append(joined)
    return {**summaries[0], "results": results}
