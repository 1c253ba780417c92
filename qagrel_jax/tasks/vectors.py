"""Small direct-reward tasks on vectors: a pattern is shown, one of n actions is right.

Tasks of the kind AGREL was introduced with (Roelfsema & van Ooyen 2005): each is a finite set of
input patterns, drawn with equal probability, one a trial. The action is rewarded with 1 if it is
the pattern's, else with 0. The label stays with the task.

===============  ==================================================================================
``xor``          two bits; is exactly one of them on?
``count_ones``   a binary vector; how many ones?
``orientation``  a bar of some tilt and color in a population code; is it tilted left or right,
                 whatever its color?
``images``       labeled images as flat vectors in [0, 1]; which class?
===============  ==================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from qagrel_jax import checks
from qagrel_jax.policies import softmax_probabilities


class VectorTask(NamedTuple):
    """A direct-reward task: all of its patterns, and the correct action for each."""

    inputs: chex.Array  # float32[patterns, features]
    labels: chex.Array  # int32[patterns], the correct action of each
    num_actions: int  # labels are in [0, num_actions)


def check(name: str, task: VectorTask) -> None:
    """Check a task of one's own, where its labels are known.

    Raises:
      TypeError: no ``VectorTask``, or labels that are no whole numbers.
      ValueError: labels that are not one for each pattern, or not in [0, num_actions).
    """
    checks.instance(name, task, VectorTask)
    patterns, labels = np.shape(task.inputs), np.shape(task.labels)
    if len(patterns) != 2 or labels != patterns[:1]:
        raise ValueError(
            f"{name} must have inputs [patterns, features] and a label for each pattern, got "
            f"{list(patterns)} and {list(labels)}"
        )
    if checks.known(task.num_actions):
        checks.labels(f"{name}.labels", task.labels, task.num_actions)


def reset(key: chex.PRNGKey, task: VectorTask) -> tuple[chex.Array, chex.Array]:
    """Begin a trial: draw a pattern.

    Args:
      key: a random key.
      task: the task.

    Returns:
      ``(pattern, observation)``: the pattern's index, int32[], which only the task may know, and
      what the network sees, float32[features].
    """
    pattern = jax.random.randint(key, (), 0, task.labels.shape[0], jnp.int32)
    return pattern, task.inputs[pattern]


def step(task: VectorTask, pattern: chex.Array, action: chex.Array) -> chex.Array:
    """End the trial: reward 1 if ``action`` is the pattern's correct one, else 0.

    Args:
      task: the task.
      pattern: int32[], from ``reset``.
      action: int32[].

    Returns:
      float32[].
    """
    return (action == task.labels[pattern]).astype(jnp.float32)


def expected_reward(
    task: VectorTask,
    outputs: chex.Array,
    probabilities: Callable[[chex.Array], chex.Array] = softmax_probabilities,
) -> chex.Array:
    """Return the mean reward of a policy: the mean over patterns of p(correct action).

    Args:
      task: the task.
      outputs: float[patterns, actions], a network's outputs for ``task.inputs``.
      probabilities: ``outputs [actions] -> probabilities [actions]`` of the policy.

    Returns:
      float[], in [0, 1].

    Raises:
      ValueError: a label that is no action's, outputs of another shape.
      TypeError: ``task`` is no ``VectorTask``.
    """
    check("task", task)
    actions = task.num_actions if checks.known(task.num_actions) else None
    checks.shape("outputs", outputs, task.labels.shape[0], actions or "actions")
    p = jax.vmap(probabilities)(outputs)
    return jnp.take_along_axis(p, task.labels[:, None], axis=1).mean()


def xor() -> VectorTask:
    """Exclusive or of two bits: four patterns, two actions; no network without hidden units can.

    >>> xor().labels.tolist()
    [0, 1, 1, 0]
    """
    bits = _binary(2)
    return VectorTask(bits, (bits.sum(1) == 1).astype(jnp.int32), 2)


def count_ones(bits: int = 3) -> VectorTask:
    """Count the ones of a binary vector: 2^bits patterns, action k for k ones.

    Args:
      bits: length of the vector, 1 to 12.

    Returns:
      A task with bits + 1 actions.

    Raises:
      ValueError: ``bits`` out of range.
      TypeError: ``bits`` is no number.

    >>> count_ones(2).labels.tolist()
    [0, 1, 1, 2]
    """
    checks.whole("bits", bits, 1, 12)
    patterns = _binary(bits)
    return VectorTask(patterns, patterns.sum(1).astype(jnp.int32), bits + 1)


def orientation(tilts: int = 12, colors: int = 4, units: int = 8) -> VectorTask:
    """Categorize bars by tilt (left or right of the vertical), whatever their color.

    A bar of tilt θ ∈ [0°, 180°) drives ``units`` orientation-tuned units, evenly spaced by
    180°/units, each with activity exp(−d²/2σ²), d the circular distance of θ from its preferred
    tilt and σ = 180°/units; ``colors`` more units stand for the colors, one of them on. Tilts are
    (k + ½)·180°/tilts: none lies on the boundaries, 0° and 90°. Action 0 is correct below 90°.

    Args:
      tilts: number of tilts, even and ≥ 2.
      colors: number of colors, ≥ 1; color is irrelevant.
      units: orientation-tuned units, ≥ 2.

    Returns:
      A task of tilts × colors patterns and two actions.

    Raises:
      ValueError: a number out of range.
      TypeError: no number.
    """
    checks.whole("tilts", tilts, 2)
    if tilts % 2:
        raise ValueError(f"tilts must be even, got {tilts}")
    checks.whole("colors", colors)
    checks.whole("units", units, 2)
    width = 180.0 / units
    theta = (jnp.arange(tilts, dtype=float) + 0.5) * 180 / tilts
    away = jnp.abs(theta[:, None] - (jnp.arange(units, dtype=float) * width)[None])
    tuned = jnp.exp(-(jnp.minimum(away, 180 - away) ** 2) / (2 * width**2))
    bars = jnp.concatenate(
        [jnp.repeat(tuned, colors, axis=0), jnp.tile(jnp.eye(colors), (tilts, 1))], axis=1
    ).astype(jnp.float32)
    return VectorTask(bars, jnp.repeat((theta > 90).astype(jnp.int32), colors), 2)


def images(pixels: chex.Array, labels: chex.Array, num_classes: int) -> VectorTask:
    """Make a task of labeled images: pixels divided by 255, one action a class.

    Args:
      pixels: uint8[patterns, height, width, channels].
      labels: int[patterns], in [0, num_classes).
      num_classes: number of actions.

    Returns:
      A task whose observations are the flattened images.

    Raises:
      ValueError: a label or ``num_classes`` out of range, no images, another shape.
      TypeError: labels or ``num_classes`` that are no whole numbers, pixels that are not uint8.
    """
    checks.whole("num_classes", num_classes)
    checks.shape("pixels", pixels, "patterns", "height", "width", "channels")
    checks.shape("labels", labels, np.shape(pixels)[0])
    checks.pixels("pixels", pixels)
    checks.labels("labels", labels, num_classes)
    if not len(labels):
        raise ValueError(f"there must be at least one image, got shape {pixels.shape}")
    flat = jnp.asarray(pixels, jnp.float32).reshape(pixels.shape[0], -1) / 255
    return VectorTask(flat, jnp.asarray(labels, jnp.int32), num_classes)


def _binary(bits: int) -> chex.Array:
    numbers = jnp.arange(2**bits)[:, None]
    return ((numbers >> jnp.arange(bits)[None]) & 1).astype(jnp.float32)
