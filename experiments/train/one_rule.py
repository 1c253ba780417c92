"""One rule of one configuration, trained to its stopping rule inside a run folder."""

import math
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import config as configs
from experiments.common import interrupts, memory, saved
from experiments.common.cli import UserError
from experiments.common.progress import Reporter
from experiments.config import Config
from experiments.train import folder as run_folder
from qagrel_jax import analysis, rules, sharding, training
from qagrel_jax.curriculum import Curriculum
from qagrel_jax.data import Dataset
from qagrel_jax.networks import make_network
from qagrel_jax.policies import make_policy
from qagrel_jax.random_keys import root_keys
from qagrel_jax.tasks import classification
from qagrel_jax.training import feedback_updates, fitting

CLASS_LEARNED = 0.5
"""A class counts as discovered once so much of it is named rightly."""


class Diverged(UserError):
    """A seed's error is no longer a finite number: this run cannot go on."""


class Splits(NamedTuple):
    """Who learns from what under a protocol."""

    train: fitting.Examples
    monitored: fitting.Examples
    test: fitting.Examples


def make_splits(dataset: Dataset, config: Config, mesh: Any = None) -> Splits:
    """Divide ``dataset`` by the protocol (see ``qagrel_jax.training``) and place it on ``mesh``."""
    train = fitting.Examples(dataset.train_images, dataset.train_labels)
    test = fitting.Examples(dataset.test_images, dataset.test_labels)
    if config.protocol == "clean":
        train, monitored = fitting.split(train, config.validation_fraction)
    else:
        monitored = test
    if len(train.labels) < config.batch_size:
        raise UserError(
            f"--batch-size {config.batch_size} is larger than the {len(train.labels)} training "
            f"images of {config.dataset}"
        )
    train, test = fitting.place(train, mesh), fitting.place(test, mesh)
    monitored = test if config.protocol == "paper" else fitting.place(monitored, mesh)
    return Splits(train, monitored, test)


def make_rule(name: str, config: Config) -> rules.Rule:
    """Build the learning rule ``name`` with the configuration's policy."""
    policy = make_policy(config.policy, epsilon=config.epsilon, temperature=config.temperature)
    match name:
        case "q_agrel":
            if config.positive_gain == 1:
                return rules.q_agrel(policy)
            return rules.q_agrel(policy, rules.amplified_prediction_error(config.positive_gain))
        case "backprop":
            return rules.backprop()
        case "agrel":
            return rules.agrel()
        case "broadcast":
            return rules.broadcast(policy, config.broadcast_strength)
        case "node_perturbation":
            return rules.node_perturbation(policy, config.noise_sd)
        case "reinforce":
            return rules.reinforce()
        case "stochastic_units":
            return rules.stochastic_units(config.noise_sd)
    raise ValueError(f"unknown rule {name!r}")


def make_reward(config: Config) -> training.RewardFunction:
    """Build what the task pays for."""
    match config.reward:
        case "right":
            return classification.paying(config.reward_right, config.reward_wrong)
        case "shuffled":
            return classification.shuffled_reward
        case "always":
            return classification.any_reward
    raise ValueError(f"unknown reward {config.reward!r}")


def make_optimizer(
    config: Config, steps_per_epoch: int, rate: Any = None
) -> optax.GradientTransformation:
    """Build the optimiser: L2 on kernels, a learning rate halved every so many epochs.

    Args:
      config: the experiment.
      steps_per_epoch: of training.
      rate: the learning rate, which may be traced; None: the configuration's.
    """
    rate = config.learning_rate if rate is None else rate
    if config.halve_every:
        rate = optax.exponential_decay(
            rate, config.halve_every * steps_per_epoch, 0.5, staircase=True
        )
    if config.optimizer == "momentum":
        optimizer = optax.sgd(rate, momentum=0.9)
    elif config.optimizer == "lion":
        optimizer = optax.lion(rate, weight_decay=0.0)  # decay is ``l2``'s affair
    else:
        optimizer = getattr(optax, config.optimizer)(rate)
    if config.feedback_rate != 1 or config.feedback_delay:
        own = feedback_updates.scale_feedback_updates(
            config.feedback_rate, config.feedback_delay * steps_per_epoch
        )
        optimizer = optax.chain(optimizer, own)
    if config.feedback_l2 is not None:
        return optax.chain(
            optax.add_decayed_weights(2 * config.l2, mask=feedback_updates.is_forward),
            optax.add_decayed_weights(2 * config.feedback_l2, mask=feedback_updates.is_feedback),
            optimizer,
        )
    if not config.l2:
        return optimizer
    return optax.chain(optax.add_decayed_weights(2 * config.l2, mask=_kernels), optimizer)


