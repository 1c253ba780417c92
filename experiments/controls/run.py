"""One setting of a control, trained with the image runs' data, rule, network and optimizer."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import config as configs
from experiments.controls.settings import Setting
from experiments.controls.unfinished import Unfinished
from experiments.train import build
from qagrel_jax import analysis, training
from qagrel_jax.data import Dataset, streaming
from qagrel_jax.networks import make_network
from qagrel_jax.random_keys import root_key
from qagrel_jax.tasks import classification
from qagrel_jax.training import fitting

PROBE_IMAGES = 256
"""On so many training images updates are compared."""


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
    angles = None
    if measure_angles:
        keep = None  # such settings are short
        angles = _Angles(setting, dataset, splits)
        angles.measure(start.states)  # before learning
    run, before = keep.load(setting.label, start, line) if keep else (start, 0.0)
    began = time.perf_counter() - before
    epochs = fitting.fit(
        trainer,
        run,
        splits.train,
        splits.monitored,
        epochs=config.epochs,
        patience=config.patience,
        min_gain=config.min_gain,
        last_batch=config.last_batch,
    )
    try:
        for after, record in epochs:
            run = after
            _add_epoch(line, run, record)
            if angles:
                angles.measure(run.states)
            if keep:
                keep.save(setting.label, run, line, time.perf_counter() - began)
            on_epoch(record.epoch, f"validation {100 * record.accuracy.mean():.2f} %")
    except fitting.DivergedError as error:
        named = error.counted_from(config.first_seed)
        return line | {"diverged": str(named), "validation_accuracy": []}
    per_class = trainer.evaluate(run.best, *splits.test)
    test_accuracy = training.overall_accuracy(per_class, splits.test.labels)
    line |= {
        "best_validation_accuracy": [float(a) for a in run.best_accuracy],
        "best_epoch": [int(e) for e in run.best_epoch],
        "test_accuracy": [float(a) for a in test_accuracy],
        "train_seconds": round(time.perf_counter() - began, 1),
    }
    return line | (angles.line if angles else {})


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


class _Angles:
    """Angles of updates and of weights on the same images, before learning and after each epoch."""

    def __init__(self, setting: Setting, dataset: Dataset, splits: build.Splits) -> None:
        config = setting.config
        rule = build.make_rule(setting.rule, config)
        options = {} if config.hidden is None else {"hidden": config.hidden}
        networks = {
            kind: make_network(
                config.architecture,
                dataset.num_classes,
                feedback=kind,
                initialisation=config.initialisation,
                feedback_init=config.feedback_init,
                feedback_scale=1.0 if kind == "tied" else config.feedback_scale,
                **options,
            )
            for kind in ("tied", config.feedback)
        }
        probe = jnp.arange(min(PROBE_IMAGES, len(splits.train.labels)))
        images = splits.train.images
        if isinstance(images, streaming.HostImages):
            images = images.read(np.asarray(probe))
        images = classification.normalize(jnp.asarray(images[: len(probe)]))
        labels = splits.train.labels[: len(probe)]
        reward = build.make_reward(config)

        def update(kind: str, state: training.TrainState) -> Any:
            def forward(params: Any, inputs: Any) -> Any:
                return networks[kind].apply({"params": params, **state.model_state}, inputs)

            choice_key, reward_key = jax.random.split(root_key(0))
            decision = rule.act(choice_key, forward, state.params, images)
            return rule.update(decision, reward(reward_key, labels, decision.action))[0]

        def one_seed(state: training.TrainState) -> dict[str, jax.Array]:
            ours, true = update(config.feedback, state), update("tied", state)
            return analysis.layer_angles(ours, true)

        self._feedback = config.feedback
        self._updates = jax.jit(lambda states: jax.lax.map(one_seed, states))
        self.line: dict[str, Any] = {
            "update_angle_degrees": {},  # by layer, by epoch (0: before learning), by seed
            "feedback_angle_degrees": {},
        }

    def measure(self, states: training.TrainState) -> None:
        """Add one row to every layer's angles."""
        weights = analysis.feedback_angles(states.params, states.model_state, self._feedback)
        for kind, angles in (
            ("update_angle_degrees", self._updates(states)),
            ("feedback_angle_degrees", weights),
        ):
            for layer, values in angles.items():
                rows = self.line[kind].setdefault(layer, [])
                rows.append([None if np.isnan(v) else round(float(v), 2) for v in values])
