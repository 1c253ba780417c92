"""One setting of a control, trained with the image runs' data, rule, network and optimizer."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments import config as configs
from experiments.controls.settings import Setting
from experiments.controls.unfinished import BY_LAYER, Unfinished
from experiments.train import build
from experiments.train.angles import Instrument
from qagrel_jax import training
from qagrel_jax.data import Dataset
from qagrel_jax.training import fitting

PROBE_IMAGES = 256
"""Number of training images on which updates are compared."""


def part_of(dataset: Dataset, classes: int, train_images: int) -> Dataset:
    """Keep the first ``classes`` classes and then ``train_images`` training images; 0: all."""
    if classes:
        train, test = dataset.train_labels < classes, dataset.test_labels < classes
        dataset = dataset._replace(
            train_images=dataset.train_images[train],
            train_labels=dataset.train_labels[train],
            test_images=dataset.test_images[test],
            test_labels=dataset.test_labels[test],
            num_classes=classes,
        )
    if train_images:
        dataset = dataset._replace(
            train_images=dataset.train_images[:train_images],
            train_labels=dataset.train_labels[:train_images],
        )
    return dataset


def train(
    setting: Setting,
    dataset: Dataset,
    measure_angles: bool,
    on_epoch: Callable[[int, str], None],
    keep: Unfinished | None = None,
) -> dict[str, Any]:
    """Train ``setting`` on all its seeds and return its line of the summary.

    A seed that diverges ends the setting; its line then says where, and has no accuracies. With
    ``keep`` a setting that was killed continues where it was, in the same bits.
    """
    config = setting.config
    dataset = part_of(dataset, setting.classes, setting.train_images)
    splits = build.make_splits(dataset, config)
    trainer = build.make_trainer(config, setting.rule, dataset, splits)
    start = build.start(trainer, config, dataset)
    line = _begun(setting, dataset, splits)
    instrument = None
    if measure_angles:
        learner = build.make_learner(config, setting.rule, dataset)
        instrument = Instrument(learner, splits.train, PROBE_IMAGES)
        line |= {name: {} for name in BY_LAYER}
    run, before = keep.load(setting.label, start, line) if keep else (start, 0.0)
    if instrument and run is start:
        _add_angles(line, instrument.measure(start.states))
    began = time.perf_counter() - before
    try:
        for after, record in build.fit(trainer, run, splits, config):
            run = after
            for error in record.diverged:
                raise error
            _add_epoch(line, run, record)
            if instrument:
                _add_angles(line, instrument.measure(run.states))
            if keep:
                keep.save(setting.label, run, line, time.perf_counter() - began)
            on_epoch(record.epoch, f"validation {100 * record.accuracy.mean():.2f} %")
    except fitting.DivergedError as error:
        named = error.counted_from(config.first_seed)
        kept = {name: value for name, value in line.items() if name not in BY_LAYER}
        return kept | {"diverged": str(named), "validation_accuracy": []}
    per_class = trainer.evaluate(run.best, *splits.test)
    test_accuracy = training.overall_accuracy(per_class, splits.test.labels)
    return line | {
        "best_validation_accuracy": [float(a) for a in run.best_accuracy],
        "best_epoch": [int(e) for e in run.best_epoch],
        "test_accuracy": [float(a) for a in test_accuracy],
        "train_seconds": round(time.perf_counter() - began, 1),
    }


def _begun(setting: Setting, dataset: Dataset, splits: build.Splits) -> dict[str, Any]:
    """Return the setting's line of the summary before the first epoch."""
    config = setting.config
    line: dict[str, Any] = {
        "label": setting.label,
        "rule": setting.rule,
        "family": setting.competes_with,
        "x": setting.x,
        "classes": setting.classes or dataset.num_classes,
        "train_images": len(splits.train.labels),
        "config": configs.to_json(config),
        "seeds": list(range(config.first_seed, config.first_seed + config.seeds)),
        "diverged": None,
        "images_an_epoch": config.epoch_of(len(splits.train.labels))[1],
        "validation_accuracy": [],  # by epoch, by seed
        "class_accuracy": [],  # by epoch, by class: mean of the seeds
    }
    if config.curriculum != "off":
        line["active_classes"] = []  # by epoch, by seed
    return line


def _add_epoch(line: dict[str, Any], run: fitting.Fit, record: fitting.EpochRecord) -> None:
    line["validation_accuracy"].append([round(float(a), 5) for a in record.accuracy])
    line["class_accuracy"].append(
        [round(float(a), 4) for a in np.nanmean(record.class_accuracy, axis=0)]
    )
    if "active_classes" in line:
        line["active_classes"].append(np.asarray(run.states.curriculum.count).tolist())


def _add_angles(line: dict[str, Any], found: dict[str, dict[str, list[float | None]]]) -> None:
    for name in BY_LAYER:  # then by epoch (0: before learning), by seed
        for layer, values in found[name].items():
            row = [None if value is None else round(value, 2) for value in values]
            line[name].setdefault(layer, []).append(row)
