"""What a configuration describes, built: splits, rule, reward, optimizer, trainer, networks."""

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common import display, memory
from experiments.common.cli import UserError
from experiments.config import Config
from experiments.train import layer_names
from qagrel_jax import rules, training
from qagrel_jax.curriculum import Curriculum
from qagrel_jax.data import Dataset
from qagrel_jax.networks import make_network
from qagrel_jax.policies import make_policy
from qagrel_jax.random_keys import root_keys
from qagrel_jax.tasks import classification
from qagrel_jax.training import feedback_updates, fitting
from qagrel_jax.training.step import Learner


class Splits(NamedTuple):
    """Who learns from what under a protocol."""

    train: fitting.Examples
    monitored: fitting.Examples
    test: fitting.Examples


def make_splits(dataset: Dataset, config: Config, mesh: Any = None) -> Splits:
    """Divide ``dataset`` by the protocol (see ``qagrel_jax.training``); put it on ``mesh``."""
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
    if (
        config.reward == "shuffled"
        and config.last_batch == "keep"
        and len(train.labels) % config.batch_size == 1
    ):
        raise UserError(
            f"--batch-size {config.batch_size} leaves one of {len(train.labels)} training images "
            "for the last batch, whose reward cannot be shuffled: choose another, or --last-batch "
            "drop"
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
    """Build the reward function."""
    match config.reward:
        case "right":
            return classification.make_reward(config.reward_right, config.reward_wrong)
        case "shuffled":
            return classification.shuffled_reward
        case "always":
            return classification.constant_reward
    raise ValueError(f"unknown reward {config.reward!r}")


def make_optimizer(
    config: Config, steps_per_epoch: int, rate: Any = None
) -> optax.GradientTransformation:
    """Build the optimizer: decay of kernels, a learning rate halved every so many epochs.

    Args:
      config: the experiment.
      steps_per_epoch: of training.
      rate: the learning rate, which may be traced; None: the configuration's.
    """
    rate = config.learning_rate if rate is None else rate
    if config.halve_every:
        rate = optax.exponential_decay(
            rate, _steps(config.halve_every, steps_per_epoch), 0.5, staircase=True
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
    optimizer = _decayed(config, optimizer)
    if config.weight_decay:
        optimizer = optax.chain(optimizer, *_decoupled_decay(config, steps_per_epoch))
    if config.trained_layers == "output":
        # A state of the optimizer for hidden layers would keep their gradients from being left out.
        kept = {True: optax.set_to_zero(), False: optimizer}
        return optax.partition(kept, layer_names.is_hidden)
    return optimizer


def _decayed(config: Config, optimizer: optax.GradientTransformation) -> Any:
    """Put the gradient of the L2 penalties in front."""
    if config.feedback_l2 is not None:
        return optax.chain(
            optax.add_decayed_weights(2 * config.l2, mask=feedback_updates.is_forward),
            optax.add_decayed_weights(2 * config.feedback_l2, mask=feedback_updates.is_feedback),
            optimizer,
        )
    if not config.l2:
        return optimizer
    return optax.chain(optax.add_decayed_weights(2 * config.l2, mask=_kernels), optimizer)


def _steps(epochs: int, steps_per_epoch: int) -> int:
    """Return the steps of so many epochs; optax counts up to 2³¹ − 1, which no run gets to."""
    return min(epochs * steps_per_epoch, 2**31 - 1)


def _weight_decay(config: Config, steps_per_epoch: int) -> optax.ScalarOrSchedule:
    """Return what decoupled decay adds to a step's update, as a multiple of the kernel: ≤ 0.

    A penalty (``l2``) passes through the optimizer, and Adam's division by a weight's own gradients
    then decays forward and feedback weights unequally; this decay keeps Kolen and Pollack's proof.
    """
    if not config.weight_decay_epochs:
        return -config.weight_decay
    return optax.cosine_decay_schedule(
        -config.weight_decay, _steps(config.weight_decay_epochs, steps_per_epoch)
    )


def _decoupled_decay(config: Config, steps_per_epoch: int) -> list[optax.GradientTransformation]:
    """Decay kernels behind the optimizer; feedback weights not before they learn."""
    decay = _weight_decay(config, steps_per_epoch)
    if not config.feedback_delay:
        return [optax.add_decayed_weights(decay, mask=_kernels)]
    begin = _steps(config.feedback_delay, steps_per_epoch)

    def delayed(step: Any) -> Any:
        return jnp.where(step < begin, 0.0, decay(step) if callable(decay) else decay)

    return [
        optax.add_decayed_weights(decay, mask=feedback_updates.is_forward),
        optax.add_decayed_weights(delayed, mask=feedback_updates.is_feedback),
    ]


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
        exploration=config.curriculum_exploration,
        max_wait=config.curriculum_max_wait,
        order=config.curriculum,
        mask=config.curriculum_outputs == "masked",
    )


def build_network(config: Config, num_classes: int) -> nn.Module:
    """Build the network, untrained."""
    return make_network(
        config.architecture,
        num_classes,
        feedback=config.feedback,
        initialization=config.initialization,
        dtype=jnp.bfloat16 if config.precision == "bfloat16" else None,
        feedback_init=config.feedback_init,
        feedback_scale=config.feedback_scale,
        **({} if config.hidden is None else {"hidden": config.hidden}),
    )


def make_learner(config: Config, rule: str, dataset: Dataset) -> Learner:
    """Build what learns, but for the optimizer, which is of no concern to a gradient."""
    return Learner(
        make_rule(rule, config),
        build_network(config, dataset.num_classes),
        optax.identity(),
        make_reward(config),
        config.batch_size,
        make_curriculum(config),
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
    return training.make_trainer(
        make_rule(rule, config),
        build_network(config, dataset.num_classes),
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
    """Initialize the networks of all seeds.

    Raises:
      UserError: a network that does not fit the images, or all of them the memory.
    """
    keys = root_keys(np.arange(config.first_seed, config.first_seed + config.seeds))
    try:
        memory.check(
            2 * memory.size(trainer.init, keys),  # now, and at the best epoch
            f"the weights of {display.counted(config.seeds, 'network')}",
            "--hidden or --seeds",
        )
        return fitting.start(trainer, keys)
    except ValueError as error:
        shape = "x".join(map(str, dataset.train_images.shape[1:]))
        raise UserError(f"{config.architecture} does not fit {shape} images: {error}") from None


def fit(
    trainer: training.Trainer, run: fitting.Fit, splits: Splits, config: Config, **options: Any
) -> Iterator[tuple[fitting.Fit, fitting.EpochRecord]]:
    """Train to the configuration's stopping rule: ``fitting.fit``, which takes ``options``.

    The records tell which seeds diverged; no warning does, which would count them from 0.
    """
    epochs = fitting.fit(
        trainer,
        run,
        splits.train,
        splits.monitored,
        epochs=config.epochs,
        patience=config.patience,
        min_gain=config.min_gain,
        last_batch=config.last_batch,
        **options,
    )
    while True:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"seed \d+ diverged")
            found = next(epochs, None)
        if found is None:
            return
        yield found


def _kernels(params: chex.ArrayTree) -> chex.ArrayTree:
    masks = feedback_updates.is_forward(params), feedback_updates.is_feedback(params)
    return jax.tree.map(lambda forward, feedback: forward or feedback, *masks)
