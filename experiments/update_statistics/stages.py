"""What is learned, and weights at every stage of a rule's training."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import config as configs
from experiments.common import saved
from experiments.common.cli import UserError
from experiments.controls.run import part_of
from experiments.train import build
from experiments.update_statistics.settings import RULES, Plan
from qagrel_jax import training
from qagrel_jax.data import Dataset
from qagrel_jax.random_keys import root_keys
from qagrel_jax.training import fitting


class Problem(NamedTuple):
    """What is learned: the first classes of a data set, and its splits."""

    dataset: Dataset
    splits: build.Splits
    images: jax.Array  # uint8[n, ...], those that are measured
    labels: jax.Array  # int32[n]


def make_problem(plan: Plan, dataset: Dataset, classes: int) -> Problem:
    """Take the first ``classes`` classes of ``dataset``.

    Raises:
      UserError: images that are not in memory.
    """
    if classes < dataset.num_classes:
        dataset = part_of(dataset, classes, 0)
    splits = build.make_splits(dataset, plan.config)
    images = splits.train.images
    if not isinstance(images, jax.Array):
        raise UserError("images above $QAGREL_JAX_RESIDENT_GIB cannot be measured: raise it")
    count = plan.images or None
    return Problem(dataset, splits, images[:count], splits.train.labels[:count])


def weights_at_stages(
    folder: Path, plan: Plan, label: str, problem: Problem, report: Callable[[str], None]
) -> Iterator[tuple[int, training.TrainState, np.ndarray]]:
    """Train ``label`` and yield (epoch, states of all seeds, accuracy [seeds]) at every stage.

    A stage that was reached before is read from ``folder``; training continues from there.
    """
    classes = problem.dataset.num_classes
    config = plan.config_of(label)
    trainer = build.make_trainer(config, RULES[label].rule, problem.dataset, problem.splits)
    seeds = jnp.arange(config.first_seed, config.first_seed + config.seeds)
    run = fitting.start(trainer, root_keys(seeds))
    settled = configs.to_json(config)
    for stage in sorted(plan.stages):
        path = folder / f"weights_{label}_{classes}_{stage}.msgpack"
        about = {"label": label, "classes": classes, "stage": stage, "config": settled}
        kept = saved.load(path, run, about)
        if kept is not None:
            run = kept
        elif run.epoch < stage:
            to_stage = dataclasses.replace(config, epochs=stage, patience=stage + 1)
            try:
                for after, record in build.fit(trainer, run, problem.splits, to_stage):
                    run = after
                    for error in record.diverged:
                        raise error
                    shown = f"{100 * np.mean(record.accuracy):.1f} %"
                    report(f"{label}, {classes} classes: trained {record.epoch} epochs, {shown}")
            except fitting.DivergedError as error:
                named = error.counted_from(config.first_seed)
                raise UserError(f"{label}: {named}; try a lower learning rate") from None
        if kept is None:
            saved.save(path, run, about)
        per_class = trainer.evaluate(run.states, *problem.splits.monitored)
        labels = problem.splits.monitored.labels
        yield stage, run.states, training.overall_accuracy(per_class, labels)