def make_curriculum(config: Config) -> Curriculum | None:
    """Build the class curriculum; None where it is off."""
    if config.curriculum == "off":
        return None
    return Curriculum(
        threshold=config.curriculum_threshold,
        initial_classes=config.curriculum_start,
        step_classes=config.curriculum_step,
        window=config.curriculum_window,
        recency=config.curriculum_recency,
        decay=config.curriculum_decay,
        max_wait=config.curriculum_max_wait,
        order=config.curriculum,
        mask=config.curriculum_outputs == "masked",
    )


def make_trainer(
    config: Config, rule: str, dataset: Dataset, splits: Splits, mesh: Any = None
) -> training.Trainer:
    """Compile the training of one rule, for the devices of ``mesh`` (None: one).

    From here on JAX's products have the configuration's precision.
    """
    # In bfloat16 the network itself is told; what stays in float32 is not to be rounded further.
    matmul = "tensorfloat32" if config.precision == "tensorfloat32" else "float32"
    jax.config.update("jax_default_matmul_precision", matmul)
    network = make_network(
        config.architecture,
        dataset.num_classes,
        feedback=config.feedback,
        initialisation=config.initialisation,
        dtype=jnp.bfloat16 if config.precision == "bfloat16" else None,
        feedback_init=config.feedback_init,
        feedback_scale=config.feedback_scale,
        **({} if config.hidden is None else {"hidden": config.hidden}),
    )
    return training.make_trainer(
        make_rule(rule, config),
        network,
        partial(make_optimizer, config, config.epoch_of(len(splits.train.labels))[0]),
        image_shape=dataset.train_images.shape[1:],
        num_classes=dataset.num_classes,
        batch_size=config.batch_size,
        mesh=mesh,
        reward=make_reward(config),
        seeds_by=None if config.seeds_by == "auto" else config.seeds_by,
        curriculum=make_curriculum(config),
        learning_rate=config.learning_rate,
    )


def start(trainer: training.Trainer, config: Config, dataset: Dataset) -> fitting.Fit:
    """Initialise the networks of all seeds.

    Raises:
      UserError: a network that does not fit the images, or all of them the memory.
    """
    keys = root_keys(jnp.arange(config.first_seed, config.first_seed + config.seeds))
    try:
        memory.check(
            2 * memory.size(trainer.init, keys),  # now, and at the best epoch
            f"the weights of {config.seeds} network{'s' * (config.seeds > 1)}",
            "--hidden or --seeds",
        )
        return fitting.start(trainer, keys)
    except ValueError as error:
        shape = "x".join(map(str, dataset.train_images.shape[1:]))
        raise UserError(f"{config.architecture} does not fit {shape} images: {error}") from None


def describe(config: Config, rule: str) -> dict[str, Any]:
    """Return what a checkpoint says it is of; a run may get more epochs, and another name."""
    content = configs.to_json(config)
    del content["name"], content["epochs"]
    return {"rule": rule, "config": content}


