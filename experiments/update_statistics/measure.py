"""Weights at every stage of a rule's training, and one rule measured on them."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import saved
from experiments.common.cli import UserError
from experiments.config import Config
from experiments.controls.run import part_of
from experiments.train import build
from experiments.update_statistics.settings import OBJECTIVES, RULES, Plan
from qagrel_jax import policies, training, update_statistics
from qagrel_jax.data import Dataset
from qagrel_jax.networks import make_network
from qagrel_jax.random_keys import root_key, root_keys
from qagrel_jax.tasks import classification
from qagrel_jax.training import fitting
from qagrel_jax.update_statistics import Moments, Statistics

DETERMINISTIC = ("dense",)
"""Architectures without BatchNorm and dropout."""

CHUNK = 250
"""Images of which the gradient is computed at once."""


class Problem(NamedTuple):
    """What is learned: the first classes of a data set, and its splits."""

    dataset: Dataset
    splits: build.Splits
    images: jax.Array  # uint8[n, ...], those that are measured
    labels: jax.Array  # int32[n]


def make_problem(plan: Plan, dataset: Dataset, classes: int) -> Problem:
    """Take the first ``classes`` classes of ``dataset``.

    Raises:
      UserError: more classes than there are, or images that are not in memory.
    """
    if classes > dataset.num_classes:
        raise UserError(f"--classes {classes}: {plan.config.dataset} has {dataset.num_classes}")
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
    for stage in sorted(plan.stages):
        path = folder / f"weights_{label}_{classes}_{stage}.msgpack"
        about = {"label": label, "classes": classes, "stage": stage}
        kept = saved.load(path, run, about)
        if kept is not None:
            run = kept
        elif run.epoch < stage:
            epochs = fitting.fit(
                trainer,
                run,
                problem.splits.train,
                problem.splits.monitored,
                epochs=stage,
                patience=stage + 1,
                last_batch=config.last_batch,
            )
            for after, record in epochs:
                run = after
                shown = f"{100 * np.mean(record.accuracy):.1f} %"
                report(f"{label}, {classes} classes: trained {record.epoch} epochs, {shown}")
        if kept is None:
            saved.save(path, run, about)
        per_class = trainer.evaluate(run.states, *problem.splits.monitored)
        labels = problem.splits.monitored.labels
        yield stage, run.states, training.overall_accuracy(per_class, labels)


class Instrument:
    """Measures one rule on one problem; compiled once for all stages and seeds."""

    def __init__(self, plan: Plan, label: str, problem: Problem) -> None:
        measured = RULES[label]
        config = plan.config_of(label)
        self._rule = build.make_rule(measured.rule, config)
        self._reward = build.make_reward(config)
        self._forward = _forward_of(config, problem, measured.feedback)
        # A draw from the softmax of the outputs is part of these two.
        drawn = measured.rule in ("agrel", "reinforce")
        self._policy = policies.softmax_probabilities if drawn else policy_probabilities(config)
        self._plan, self._data = plan, (problem.images, problem.labels)
        self.exact = plan.method == "exact" and measured.enumerable
        self._enumerate = jax.jit(self._enumerated)
        self._sample = jax.jit(self._sampled, static_argnames="batch_size")

    def measure(
        self, state: training.TrainState, seed: int, references: "References"
    ) -> Iterator[tuple[int, dict[str, Any], dict[str, Any] | None]]:
        """Yield (batch size, statistics, standard errors or None) of the rule on one network.

        Statistics are ``{objective: {layer: Statistics}}``.
        """
        exact = self._enumerate(state, *self._data) if self.exact else None
        for batch_size in self._plan.batch_sizes:
            gradients, errors = references.of(batch_size), None
            if exact is not None:
                moments = update_statistics.of_batch(exact, batch_size)
            else:
                keys = jax.random.split(jax.random.fold_in(root_key(1), seed), self._plan.groups)
                groups = _stack(
                    [self._sample(key, state, *self._data, batch_size=batch_size) for key in keys]
                )
                moments = update_statistics.pool(groups)
                errors = {
                    name: _jackknife(groups, gradient) for name, gradient in gradients.items()
                }
            found = {name: _statistics(moments, gradient) for name, gradient in gradients.items()}
            yield batch_size, found, errors

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
            batch, told, dropout_key = _draw(batch_key, images, labels, batch_size)
            act_key, reward_key = jax.random.split(choice_key)
            forward = self._forward(state, dropout_key)
            decision = self._rule.act(act_key, forward, state.params, batch)
            if self._rule.outcome == "reward":
                told = self._reward(reward_key, told, decision.action)
            return self._rule.update(decision, told)[0]

        return update_statistics.sampled_moments(key, learn, self._plan.samples_a_group)


class References:
    """The gradients of the objectives at one network: exact where no batch matters to them.

    BatchNorm's statistics and dropout make a gradient depend on its batch; it is then the mean over
    batches drawn apart from those of the rules.
    """

    def __init__(self, plan: Plan, label: str, problem: Problem) -> None:
        config = plan.config_of(label)
        self._forward = _forward_of(config, problem, "tied")
        self._policy, self._reward = policy_probabilities(config), build.make_reward(config)
        self._plan, self._data = plan, (problem.images, problem.labels)
        self._exact = config.architecture in DETERMINISTIC
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
            _stack([self._sample(k, self._state, *self._data, batch_size=batch_size) for k in keys])
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
            batch, its_labels, dropout_key = _draw(batch_key, images, labels, batch_size)
            return self._gradients_of(dropout_key, state, batch, its_labels)

        return update_statistics.sampled_moments(key, learn, self._plan.samples_a_group)


def _forward_of(config: Config, problem: Problem, feedback: str) -> Callable:
    """Return ``(state, key) -> forward`` of the network as it is in training."""
    options = {} if config.hidden is None else {"hidden": config.hidden}
    network = make_network(
        config.architecture,
        problem.dataset.num_classes,
        feedback=feedback,
        initialisation=config.initialisation,
        feedback_init=config.feedback_init,
        feedback_scale=1.0 if feedback == "tied" else config.feedback_scale,
        **options,
    )

    def make(state: training.TrainState, key: Any) -> Callable:
        fixed = state.model_state

        def forward(params: Any, inputs: Any) -> Any:
            variables = {"params": params, **fixed}
            if config.architecture in DETERMINISTIC:
                return network.apply(variables, inputs)
            rngs = {"dropout": key}
            return network.apply(variables, inputs, train=True, rngs=rngs, mutable=list(fixed))[0]

        return forward

    return make


def _draw(key: Any, images: Any, labels: Any, batch_size: int) -> tuple[Any, Any, Any]:
    rows_key, dropout_key = jax.random.split(key)
    rows = jax.random.randint(rows_key, (batch_size,), 0, len(labels))
    return classification.normalize(images[rows]), labels[rows], dropout_key


def policy_probabilities(config: Config) -> Callable:
    """Return the exact probabilities of the configuration's policy."""
    function = getattr(policies, f"{config.policy}_probabilities")
    given = {"epsilon": config.epsilon, "temperature": config.temperature}
    taken = {name: given[name] for name in policies.POLICIES[config.policy][1]}
    return functools.partial(function, **taken)


def plain(statistics: dict[str, dict[str, Statistics]]) -> dict[str, Any]:
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


def _of_objective(together: Moments, prefix: str) -> Moments:
    def of(part: dict[str, Any]) -> dict[str, Any]:
        return {n.removeprefix(prefix): v for n, v in part.items() if n.startswith(prefix)}

    return together._replace(
        mean=of(together.mean), images=of(together.images), choices=of(together.choices)
    )


def _stack(each: list[Moments]) -> Moments:
    return jax.tree.map(lambda *arrays: jnp.stack(arrays), *each)


_statistics = jax.jit(update_statistics.statistics)
_jackknife = jax.jit(update_statistics.jackknife)
