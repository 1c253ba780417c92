"""The gradients with which a rule's update is compared."""

from typing import Any

import jax
import jax.numpy as jnp

from experiments.train import build
from experiments.update_statistics import batches
from experiments.update_statistics.settings import OBJECTIVES, Plan
from experiments.update_statistics.stages import Problem
from qagrel_jax import training, update_statistics
from qagrel_jax.random_keys import root_key
from qagrel_jax.tasks import classification
from qagrel_jax.update_statistics import Moments

CHUNK = 250
"""Images of which the gradient is computed at once."""


class References:
    """The gradients of the objectives at one network: exact where no batch matters to them.

    BatchNorm's statistics and dropout make a gradient depend on its batch; it is then the mean over
    batches drawn apart from those of the rules.
    """

    def __init__(self, plan: Plan, label: str, problem: Problem) -> None:
        config = plan.config_of(label)
        self._forward = batches.forward_of(config, problem, "tied")
        self._policy, self._reward = batches.policy_probabilities(config), build.make_reward(config)
        self._plan, self._data = plan, (problem.images, problem.labels)
        self._exact = config.architecture in batches.DETERMINISTIC
        self._gradients = jax.jit(self._gradients_of)
        self._sample = jax.jit(self._sampled, static_argnames="batch_size")
        self._found: dict[int, dict[str, Moments]] = {}

    def at(self, state: training.TrainState) -> "References":
        """Turn to another network."""
        self._state, self._found = state, {}
        return self

    def of(self, batch_size: int) -> dict[str, Moments]:
        """Return ``{objective: gradient}``."""
        which = 0 if self._exact else batch_size
        if which not in self._found:
            self._found[which] = self._all_images() if self._exact else self._batches(batch_size)
        return self._found[which]

    def _all_images(self) -> dict[str, Moments]:
        images, labels = self._data
        total: Any = None
        for first in range(0, len(labels), CHUNK):
            rows = slice(first, first + CHUNK)
            batch = classification.normalize(images[rows])
            part = self._gradients(None, self._state, batch, labels[rows])
            share = len(labels[rows]) / len(labels)
            part = jax.tree.map(lambda g, s=share: s * g, part)
            total = part if total is None else jax.tree.map(jnp.add, total, part)
        return {name: update_statistics.exact_gradient(total[name]) for name in OBJECTIVES}

    def _batches(self, batch_size: int) -> dict[str, Moments]:
        keys = jax.random.split(root_key(2), self._plan.groups)
        together = update_statistics.pool(
            batches.stack(
                [self._sample(k, self._state, *self._data, batch_size=batch_size) for k in keys]
            )
        )
        return {name: _of_objective(together, f"{name}/") for name in OBJECTIVES}

    def _gradients_of(
        self, key: Any, state: training.TrainState, images: Any, labels: Any
    ) -> dict[str, Any]:
        return update_statistics.objective_gradients(
            self._forward(state, key), state.params, images, labels, self._policy, self._reward
        )

    def _sampled(
        self, key: Any, state: training.TrainState, images: Any, labels: Any, batch_size: int
    ) -> Moments:
        def learn(batch_key: Any, choice_key: Any) -> Any:
            del choice_key
            batch, its_labels, dropout_key = batches.draw(batch_key, images, labels, batch_size)
            return self._gradients_of(dropout_key, state, batch, its_labels)

        return update_statistics.sampled_moments(key, learn, self._plan.samples_a_group)


def _of_objective(together: Moments, prefix: str) -> Moments:
    def of(part: dict[str, Any]) -> dict[str, Any]:
        return {n.removeprefix(prefix): v for n, v in part.items() if n.startswith(prefix)}

    return together._replace(
        mean=of(together.mean), images=of(together.images), choices=of(together.choices)
    )
