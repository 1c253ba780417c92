"""What is timed: the papers' networks on random images, through the project's own training path.

A cell is a configuration of ``experiments/configs`` with the shape of its images. Speed does not
depend on what the images show, so uint8 noise stands in for them and no data set is needed.
"""

import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from experiments.benchmark.timing import Subject
from experiments.config import Config
from experiments.train import build
from qagrel_jax import sharding
from qagrel_jax.data import Dataset
from qagrel_jax.networks import make_network
from qagrel_jax.random_keys import root_keys
from qagrel_jax.training import fitting

IMAGES = 2048
CLASSES = 10
ACCELERATOR_STEPS = 100
"""Steps in one compiled call on an accelerator, about what ``fitting.fit`` compiles into one."""

MOST_CORES = 8
"""Each has a network of its own, and its memory."""


def random_dataset(image_shape: tuple[int, ...]) -> Dataset:
    """Return ``IMAGES`` uint8 noise images with random labels out of ``CLASSES``."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (IMAGES, *image_shape), dtype=np.uint8)
    labels = generator.integers(0, CLASSES, IMAGES, dtype=np.int32)
    return Dataset("random", "0", images, labels, images[:CLASSES], labels[:CLASSES], CLASSES)


class Bench:
    """One cell ready to be timed: its data on the device and one initial state.

    Args:
      config: the experiment; its rules and number of seeds are not used.
      image_shape: (height, width, channels).
      steps: training steps in one compiled call on CPU. At least 2: XLA takes a loop of one
        iteration apart, and what it then compiles is not what training runs.
    """

    def __init__(self, config: Config, image_shape: tuple[int, ...], steps: int) -> None:
        self.config, self.image_shape = config, image_shape
        on_cpu = jax.default_backend() == "cpu"
        self.steps = steps if on_cpu else max(steps, ACCELERATOR_STEPS)
        self.dataset = random_dataset(image_shape)
        examples = fitting.Examples(self.dataset.train_images, self.dataset.train_labels)
        self.examples = jax.tree.map(jnp.asarray, examples)
        # Of the trainer's network, what the layers' shapes depend on.
        hidden: dict[str, Any] = {} if config.hidden is None else {"hidden": config.hidden}
        self.network = make_network(config.architecture, CLASSES, **hidden)
        self._splits = build.Splits(self.examples, self.examples, self.examples)
        began = time.perf_counter()
        trainer = self._trainer("q_agrel")
        self._initial = jax.block_until_ready(trainer.init(root_keys(jnp.arange(1))))
        self.init_seconds = time.perf_counter() - began

    def rows(self, seeds: int) -> np.ndarray:
        """Draw which images are shown: int32[seeds, steps, batch]."""
        shape = (seeds, self.steps, self.config.batch_size)
        return np.random.default_rng(1).integers(0, IMAGES, shape, dtype=np.int32)

    def subject(self, rule: str, seeds: int = 1, mesh: Mesh | None = None) -> Subject:
        """Compile ``run_steps`` of ``rule`` for so many seeds at once; compiling is timed apart.

        Args:
          rule: its name.
          seeds: how many.
          mesh: devices that the seeds are divided over, one each, or the batch of one seed; None:
            one device for all.
        """
        run_steps = self._trainer(rule, mesh).run_steps
        # All seeds start from the same weights: that changes no speed and saves a compilation.
        states = jax.tree.map(lambda x: jnp.repeat(x, seeds, axis=0), self._initial)
        states = states._replace(key=root_keys(jnp.arange(seeds)))
        active, order = jnp.ones(seeds, bool), jnp.asarray(self.rows(seeds))
        states, active, order = sharding.by_seed((states, active, order), mesh)
        rest = (active, *sharding.replicate(self.examples, mesh), order)
        began = time.perf_counter()
        compiled = run_steps.lower(states, *rest).compile()
        seconds = time.perf_counter() - began
        name = rule if seeds == 1 else f"{rule}_{seeds}_seeds"
        if mesh is not None:
            name = f"{rule}_{'batch' if seeds == 1 else 'seeds'}_on_cores"
        return Subject(
            name,
            self.steps,
            _caller(compiled, states, rest),
            images_per_step=seeds * self.config.batch_size,
            compile_seconds=seconds,
            program_bytes=program_bytes(compiled),
            text=compiled.as_text,
        )

    def _trainer(self, rule: str, mesh: Mesh | None = None) -> Any:
        return build.make_trainer(self.config, rule, self.dataset, self._splits, mesh)


def meshes_of_cores(batch_size: int) -> list[Mesh]:
    """Return the ways to use the cores of a CPU as devices: a seed each, and a part of the batch.

    Each takes at most ``MOST_CORES``, and is left out where it would take one alone.
    """
    if jax.default_backend() != "cpu":
        return []
    cores = min(jax.device_count(), MOST_CORES)
    parts = max(n for n in range(1, cores + 1) if batch_size % n == 0)
    shapes = {"seeds": cores}, {"batch": parts}
    return [sharding.make_mesh(**shape) for shape in shapes if max(shape.values()) > 1]


def program_bytes(compiled: Any) -> int | None:
    """Return what a compiled program needs: arguments + results − what they share + temporaries."""
    sizes = compiled.memory_analysis()
    if sizes is None:
        return None
    return int(
        sizes.argument_size_in_bytes
        + sizes.output_size_in_bytes
        - sizes.alias_size_in_bytes
        + sizes.temp_size_in_bytes
    )


class PeakMemory(NamedTuple):
    """Most memory in use so far, bytes; None where it cannot be told."""

    process: int | None  # resident, whole process, since the last ``reset_peak_memory``
    device: int | None  # allocated by JAX on its accelerator, since the process began


def reset_peak_memory() -> None:
    """Let the process's peak memory start again from what is resident now (Linux)."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass


def peak_memory() -> PeakMemory:
    """Read the peak memory."""
    stats = jax.devices()[0].memory_stats() or {}
    process = None
    if os.access("/proc/self/clear_refs", os.W_OK):
        with open("/proc/self/status") as file:
            kilobytes = [line.split()[1] for line in file if line.startswith("VmHWM:")]
        process = 1024 * int(kilobytes[0]) if kilobytes else None
    return PeakMemory(process, stats.get("peak_bytes_in_use"))


def _caller(compiled: Any, states: Any, rest: tuple) -> Callable[[], None]:
    held = [states]

    def call() -> None:
        # The states are donated, so each call continues where the one before ended.
        held[0], metrics = compiled(held[0], *rest)
        jax.block_until_ready((held[0].params, metrics))

    return call
