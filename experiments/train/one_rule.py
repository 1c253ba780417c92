"""One rule of one configuration, trained to its stopping rule inside a run folder."""

import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from experiments import config as configs
from experiments.common import files, interrupts, saved
from experiments.common.cli import UserError
from experiments.common.progress import Reporter
from experiments.config import Config
from experiments.train import folder as run_folder
from experiments.train.angles import Instrument, numbers
from experiments.train.build import Splits, fit, make_learner, make_trainer, start
from experiments.train.summary import images_per_second
from qagrel_jax import sharding, training
from qagrel_jax.data import Dataset
from qagrel_jax.training import fitting

CLASS_LEARNED = 0.5
"""A class counts as discovered once this fraction of it is classified correctly."""


class Diverged(UserError):
    """No seed's error is a finite number any longer: this run cannot continue."""


def describe(config: Config, rule: str) -> dict[str, Any]:
    """Return what a checkpoint says it is of; a run may get more epochs, and another name."""
    content = configs.to_json(config)
    del content["name"], content["epochs"]
    return {"rule": rule, "config": content}


def read_checkpoint(folder: Path, config: Config, rule: str) -> tuple[bytes, dict[str, Any]] | None:
    """Return the content and the metadata of a rule's checkpoint; None if there is none.

    Raises:
      UserError: it is damaged, or of another rule or config.
    """
    from qagrel_jax.training import checkpoints

    path = run_folder.checkpoint(folder, rule)
    if not path.is_file():
        return None
    with saved.explained(path):
        content, metadata = checkpoints.read(path)
    metadata = metadata or {}
    if (other := metadata.get("rule", rule)) != rule:
        raise UserError(f"{path} is of the rule {other}: move it away and --resume")
    with saved.explained(path):
        checkpoints.check_metadata(metadata, describe(config, rule) if metadata else {})
    return content, metadata


def check_finished(folder: Path, config: Config, summary: dict[str, Any]) -> None:
    """Raise ``UserError`` if a finished run cannot be continued, before its results are removed.

    Args:
      folder: of the run.
      config: what it is to become.
      summary: of the run as it is.
    """
    for entry in summary["results"]:
        rule, epochs = entry["rule"], range(1, entry["epochs"] + 1)
        found = read_checkpoint(folder, config, rule)
        if found is not None and not {*epochs} <= {*_epochs_there(folder, config, rule)}:
            raise _lacks_epochs(folder, rule)


def run_rule(
    folder: Path,
    config: Config,
    rule: str,
    dataset: Dataset,
    splits: Splits,
    mesh: Any = None,
    deadline: float = math.inf,
) -> dict[str, Any] | None:
    """Train ``rule`` from its checkpoint, if there is one, to the end; return its results.

    Args:
      folder: of the run.
      config: the experiment.
      rule: its name.
      dataset: the images' shape and number of classes.
      splits: from ``make_splits``.
      mesh: the devices; None: one.
      deadline: on the clock of ``time.monotonic``. A rule that begins before it gets on by one
        epoch at least. Once a second one has told how long an epoch takes (the first compiles),
        none is begun that would end after it. What is done is saved.

    Returns:
      What ``summary.json`` says of the rule, less what depends on the other rules; None if the
      deadline came first.

    Raises:
      UserError: a network that does not fit the images, a damaged checkpoint.
      Diverged: every seed has diverged. Where others are left, a seed that diverges stops.
    """
    if sharding.agree(time.monotonic() >= deadline):
        return None
    checkpoint = run_folder.checkpoint(folder, rule)
    trainer = make_trainer(config, rule, dataset, splits, mesh)
    run = _resumed(folder, checkpoint, config, rule, start(trainer, config, dataset))
    saver = _Saver(checkpoint, int(run.epoch), describe(config, rule))
    instrument = None
    if config.feedback != "tied":
        learner = make_learner(config, rule, dataset)
        instrument = Instrument(learner, splits.monitored, config.angle_images)
    try:
        run = _learn(folder, config, rule, trainer, run, splits, deadline, saver, instrument)
    except fitting.DivergedError as error:
        there = checkpoint.is_file()
        kept = f"the last good checkpoint is {checkpoint}" if there else "no epoch was finished"
        named = str(error.counted_from(config.first_seed))
        other = "a lower --learning-rate"
        if config.curriculum != "off":  # a batch of few classes changes the same weights
            other += " or a higher --curriculum-start"
        if config.seeds > 1:
            named += ", as the other seeds did"
        raise Diverged(f"{rule}: {named}; {kept}; try {other} in a new --out") from None
    saver.save(run, at_once=True)
    if not _finished(run, config):
        return None
    return _results(folder, config, rule, trainer, run, splits)


