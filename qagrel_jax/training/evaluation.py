"""Accuracy of many seeds of a network on one set of images, class by class."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from qagrel_jax import checks, passes, sharding
from qagrel_jax.data import streaming
from qagrel_jax.policies import at_least_float32, nothing_to_choose
from qagrel_jax.tasks import classification
from qagrel_jax.training.examples import Examples, check_images, check_pixels, paired
from qagrel_jax.training.step import (
    CorrectFunction,
    TrainState,
    check_states,
    judge,
    variables_of,
)


def count_correct(
    network: nn.Module,
    correct: CorrectFunction,
    batch: int,
    num_classes: int,
    across_seeds: Callable,
    mesh: Mesh | None,
    states: TrainState,
    images: chex.Array,
    labels: chex.Array,
) -> tuple[chex.Array, chex.Array]:
    """Count greedy choices that are correct.

    Args:
      network: ``(images float[batch, ...][, train]) -> outputs [batch, actions]``.
      correct: ``(labels, actions) -> bool[batch]``.
      batch: images evaluated at once.
      num_classes: classes the labels run over.
      across_seeds: turns a function of one seed into that of all, see ``make_trainer``.
      mesh: the devices; None for one.
      states: of S seeds.
      images: uint8[n, height, width, channels].
      labels: int32[n]; −1 for images that are not counted.

    Returns:
      ``(correct choices float32[S, classes], images float32[classes])``.
    """
    examples = labels.shape[0]
    batches = -(-examples // batch)
    missing = batches * batch - examples
    images = jnp.pad(images, ((0, missing), *[(0, 0)] * (images.ndim - 1)))
    labels = jnp.pad(labels, (0, missing), constant_values=-1)
    images = images.reshape(batches, batch, *images.shape[1:])
    labels = labels.reshape(batches, batch)

    def one_seed(state: TrainState, shared: tuple) -> chex.Array:
        variables = variables_of(state)

        def one_batch(examples: tuple[chex.Array, chex.Array]) -> chex.Array:
            images, labels = sharding.constrain_batch(examples, mesh)
            inputs = classification.normalize(images)
            outputs = network.apply(variables, inputs, **passes.mode(network, False))
            outputs = at_least_float32(outputs)
            verdict = judge(correct, labels, outputs.argmax(-1)) & ~nothing_to_choose(outputs)
            of_class = jax.nn.one_hot(labels, num_classes)
            return (of_class * verdict[:, None].astype(of_class.dtype)).sum(0)

        return jax.lax.map(one_batch, shared).sum(0)

    counted = jax.nn.one_hot(labels, num_classes).sum((0, 1))
    return across_seeds(one_seed)(states, (images, labels)), counted


def evaluate(
    compiled_count: Callable,
    batch: int,
    num_classes: int,
    mesh: Mesh | None,
    image_shape: tuple[int, ...],
    states: TrainState,
    images: Any,
    labels: chex.Array,
) -> np.ndarray:
    """Return each seed's accuracy on each class, float64[S, classes]; 0 of a class without images.

    Args:
      compiled_count: ``count_correct`` of (states, images, labels), compiled.
      batch: images evaluated at once.
      num_classes: classes the labels run over.
      mesh: the devices; None for one.
      image_shape: (height, width, channels).
      states: of S seeds.
      images: uint8[n, height, width, channels], or ``HostImages`` to be streamed.
      labels: int32[n]; those below 0, of no class, are not counted. Of a class without an example
        the accuracy is 0.

    Raises:
      ValueError: labels that are not [n], n that of the images, or a class beyond ``num_classes``;
        images of another shape, or in memory and not finite; states that another call has consumed,
        or of one learner.
      TypeError: labels that are no whole numbers, images that are neither uint8 nor floats, states
        that are no ``TrainState``.

    Warns:
      UserWarning: images in memory look badly scaled, see ``check_pixels``. Those on a
        device are not looked at.
    """
    check_states(states)
    images, labels = paired(Examples(images, labels))
    checks.whole_numbers("labels", labels)
    if np.ndim(labels) != 1 or np.max(labels, initial=0) >= num_classes:
        raise ValueError(
            f"labels must be [n], classes below {num_classes}, got {list(np.shape(labels))} up to "
            f"{np.max(labels, initial=0)}"
        )
    check_images("the examples", images, image_shape)
    if isinstance(images, np.ndarray):  # what ``fit`` has on a device it has checked
        check_pixels("the examples", images)
    sums = None
    for examples in _chunks(images, labels, batch, mesh):
        more = compiled_count(states, *examples)
        sums = more if sums is None else jax.tree.map(jnp.add, sums, more)
    correct, counted = sharding.fetch(sums)
    return correct.astype(np.float64) / np.maximum(counted, 1)


def overall_accuracy(per_class: chex.Array, labels: chex.Array) -> np.ndarray:
    """Weigh accuracies per class [S, classes] by how often each class occurs in ``labels``.

    Args:
      per_class: float[S, classes], from ``Trainer.evaluate``.
      labels: int[n]; those below 0 are of no class, and not counted.

    Returns:
      float32[S], the fraction of all examples answered correctly.

    Raises:
      ValueError: no label is of a class, or one is of none that ``per_class`` has.
    """
    labels, classes = np.asarray(labels), np.shape(per_class)[-1]
    counts = np.bincount(labels[labels >= 0], minlength=classes)
    if len(counts) > classes:
        raise ValueError(f"labels must be classes below {classes}, got {labels.max()}")
    if not counts.any():
        raise ValueError(f"labels must have one of a class at least, got {len(labels)} of none")
    return (np.asarray(per_class, float) @ counts / counts.sum()).astype(np.float32)


def _chunks(images: Any, labels: chex.Array, batch: int, mesh: Mesh | None) -> Iterator[tuple]:
    """Cut streamed examples into chunks; those in memory are a single one."""
    if isinstance(images, streaming.HostImages) and not len(images):
        images = images.read(np.arange(0))
    if not isinstance(images, streaming.HostImages):
        yield sharding.replicate((images, labels), mesh)
        return
    labels = np.asarray(labels)
    size = min(streaming.steps_at_once(images, batch) * batch, -(-len(images) // batch) * batch)

    def read(first: int) -> tuple:
        # The last chunk is filled up with images of no class, so that one program serves all.
        rows = np.arange(first, first + size)
        classes = np.where(rows < len(labels), labels[rows % len(labels)], -1)
        return sharding.replicate((images.read(rows % len(labels)), classes), mesh)

    yield from streaming.prefetch(partial(read, i) for i in range(0, len(labels), size))
