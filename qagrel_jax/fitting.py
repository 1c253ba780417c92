"""From the first epoch to the stopping rule: a run that can be saved after any epoch.

Early stopping is the papers' (Keras's ``EarlyStopping``, as in the authors' published code): the
monitored accuracy must gain more than ``min_gain`` over the last accuracy that did so, or after
``patience`` epochs without such a gain the seed stops. What is monitored is the protocol's choice:

``paper``  the test set, as in the papers; the accuracy reported is the best over the epochs, and
           thereby optimistic.
``clean``  a validation split held out of the training set picks the epoch; the test set is read
           once, with that epoch's parameters.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from qagrel_jax.training import Trainer, TrainState, overall_accuracy, select_seeds

PROTOCOLS = ("clean", "paper")


class Examples(NamedTuple):
    """Images and their labels."""

    images: chex.Array  # uint8[n, height, width, channels]
    labels: chex.Array  # int32[n]


class Fit(NamedTuple):
    """A run after some epoch: all it takes to go on. Leading axes S run over seeds."""

    epoch: chex.Array  # int32[], epochs done
    states: TrainState  # the learners now
    best: TrainState  # the learners at their best epoch (key, step, params, ... of that moment)
    best_accuracy: chex.Array  # float32[S], highest monitored accuracy
    best_epoch: chex.Array  # int32[S]
    reference: chex.Array  # float32[S], the accuracy the next gain is measured from
    reference_epoch: chex.Array  # int32[S]
    active: chex.Array  # bool[S], not yet stopped


class EpochRecord(NamedTuple):
    """What one epoch looked like, for each seed; stopped seeds repeat their last values as NaN."""

    epoch: int
    accuracy: np.ndarray  # float[S], on the monitored examples, greedy
    class_accuracy: np.ndarray  # float[S, classes]
    train_accuracy: np.ndarray  # float[S], choices during learning, exploration included
    error: np.ndarray  # float[S], mean δ² or loss


class DivergedError(FloatingPointError):
    """The error of a seed is no longer a finite number."""

    def __init__(self, seed: int, step: int, epoch: int) -> None:
        super().__init__(f"seed {seed} diverged at step {step} (epoch {epoch}): NaN or infinity")


def start(trainer: Trainer, keys: chex.PRNGKey) -> Fit:
    """Initialise one learner for each of ``keys`` [S]."""
    seeds = keys.shape[0]
    states = trainer.init(keys)
    return Fit(
        epoch=jnp.int32(0),
        states=states,
        best=jax.tree.map(jnp.copy, states),
        best_accuracy=jnp.full(seeds, -1.0),
        best_epoch=jnp.zeros(seeds, jnp.int32),
        reference=jnp.full(seeds, -1.0),
        reference_epoch=jnp.zeros(seeds, jnp.int32),
        active=jnp.ones(seeds, bool),
    )


def fit(
    trainer: Trainer,
    run: Fit,
    train: Examples,
    monitored: Examples,
    *,
    epochs: int,
    patience: int,
    min_gain: float = 0.001,
    chunk_steps: int = 100,
    on_chunk: Callable[[int, int, int], None] = lambda epoch, done, steps: None,
) -> Iterator[tuple[Fit, EpochRecord]]:
    """Train from ``run`` on until every seed has stopped or ``epochs`` are done.

    Args:
      trainer: the compiled functions.
      run: from ``start``, or one saved earlier. It is consumed: its buffers are donated.
      train: examples to learn from; an epoch shows each once, in an order of its own for each
        seed, less those that do not fill a last batch.
      monitored: examples the stopping rule watches.
      epochs: at most this many in all, those already in ``run`` included.
      patience: epochs without a gain after which a seed stops.
      min_gain: what counts as a gain, as a fraction of the monitored examples.
      chunk_steps: about how many steps to compile into one call.
      on_chunk: called with (epoch, steps done, steps in the epoch) after each chunk.

    Yields:
      ``(run, record)`` after each epoch. ``run.states`` is consumed by the next iteration: save
      what is to be kept before going on.

    Raises:
      DivergedError: as soon as a seed's error is not finite.
      ValueError: fewer training examples than a batch.
    """
    examples = train.labels.shape[0]
    seeds = run.active.shape[0]
    while int(run.epoch) < epochs and bool(run.active.any()):
        epoch = int(run.epoch) + 1
        order = trainer.epoch_order(run.states, jnp.int32(epoch), examples=examples)
        steps = order.shape[1]
        if steps == 0:
            raise ValueError(f"{examples} training examples do not fill one batch")
        states, metrics = run.states, []
        for rows in np.array_split(np.arange(steps), -(-steps // chunk_steps)):
            first, last = int(rows[0]), int(rows[-1]) + 1
            states, chunk = trainer.run_steps(
                states, run.active, train.images, train.labels, order[:, first:last]
            )
            metrics.append(jax.tree.map(np.asarray, chunk))
            _check_finite(metrics[-1].error, (epoch - 1) * steps + first, epoch)
            on_chunk(epoch, last, steps)
        class_accuracy = trainer.evaluate(states, *monitored)
        accuracy = overall_accuracy(class_accuracy, monitored.labels)
        active = np.asarray(run.active)

        def of_active(values: np.ndarray, active: np.ndarray = active) -> np.ndarray:
            shape = (seeds, *[1] * (values.ndim - 1))
            return np.where(active.reshape(shape), values, np.nan)

        record = EpochRecord(
            epoch,
            of_active(np.asarray(accuracy)),
            of_active(np.asarray(class_accuracy)),
            of_active(np.concatenate([m.correct for m in metrics], axis=1).mean(1)),
            of_active(np.concatenate([m.error for m in metrics], axis=1).mean(1)),
        )
        run = _after_epoch(
            run._replace(epoch=jnp.int32(epoch), states=states), accuracy, patience, min_gain
        )
        yield run, record


def split(examples: Examples, fraction: float) -> tuple[Examples, Examples]:
    """Hold a validation set out of ``examples``, the same one for every seed and rule.

    Args:
      examples: n examples.
      fraction: of them to hold out, in (0, 1); at least one, drawn by a fixed permutation.

    Returns:
      ``(kept, held_out)``.

    Raises:
      ValueError: a fraction that leaves one side empty.
    """
    examples_in_all = len(examples.labels)
    held_out = max(1, round(fraction * examples_in_all))
    if not 0 < fraction < 1 or held_out >= examples_in_all:
        raise ValueError(f"validation fraction must leave examples on both sides, got {fraction}")
    order = np.random.default_rng(0).permutation(examples_in_all)
    kept, held = np.sort(order[held_out:]), np.sort(order[:held_out])
    return (
        Examples(examples.images[kept], examples.labels[kept]),
        Examples(examples.images[held], examples.labels[held]),
    )


@jax.jit
def _after_epoch(run: Fit, accuracy: chex.Array, patience: int, min_gain: float) -> Fit:
    better = run.active & (accuracy > run.best_accuracy)
    gained = run.active & (accuracy - min_gain > run.reference)
    reference_epoch = jnp.where(gained, run.epoch, run.reference_epoch)
    return run._replace(
        best=select_seeds(better, run.states, run.best),
        best_accuracy=jnp.where(better, accuracy, run.best_accuracy),
        best_epoch=jnp.where(better, run.epoch, run.best_epoch),
        reference=jnp.where(gained, accuracy, run.reference),
        reference_epoch=reference_epoch,
        active=run.active & (run.epoch - reference_epoch < patience),
    )


def _check_finite(errors: np.ndarray, steps_before: int, epoch: int) -> None:
    bad = ~np.isfinite(errors)
    if bad.any():
        step = int(np.argmax(bad.any(0)))
        raise DivergedError(int(np.argmax(bad[:, step])), steps_before + step + 1, epoch)