def _resumed(
    folder: Path, checkpoint: Path, config: Config, rule: str, started: fitting.Fit
) -> fitting.Fit:
    """Read the checkpoint, if there is one; cut off lines of epochs that it does not have.

    Without one the rule begins anew, and the epochs that were there are kept in other files. (One
    epoch is what a kill before the first checkpoint leaves.)
    """
    run = saved.load(checkpoint, started, describe(config, rule)) or started
    metrics, timings = folder / "metrics.jsonl", folder / "timings.jsonl"
    if not checkpoint.is_file() and len(_epochs_there(folder, config, rule)) > 1:
        kept = [run_folder.keep_aside(path) for path in (metrics, timings) if path.is_file()]
        print(
            f"{checkpoint} is not there: {rule} begins anew; the epochs that were there are in "
            f"{', '.join(path.name for path in kept)}",
            file=sys.stderr,
        )
    for path in (metrics, timings):
        run_folder.cut_lines(path, rule, int(run.epoch))
    if _epochs_there(folder, config, rule) != list(range(1, int(run.epoch) + 1)):
        raise _lacks_epochs(folder, rule)
    return run


def _lacks_epochs(folder: Path, rule: str) -> UserError:
    metrics, checkpoint = folder / "metrics.jsonl", run_folder.checkpoint(folder, rule)
    return UserError(
        f"{metrics} lacks epochs that {checkpoint} has done: move the latter away to start this "
        "rule anew"
    )


def _learn(
    folder: Path,
    config: Config,
    rule: str,
    trainer: training.Trainer,
    run: fitting.Fit,
    splits: Splits,
    deadline: float,
    saver: "_Saver",
    instrument: Instrument | None,
) -> fitting.Fit:
    """Train to the stopping rule or the deadline; write each epoch's lines, report and save."""
    seeds = f", {config.seeds} seeds" if config.seeds > 1 else ""
    with Reporter(f"{config.name} {rule}{seeds}", config.epochs) as reporter:
        begun = f"resumed after epoch {int(run.epoch)}" if run.epoch else "compiling"
        reporter.update(int(run.epoch), begun, bool(run.epoch))
        state = ""

        def on_chunk(epoch: int, done: int, steps: int) -> None:
            reporter.update(epoch - 1 + done / steps, state)

        session = max(0, len(files.environments(folder)) - 1)  # the one that is at work
        epochs = fit(trainer, run, splits, config, on_chunk=on_chunk)
        shown = config.epoch_of(len(splits.train.labels))[1]
        timed = _timed(epochs, run, config, shown, deadline)
        for run, record, seconds, images in timed:
            timing = {"rule": rule, "epoch": record.epoch, "seconds": seconds, "images": images}
            timing["session"] = session
            line = _metrics_line(rule, config, run, record)
            if instrument is not None:
                line |= instrument.measure(run.states)
            with interrupts.held_back():
                files.append_line(folder / "metrics.jsonl", line)
                files.append_line(folder / "timings.jsonl", timing)
                saver.save(run)
            for error in record.diverged:
                named = error.counted_from(config.first_seed)
                print(f"{rule}: {named}; it stops, the others go on", file=sys.stderr)
            accuracy = f"{config.monitored} {100 * np.nanmean(record.accuracy):.2f} %"
            state = f"{accuracy}  {images / seconds:,.0f} images/s"
            reporter.update(record.epoch, state)
        if _finished(run, config):
            reporter.finish(f"{int(run.epoch)}/{config.epochs}", state or "done before")
        else:
            reporter.update(int(run.epoch), state, important=True)
    return run


