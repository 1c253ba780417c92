"""How long an epoch takes, measured on a few real compiled steps."""

import dataclasses
import functools
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp

from experiments.config import Config
from experiments.train import build
from qagrel_jax import data
from qagrel_jax.data import Dataset
from qagrel_jax.random_keys import root_keys
from qagrel_jax.training.fitting import Examples

STEPS = 3


class StepTime(NamedTuple):
    """Seconds of one step of all seeds, and of compiling it."""

    step: float
    compiling: float


@functools.cache
def excerpt(name: str, data_dir: str | None, examples: int) -> tuple[Dataset, int]:
    """Return the first ``examples`` of a data set and the number of its training images.

    Raises:
      qagrel_jax.data.DataError: the data cannot be had.
    """
    whole = data.load(name, data_dir)
    images, labels = whole.train_images[:examples].copy(), whole.train_labels[:examples].copy()
    few = whole._replace(
        train_images=images, train_labels=labels, test_images=images, test_labels=labels
    )
    return few, len(whole.train_labels)


def measure(config: Config, few: Dataset) -> StepTime:
    """Time steps of the config's first rule on the images ``few``.

    On CPU seeds run one after the other, so that one is timed and counted for each.
    """
    seeds = 1 if jax.default_backend() == "cpu" else config.seeds
    examples = Examples(jnp.asarray(few.train_images), jnp.asarray(few.train_labels))
    splits = build.Splits(examples, examples, examples)
    trainer = build.make_trainer(
        dataclasses.replace(config, seeds=seeds), config.rules[0], few, splits
    )
    states = trainer.init(root_keys(jnp.arange(seeds)))
    rows = jnp.arange(STEPS * config.batch_size) % len(examples.labels)
    order = jnp.broadcast_to(
        rows.reshape(1, STEPS, config.batch_size), (seeds, STEPS, config.batch_size)
    ).astype(jnp.int32)
    active = jnp.ones(seeds, bool)
    times = []
    for _ in range(3):
        began = time.perf_counter()
        states, _ = jax.block_until_ready(trainer.run_steps(states, active, *examples, order))
        times.append(time.perf_counter() - began)
    step = min(times[1:]) / STEPS
    return StepTime(step * config.seeds / seeds, times[0] - min(times[1:]))