def run_rule(
    folder: Path,
    config: Config,
    rule: str,
    dataset: Dataset,
    splits: Splits,
    mesh: Any = None,
    deadline: float = math.inf,
) -> dict[str, Any] | None:
    """Train ``rule`` from its checkpoint, if there is one, to the end; return its results.

    Args:
      folder: of the run.
      config: the experiment.
      rule: its name.
      dataset: the images' shape and number of classes.
      splits: from ``make_splits``.
      mesh: the devices; None: one.
      deadline: on the clock of ``time.monotonic``. A rule that begins before it gets on by one
        epoch at least. Once a second one has told how long an epoch takes (the first compiles),
        none is begun that would end after it. What is done is saved.

    Returns:
      What ``summary.json`` says of the rule, less what depends on the other rules; None if the
      deadline came first.

    Raises:
      UserError: a network that does not fit the images, a damaged checkpoint.
      Diverged: a seed's error is no longer finite.
    """
    if sharding.agree(time.monotonic() >= deadline):
        return None
    checkpoint = folder / f"checkpoint_{rule}.msgpack"
    metrics, timings = folder / "metrics.jsonl", folder / "timings.jsonl"
    trainer = make_trainer(config, rule, dataset, splits, mesh)
    run = start(trainer, config, dataset)
    run = saved.load(checkpoint, run, describe(config, rule)) or run
    for path in (metrics, timings):
        run_folder.cut_lines(path, rule, int(run.epoch))
    if _epochs_there(folder, config, rule) != list(range(1, int(run.epoch) + 1)):
        raise UserError(
            f"{metrics} lacks epochs that {checkpoint} has done: move the latter away to start "
            "this rule anew"
        )

    saver = _Saver(checkpoint, int(run.epoch), describe(config, rule))
    epochs_here, seconds = 0, 0.0
    with Reporter(f"{config.name} {rule}", config.epochs) as reporter:
        reporter.update(
            int(run.epoch), _resumed(run) if run.epoch else "compiling", bool(run.epoch)
        )
        state = ""

        def on_chunk(epoch: int, done: int, steps: int) -> None:
            reporter.update(epoch - 1 + done / steps, state)

        epochs = fitting.fit(
            trainer,
            run,
            splits.train,
            splits.monitored,
            epochs=config.epochs,
            patience=config.patience,
            min_gain=config.min_gain,
            last_batch=config.last_batch,
            on_chunk=on_chunk,
        )
        began, active = time.perf_counter(), int(run.active.sum())
        try:
            while not _finished(run, config):
                expected = seconds if epochs_here > 1 else 0.0  # the first one compiled
                if epochs_here and sharding.agree(time.monotonic() + expected >= deadline):
                    break
                run, record = next(epochs)
                epochs_here += 1
                seconds = time.perf_counter() - began
                seen = active * config.epoch_of(len(splits.train.labels))[1]
                timing = {"rule": rule, "epoch": record.epoch, "seconds": seconds, "images": seen}
                with interrupts.held_back():
                    run_folder.append_line(metrics, _metrics_line(rule, config, run, record))
                    run_folder.append_line(timings, timing)
                    saver.save(run)
                state = (
                    f"{_monitored(config)} {100 * np.nanmean(record.accuracy):.2f} %  "
                    f"{seen / seconds:,.0f} images/s"
                )
                reporter.update(record.epoch, state)
                began, active = time.perf_counter(), int(run.active.sum())
        except fitting.DivergedError as error:
            kept = f"the last good checkpoint is {checkpoint}" if checkpoint.is_file() else (
                "no epoch was finished")  # fmt: skip
            named = error.counted_from(config.first_seed)
            raise Diverged(
                f"{rule}: {named}; {kept}; try a lower --learning-rate in a new --out"
            ) from None
        if _finished(run, config):
            reporter.finish(f"{int(run.epoch)}/{config.epochs}", state or "done before")
        else:
            reporter.update(int(run.epoch), state, important=True)
    saver.save(run, at_once=True)
    if not _finished(run, config):
        return None
    return _results(folder, config, rule, trainer, run, splits)


