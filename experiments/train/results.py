"""What a run folder says, finished or not: read from its files alone."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments import config as configs
from experiments.common import fields, files
from experiments.common.cli import UserError
from experiments.config import Config
from experiments.train import folder as run_folder
from experiments.train import joined, summary

CONTROL = "backprop"
LEVELS = (0.95, 0.98, 0.99)
"""Fractions of backprop's best accuracy whose first epoch is reported."""

FURTHER_SEEDS = "_from_seed_"
LATE_EPOCHS = 10
"""Epochs at a run's end over which accuracies are averaged: no epoch is chosen by them."""
NOT_RECIPE = {"name", "seeds", "first_seed", "seeds_by"}
"""Fields of ``Config`` in which parts of one run may differ."""


class RunResults(NamedTuple):
    """The results of one folder; accuracies are fractions, epochs count from 1."""

    folder: Path
    config: Config
    curves: dict[str, np.ndarray]  # rule: monitored accuracy [epochs, seeds], NaN where stopped
    summary: dict[str, Any] | None  # None: not finished
    sessions: list[dict[str, Any]]  # device, commit, command of each
    failure: str | None
    folders: tuple[Path, ...]  # with an epoch of every rule: of one run, or of further seeds, too
    known: dict[str, np.ndarray]  # rule: 1 where every class is known [epochs, seeds], or empty
    diverged: dict[str, list[int | None]]  # rule: each seed's epoch, None: it did not

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

    def late(self, rule: str) -> np.ndarray:
        """Return each seed's mean monitored accuracy over its last ``LATE_EPOCHS`` epochs."""
        curves = (curve[~np.isnan(curve)] for curve in self.curves[rule].T)
        return np.array([curve[-LATE_EPOCHS:].mean() for curve in curves])

    def epochs_to_all_classes(self, rule: str) -> np.ndarray | None:
        """Return each seed's first epoch with every class known, NaN where it never was.

        None: it was not recorded.
        """
        known = self.known[rule] == 1
        if not known.size or known.shape != self.curves[rule].shape:
            return None
        return np.where(known.any(0), known.argmax(0) + 1.0, np.nan)

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
    be), lie beside it in ``FOLDER_from_seed_K`` and are read as one run with it. Their number of
    epochs may be another where no seed needed all of them.

    Raises:
      UserError: a file that is there and cannot be read, or folders that are not one run.
    """
    parts = [part for path in (folder, *further(folder)) if (part := _read(path)) is not None]
    return _together(sorted(parts, key=lambda part: part.config.first_seed)) if parts else None


def further(folder: Path) -> list[Path]:
    """Return the folders of further seeds beside that of a run."""
    return sorted(folder.parent.glob(f"{folder.name}{FURTHER_SEEDS}*")) if folder.name else []


def of_another_recipe(parts: Sequence[tuple[Path, Config]], any_epochs: bool = False) -> str | None:
    """Say which folder does not hold further seeds of the first one's run; None if all do.

    Args:
      parts: folders and what they train.
      any_epochs: whether the numbers of epochs may differ.
    """
    (place, first), *rest = parts
    free = NOT_RECIPE | ({"epochs"} if any_epochs else set())
    for folder, config in rest:
        if names := [name for name in fields.difference(first, config) if name not in free]:
            told = fields.told(first, config, names, (f"in {place.name}", f"in {folder.name}"))
            return f"{folder} is not the same run as {place} ({told})"
    return None


def not_in_a_row(parts: Sequence[tuple[Path, Config]]) -> str | None:
    """Say which folder does not begin at the seed after those before it; None if all do.

    Args:
      parts: folders and what they train, by first seed.
    """
    (place, first), *rest = parts
    expected = first.first_seed + first.seeds
    for folder, config in rest:
        if config.first_seed != expected:
            return f"{folder} is not the same run as {place} from seed {expected} on"
        expected += config.seeds
    return None


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
        known = {rule: summary.all_classes_known(lines, rule) for rule in config.rules}
        diverged = {rule: summary.diverged(lines, rule) for rule in config.rules}
        if content is not None:
            _check(content, curves)
            first = content["results"][0]
            sessions = sessions or [{"command": content["command"], **first}]
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None
    except (KeyError, TypeError, ValueError, IndexError):
        raise UserError(f"{folder / 'summary.json'} is damaged: move it away") from None
    if not lines:
        return None
    failure = failed.get("error")
    return RunResults(
        folder, config, curves, content, sessions, failure, (folder,), known, diverged
    )


def _check(content: dict[str, Any], curves: dict[str, np.ndarray]) -> None:
    for entry in content["results"]:
        rule = str(entry["rule"])
        np.array(entry["test_accuracy"], dtype=float)
        if rule not in curves:  # of another recipe, which is told elsewhere
            continue
        found = len(curves[rule])
        told = entry.get("epochs", found)  # missing in files of older versions
        if found != told:
            raise UserError(
                f"metrics.jsonl has {found} epochs of {rule}, summary.json tells of {told}: copy "
                "them again, or move the run away"
            )


def _together(parts: list[RunResults]) -> RunResults:
    """Put runs of one recipe side by side, seed after seed."""
    first = parts[0]
    if len(parts) == 1:
        return first
    any_epochs = all(_stopped_early(part) for part in parts)
    if problem := of_another_recipe(_configs(parts), any_epochs):
        raise UserError(f"{problem}: rename it, or train both with the same settings")
    begun = [part for part in parts if all(part.ran(rule) for rule in first.curves)]
    if not begun:
        return first
    if problem := not_in_a_row(_configs(begun)):
        raise UserError(f"{problem}: rename it, or train the seeds between")
    seeds = sum(part.config.seeds for part in begun)
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
        known={rule: _side_by_side([p.known[rule] for p in begun]) for rule in first.known},
        diverged={rule: [e for p in begun for e in p.diverged[rule]] for rule in first.diverged},
    )


def _configs(parts: Sequence[RunResults]) -> list[tuple[Path, Config]]:
    return [(part.folder, part.config) for part in parts]


def _stopped_early(part: RunResults) -> bool:
    """Whether each seed of each rule came to its stopping rule: more epochs change nothing."""
    entries = [] if part.summary is None else part.summary["results"]
    return bool(entries) and all(all(entry.get("stopped_early", [False])) for entry in entries)


def _side_by_side(curves: list[np.ndarray]) -> np.ndarray:
    """Put curves [epochs, seeds] beside each other; NaN where one ended before another."""
    longest = max(len(curve) for curve in curves)
    return np.concatenate(
        [np.pad(c, ((0, longest - len(c)), (0, 0)), constant_values=np.nan) for c in curves], 1
    )


def _joined(summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """Join what is said of each seed; of how long it took, the sum; nothing of all together."""
    common = {k: v for k, v in summaries[0].items() if k not in joined.OF_ALL_SEEDS}
    entries = zip(*(content["results"] for content in summaries), strict=True)
    return {**common, "results": [joined.entry(parts) for parts in entries]}
