"""One rule measured on one network."""

from typing import Any

import jax
import numpy as np

from experiments.train import build
from experiments.update_statistics import batches
from experiments.update_statistics.references import References
from experiments.update_statistics.settings import RULES, Plan
from experiments.update_statistics.stages import Problem
from qagrel_jax import policies, training, update_statistics
from qagrel_jax.random_keys import root_key
from qagrel_jax.tasks import classification
from qagrel_jax.update_statistics import Moments, Statistics


class Instrument:
    """Measures one rule on one problem; compiled once for all stages and seeds."""

    def __init__(self, plan: Plan, label: str, problem: Problem) -> None:
        measured = RULES[label]
        config = plan.config_of(label)
        self._rule = build.make_rule(measured.rule, config)
        self._reward = build.make_reward(config)
        self._forward = batches.forward_of(config, problem, measured.feedback)
        # A draw from the softmax of the outputs is part of rules that learn probabilities.
        self._policy = (
            policies.softmax_probabilities
            if self._rule.estimates == "probabilities"
            else batches.policy_probabilities(config)
        )
        self._plan, self._data = plan, (problem.images, problem.labels)
        self.exact = plan.method == "exact" and measured.enumerable
        self._enumerate = jax.jit(self._enumerated)
        self._sample = jax.jit(self._sampled, static_argnames="batch_size")

    def measure(
        self, state: training.TrainState, seed: int, references: References
    ) -> dict[str, dict[str, Any]]:
        """Return the rule's statistics on one network, by batch size, JSON-ready.

        Each entry holds ``statistics`` and, where batches were sampled, ``standard_errors`` (else
        None), as ``{objective: {layer: {statistic: value}}}``.
        """
        exact = self._enumerate(state, *self._data) if self.exact else None
        found = {}
        for size in self._plan.batch_sizes:
            gradients, errors = references.of(size), None
            if exact is not None:
                moments = update_statistics.of_batch(exact, size)
            else:
                groups = self._groups(state, seed, size)
                moments = update_statistics.pool(groups)
                errors = _plain({name: _jackknife(groups, g) for name, g in gradients.items()})
            statistics = {name: _statistics(moments, g) for name, g in gradients.items()}
            found[str(size)] = {"statistics": _plain(statistics), "standard_errors": errors}
        return found

    def _groups(self, state: training.TrainState, seed: int, size: int) -> Moments:
        keys = jax.random.split(jax.random.fold_in(root_key(1), seed), self._plan.groups)
        return batches.stack(
            [self._sample(key, state, *self._data, batch_size=size) for key in keys]
        )

    def _enumerated(self, state: training.TrainState, images: Any, labels: Any) -> Moments:
        return update_statistics.exact_moments(
            self._rule,
            self._policy,
            self._forward(state, None),
            state.params,
            classification.normalize(images),
            labels,
            self._reward,
        )

    def _sampled(
        self, key: Any, state: training.TrainState, images: Any, labels: Any, batch_size: int
    ) -> Moments:
        def learn(batch_key: Any, choice_key: Any) -> Any:
            batch, told, dropout_key = batches.draw(batch_key, images, labels, batch_size)
            act_key, reward_key = jax.random.split(choice_key)
            forward = self._forward(state, dropout_key)
            decision = self._rule.act(act_key, forward, state.params, batch)
            if self._rule.outcome == "reward":
                told = self._reward(reward_key, told, decision.action)
            return self._rule.update(decision, told)[0]

        return update_statistics.sampled_moments(key, learn, self._plan.samples_a_group)


def _plain(statistics: dict[str, dict[str, Statistics]]) -> dict[str, Any]:
    """Return ``{objective: {layer: {statistic: float or None}}}``, JSON-ready."""

    def number(value: Any) -> float | None:
        return float(f"{float(value):.5g}") if np.isfinite(value) else None

    return {
        objective: {
            layer: {name: number(value) for name, value in found._asdict().items()}
            for layer, found in layers.items()
        }
        for objective, layers in jax.device_get(statistics).items()
    }


_statistics = jax.jit(update_statistics.statistics)
_jackknife = jax.jit(update_statistics.jackknife)