def _results(
    folder: Path,
    config: Config,
    rule: str,
    trainer: training.Trainer,
    run: fitting.Fit,
    splits: Splits,
) -> dict[str, Any]:
    if config.protocol == "paper":
        test_accuracy = run.best_accuracy
    else:
        per_class = trainer.evaluate(run.best, *splits.test)
        test_accuracy = training.overall_accuracy(per_class, splits.test.labels)
    lines = [
        line
        for line in run_folder.read_lines(folder / "timings.jsonl")
        if line.get("rule") == rule and {"images", "seconds"} <= line.keys()
    ]
    # The first epoch of a process compiles; a median leaves it out without a special case.
    speed = np.median([line["images"] / line["seconds"] for line in lines]) if lines else 0.0
    return {
        "rule": rule,
        "seeds": list(range(config.first_seed, config.first_seed + config.seeds)),
        "test_accuracy": [float(a) for a in test_accuracy],
        "best_epoch": [int(e) for e in run.best_epoch],
        "best_monitored_accuracy": [float(a) for a in run.best_accuracy],
        "epochs": int(run.epoch),
        "stopped_early": [bool(s) for s in ~run.active],
        "images_per_second": float(speed),
        "train_seconds": float(sum(line["seconds"] for line in lines)),
    }


def _epochs_there(folder: Path, config: Config, rule: str) -> list[int]:
    """The epochs of ``rule`` whose line of metrics is whole."""
    accuracy = f"{_monitored(config)}_accuracy"
    needed = (accuracy, "train_accuracy", "error", "classes_learned", "class_accuracy")
    return [
        line["epoch"]
        for line in run_folder.read_metrics(folder, "metrics.jsonl", needed)
        if line["rule"] == rule and _is_by_seed(line[accuracy], config.seeds)
    ]


def _is_by_seed(values: Any, seeds: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == seeds
        and all(value is None or isinstance(value, float | int) for value in values)
    )


def _metrics_line(
    rule: str, config: Config, run: fitting.Fit, record: fitting.EpochRecord
) -> dict[str, Any]:
    line = {
        "rule": rule,
        "epoch": record.epoch,
        "step": int(sharding.fetch(run.states.step).max()),
        f"{_monitored(config)}_accuracy": _numbers(record.accuracy),
        "train_accuracy": _numbers(record.train_accuracy),
        "error": _numbers(record.error),
        "classes_learned": _numbers(
            np.where(
                np.isnan(record.accuracy),
                np.nan,
                (record.class_accuracy >= CLASS_LEARNED).sum(1),
            )
        ),
        "class_accuracy": [round(float(a), 5) for a in np.nanmean(record.class_accuracy, axis=0)],
    }
    if config.curriculum != "off":
        count = sharding.fetch(run.states.curriculum.count)
        line["active_classes"] = [int(n) for n in count]
    if config.feedback != "tied":
        angles = analysis.feedback_angles(
            *sharding.fetch((run.states.params, run.states.model_state)), config.feedback
        )
        line["feedback_angle_degrees"] = {name: _numbers(a) for name, a in angles.items()}
    return line


def _numbers(values: chex.Array) -> list[float | None]:
    return [None if np.isnan(v) else float(v) for v in np.asarray(values, float)]


def _finished(run: fitting.Fit, config: Config) -> bool:
    return int(run.epoch) >= config.epochs or not bool(run.active.any())


def _monitored(config: Config) -> str:
    return "validation" if config.protocol == "clean" else "test"


def _resumed(run: fitting.Fit) -> str:
    return f"resumed after epoch {int(run.epoch)}"


def _kernels(params: chex.ArrayTree) -> chex.ArrayTree:
    masks = feedback_updates.is_forward(params), feedback_updates.is_feedback(params)
    return jax.tree.map(lambda forward, feedback: forward or feedback, *masks)


class _Saver:
    """Saves checkpoints no more often than keeps their cost under a twentieth of the run's time."""

    def __init__(self, path: Path, epoch: int, metadata: dict[str, Any]) -> None:
        self._path, self._metadata = path, metadata
        self._epoch = epoch  # that the file holds
        self._next = float("-inf")

    def save(self, run: fitting.Fit, at_once: bool = False) -> None:
        began, epoch = time.monotonic(), int(run.epoch)
        if epoch != self._epoch and sharding.agree(at_once or began >= self._next):
            saved.save(self._path, run, self._metadata)
            now, self._epoch = time.monotonic(), epoch
            self._next = now + 20 * (now - began)
