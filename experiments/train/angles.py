"""Angles by layer, measured while a network learns: feedback against forward weights, and the
update against the true gradient. Nothing that learns is touched."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from qagrel_jax import analysis, sharding, training
from qagrel_jax.data import streaming
from qagrel_jax.random_keys import root_key
from qagrel_jax.rules import schedules
from qagrel_jax.tasks import classification
from qagrel_jax.training import fitting
from qagrel_jax.training.step import Learner, TrainState, forward_of

FEEDBACK, UPDATE, NORM = "feedback_angle_degrees", "update_angle_degrees", "update_norm_ratio"


class Instrument:
    """Measures every seed of a learner on the same images, with the same choices each time.

    It is compiled for one seed, at the first measurement, and never again.
    """

    def __init__(self, learner: Learner, examples: fitting.Examples, images: int) -> None:
        """Take the first ``images`` of ``examples``; with 0 updates are not compared.

        Args:
          learner: its network has an attribute ``feedback``, as those of ``qagrel_jax.networks``.
          examples: in memory, or to be read from disk.
          images: how many.
        """
        self._feedback = learner.network.feedback
        self._compare: Callable | None = None
        if images:
            self._compare = jax.jit(_comparison(learner))
            self._examples = _first(examples, images)

    def measure(self, states: TrainState) -> dict[str, dict[str, list[float | None]]]:
        """Return ``{measure: {layer: a value a seed}}``; None where update or gradient is zero."""
        params, model_state, shown = sharding.fetch(
            (states.params, states.model_state, states.curriculum)
        )
        weights = analysis.feedback_angles(params, model_state, self._feedback)
        found = {FEEDBACK: {layer: numbers(angles) for layer, angles in weights.items()}}
        if self._compare is None:
            return found
        seeds = len(jax.tree.leaves(params)[0])
        each = [
            self._compare(
                *jax.tree.map(lambda x, s=seed: x[s], (params, model_state, shown)),
                *self._examples,
            )
            for seed in range(seeds)
        ]
        together = jax.tree.map(lambda *values: numbers(np.stack(values)), *jax.device_get(each))
        return found | {UPDATE: together.angle, NORM: together.norm_ratio}


def numbers(values: chex.Array) -> list[float | None]:
    """Return values JSON-ready: None for NaN, and for the infinite ratio to a gradient of zero."""
    return [float(v) if np.isfinite(v) else None for v in np.asarray(values, float)]


def _first(examples: fitting.Examples, images: int) -> tuple[Any, Any]:
    """Return (images uint8[n, ...], labels int32[n]) on this process's own device."""
    rows = np.arange(min(images, len(examples.labels)))
    pixels = examples.images
    if isinstance(pixels, streaming.HostImages):
        return pixels.read(rows), np.asarray(examples.labels)[rows]
    return sharding.fetch((pixels[: len(rows)], examples.labels[: len(rows)]))


def _comparison(learner: Learner) -> Callable:
    rule = schedules.first(learner.rule)
    tied = learner._replace(network=learner.network.clone(feedback="tied", feedback_scale=1.0))

    def compare(
        params: Any, model_state: Any, shown: Any, images: Any, labels: Any
    ) -> analysis.UpdateAngles:
        choice_key, reward_key, dropout_key, feedback_key = jax.random.split(root_key(0), 4)
        state = training.TrainState(root_key(0), jnp.int32(0), params, model_state, (), shown)

        def running(learner: Learner) -> Callable:
            rngs = {"dropout": dropout_key, "feedback": feedback_key}
            rngs = jax.tree.map(jax.random.clone, rngs)  # the same for both
            forward = forward_of(learner, state, rngs)
            return lambda params, inputs: forward(params, inputs)[0]

        def answer(actions: chex.Array) -> chex.Array:
            if rule.supervised:
                return labels
            return learner.reward(jax.random.clone(reward_key), labels, actions)

        inputs = classification.normalize(images)
        return analysis.update_angles(
            choice_key, rule, running(learner), running(tied), params, inputs, answer
        )

    return compare