def _timed(
    epochs: Iterator[tuple[fitting.Fit, fitting.EpochRecord]],
    run: fitting.Fit,
    config: Config,
    shown: int,
    deadline: float,
) -> Iterator[tuple[fitting.Fit, fitting.EpochRecord, float, int]]:
    """Yield each epoch with its seconds and the images of all seeds; begin none that ends late.

    Args:
      epochs: of ``fitting.fit``.
      run: what they begin with.
      config: says when the run is finished.
      shown: images that one seed sees in an epoch.
      deadline: see ``run_rule``.
    """
    done, seconds = 0, 0.0
    while not _finished(run, config):
        expected = seconds if done > 1 else 0.0  # the first one compiled
        if done and sharding.agree(time.monotonic() + expected >= deadline):
            return
        began, active = time.perf_counter(), int(run.active.sum())
        run, record = next(epochs)
        done += 1
        seconds = time.perf_counter() - began
        yield run, record, seconds, active * shown


def _results(
    folder: Path,
    config: Config,
    rule: str,
    trainer: training.Trainer,
    run: fitting.Fit,
    splits: Splits,
) -> dict[str, Any]:
    if config.protocol == "paper":
        test_accuracy = run.best_accuracy
    else:
        per_class = trainer.evaluate(run.best, *splits.test)
        test_accuracy = training.overall_accuracy(per_class, splits.test.labels)
    lines = [
        line
        for line in files.read_lines(folder / "timings.jsonl")
        if line.get("rule") == rule and {"images", "seconds"} <= line.keys()
    ]
    return {
        "rule": rule,
        "seeds": list(range(config.first_seed, config.first_seed + config.seeds)),
        "test_accuracy": [float(a) for a in test_accuracy],
        "best_epoch": [int(e) for e in run.best_epoch],
        "best_monitored_accuracy": [float(a) for a in run.best_accuracy],
        "epochs": int(run.epoch),
        "stopped_early": [bool(s) for s in ~run.active],
        "images_per_second": images_per_second(lines),
        "train_seconds": float(sum(line["seconds"] for line in lines)),
    }


def _epochs_there(folder: Path, config: Config, rule: str) -> list[int]:
    """The epochs of ``rule`` whose line of metrics is whole."""
    accuracy = f"{config.monitored}_accuracy"
    needed = (accuracy, "train_accuracy", "error", "classes_learned", "class_accuracy")
    return [
        line["epoch"]
        for line in files.read_metrics(folder, "metrics.jsonl", needed)
        if line["rule"] == rule and _is_by_seed(line[accuracy], config.seeds)
    ]


def _is_by_seed(values: Any, seeds: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == seeds
        and all(value is None or isinstance(value, float | int) for value in values)
    )


def _metrics_line(
    rule: str, config: Config, run: fitting.Fit, record: fitting.EpochRecord
) -> dict[str, Any]:
    line = {
        "rule": rule,
        "epoch": record.epoch,
        "step": int(sharding.fetch(run.states.step).max()),
        f"{config.monitored}_accuracy": numbers(record.accuracy),
        "train_accuracy": numbers(record.train_accuracy),
        "error": numbers(record.error),
        "classes_learned": numbers(
            np.where(
                np.isnan(record.accuracy),
                np.nan,
                (record.class_accuracy >= CLASS_LEARNED).sum(1),
            )
        ),
        "class_accuracy": [round(float(a), 5) for a in np.nanmean(record.class_accuracy, axis=0)],
    }
    if config.curriculum != "off":
        count = sharding.fetch(run.states.curriculum.count)
        line["active_classes"] = [int(n) for n in count]
    return line


def _finished(run: fitting.Fit, config: Config) -> bool:
    return int(run.epoch) >= config.epochs or not bool(run.active.any())


class _Saver:
    """Saves checkpoints no more often than keeps their cost under a twentieth of the run's time."""

    def __init__(self, path: Path, epoch: int, metadata: dict[str, Any]) -> None:
        self._path, self._metadata = path, metadata
        self._epoch = epoch  # that the file holds
        self._next = float("-inf")

    def save(self, run: fitting.Fit, at_once: bool = False) -> None:
        began, epoch = time.monotonic(), int(run.epoch)
        if epoch != self._epoch and sharding.agree(at_once or began >= self._next):
            saved.save(self._path, run, self._metadata)
            now, self._epoch = time.monotonic(), epoch
            self._next = now + 20 * (now - began)
