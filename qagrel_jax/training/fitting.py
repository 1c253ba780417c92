"""From the first epoch to the stopping rule: a run that can be saved after any epoch.

Early stopping is the papers' (Keras's ``EarlyStopping``, as in the authors' published code): the
monitored accuracy must gain more than ``min_gain`` over the last accuracy that did so, or after
``patience`` epochs without such a gain the seed stops. What is monitored is the protocol's choice:

``paper``  the test set, as in the papers; the accuracy reported is the best over the epochs, and
           thereby optimistic.
``clean``  a validation split held out of the training set picks the epoch; the test set is read
           once, with that epoch's parameters.

Learners stay on the device, which an epoch asks for numbers only at its end: on an accelerator an
epoch over resident images is one call. On CPU it is cut into chunks, after each of which progress
is reported and divergence noticed; the cuts change no number. What the stopping rule remembers is a
few numbers a seed, and lives on the host.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from qagrel_jax import sharding
from qagrel_jax.data import streaming
from qagrel_jax.training.trainer import (
    StepMetrics,
    Trainer,
    TrainState,
    overall_accuracy,
    select_seeds,
)

PROTOCOLS = ("clean", "paper")
LAST_BATCH = ("keep", "drop")


class Examples(NamedTuple):
    """Images and their labels."""

    images: chex.Array | streaming.HostImages  # uint8[n, height, width, channels]
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
    """What one epoch looked like, for each seed; NaN for seeds that have stopped."""

    epoch: int
    accuracy: np.ndarray  # float[S], on the monitored examples, greedy
    class_accuracy: np.ndarray  # float[S, classes]
    train_accuracy: np.ndarray  # float[S], choices during learning, exploration included
    error: np.ndarray  # float[S], mean δ² or loss


class DivergedError(FloatingPointError):
    """The error of a seed, counted from 0 among those of the run, is no longer a finite number."""

    def __init__(self, seed: int, step: int, epoch: int) -> None:
        super().__init__(f"seed {seed} diverged at step {step} (epoch {epoch}): NaN or infinity")
        self.seed, self.step, self.epoch = seed, step, epoch

    def counted_from(self, first_seed: int) -> "DivergedError":
        """Return the same error, its message naming the seed of a run that begins with another."""
        return DivergedError(first_seed + self.seed, self.step, self.epoch)


def place(examples: Examples, mesh: Mesh | None = None) -> Examples:
    """Put examples where training reads them from: on the device, or left behind to be streamed.

    Args:
      examples: in memory, on a device, or placed already.
      mesh: devices that each get a copy; None for one.

    Returns:
      Resident examples; above ``streaming.limit_bytes`` ``examples`` with ``HostImages``.

    Raises:
      ValueError: from ``streaming.limit_bytes``.
    """
    images, labels = examples
    if isinstance(images, np.ndarray) and images.nbytes > streaming.limit_bytes():
        images = streaming.HostImages(images)
    if isinstance(images, streaming.HostImages):
        return Examples(images, np.asarray(labels))
    return Examples(*jax.tree.map(jnp.asarray, sharding.replicate((images, labels), mesh)))


def start(trainer: Trainer, keys: chex.PRNGKey) -> Fit:
    """Initialise one learner for each of ``keys`` [S].

    Raises:
      ValueError: S is not divisible over the trainer's mesh.
    """
    seeds = keys.shape[0]
    parts = trainer.mesh.shape[sharding.SEEDS] if trainer.mesh is not None else 1
    if seeds % parts:
        raise ValueError(f"{seeds} seeds are not divisible over {parts} devices")
    states = trainer.init(keys)
    return Fit(
        epoch=np.int32(0),
        states=states,
        best=jax.tree.map(jnp.copy, states),
        best_accuracy=np.full(seeds, -1, np.float32),
        best_epoch=np.zeros(seeds, np.int32),
        reference=np.full(seeds, -1, np.float32),
        reference_epoch=np.zeros(seeds, np.int32),
        active=np.ones(seeds, bool),
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
    last_batch: str = "keep",
    chunk_steps: int | None = None,
    on_chunk: Callable[[int, int, int], None] = lambda epoch, done, steps: None,
) -> Iterator[tuple[Fit, EpochRecord]]:
    """Train from ``run`` on until every seed has stopped or ``epochs`` are done.

    Args:
      trainer: the compiled functions.
      run: from ``start``, or one saved earlier. It is consumed: its buffers are donated.
      train: examples to learn from; an epoch shows each once, in an order of its own for each
        seed; while a curriculum goes on it shows as many, drawn from the active classes. They are
        put in place by ``place``.
      monitored: examples the stopping rule watches.
      epochs: at most this many in all, those already in ``run`` included.
      patience: epochs without a gain after which a seed stops.
      min_gain: what counts as a gain, as a fraction of the monitored examples.
      last_batch: what becomes of the examples that do not fill a last batch: "keep", trained on
        (see ``make_trainer``), or "drop", left out of this epoch.
      chunk_steps: at most about so many steps a call; None: 100 on CPU, an epoch elsewhere.
      on_chunk: called with (epoch, steps done, steps in the epoch) after each chunk; off the CPU
        the device may still be at work on it.

    Yields:
      ``(run, record)`` after each epoch. ``run.states`` and ``run.best`` are consumed by the next
      iteration: save what is to be kept before going on.

    Raises:
      DivergedError: a seed's error is not finite; on CPU after that chunk, else after that epoch.
      ValueError: fewer training examples than a batch, or ``last_batch`` is neither of the two.
    """
    if last_batch not in LAST_BATCH:
        raise ValueError(f"last_batch must be 'keep' or 'drop', got {last_batch!r}")
    train, monitored = place(train, trainer.mesh), place(monitored, trainer.mesh)
    run = _on_mesh(run, trainer.mesh)
    seeds = len(run.active)
    while run.epoch < epochs and run.active.any():
        epoch = int(run.epoch) + 1
        chunks = _chunks(trainer, train, seeds, last_batch, chunk_steps, epoch)
        states, metrics = _one_epoch(trainer, run, train, epoch, chunks, on_chunk)
        class_accuracy = trainer.evaluate(states, *monitored)
        accuracy = overall_accuracy(class_accuracy, monitored.labels)

        def of_active(values: np.ndarray, active: np.ndarray = run.active) -> np.ndarray:
            shape = (seeds, *[1] * (values.ndim - 1))
            return np.where(active.reshape(shape), values, np.nan)

        record = EpochRecord(
            epoch,
            of_active(accuracy),
            of_active(class_accuracy),
            of_active(metrics.correct),
            of_active(metrics.error),
        )
        run = run._replace(epoch=np.int32(epoch), states=states)
        run = _after_epoch(run, accuracy, patience, min_gain)
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
    images, labels = examples
    if isinstance(images, np.ndarray) and images.nbytes > streaming.limit_bytes():
        images = streaming.HostImages(images)  # so that nothing is copied
    if isinstance(images, streaming.HostImages):
        parts = images.rows(kept), images.rows(held)
    else:
        parts = images[kept], images[held]
    return Examples(parts[0], labels[kept]), Examples(parts[1], labels[held])


class _Chunk(NamedTuple):
    """What one call learns from: examples ``first`` to ``last`` of an epoch's order."""

    first: int
    last: int
    batch: int  # examples a step
    length: int  # steps the call is compiled for: at least those it does

    @property
    def steps(self) -> int:
        return (self.last - self.first) // self.batch


def _chunks(
    trainer: Trainer,
    train: Examples,
    seeds: int,
    last_batch: str,
    chunk_steps: int | None,
    epoch: int,
) -> list[_Chunk]:
    """Cut an epoch into full batches, in calls of one length, and the incomplete last batch."""
    examples, batch = len(train.labels), trainer.batch_size
    full, rest = divmod(examples, batch)
    if full == 0:
        raise ValueError(f"{examples} training examples do not fill one batch of {batch}")
    most = chunk_steps or (100 if jax.default_backend() == "cpu" else full)
    if isinstance(train.images, streaming.HostImages):
        most = min(most, streaming.steps_at_once(train.images, seeds * batch))
    length, before = -(-full // -(-full // most)), 0
    if window := _window_read_at_once(trainer, train):
        # What is read depends on what was learned up to the last end of a window.
        length = min(most, window)
        before = (epoch - 1) * (full + (rest > 0 and last_batch == "keep"))
    chunks, step = [], 0
    while step < full:
        steps = length if not window else min(length, window - (before + step) % window)
        last = min(step + steps, full)
        chunks.append(_Chunk(batch * step, batch * last, batch, length))
        step = last
    if rest and last_batch == "keep":
        chunks.append(_Chunk(examples - rest, examples, rest, 1))
    return chunks


def _window_read_at_once(trainer: Trainer, train: Examples) -> int:
    """Return the curriculum's window where it decides what is to be streamed, else 0."""
    streamed = isinstance(train.images, streaming.HostImages)
    return trainer.curriculum.window if streamed and trainer.curriculum is not None else 0


def _one_epoch(
    trainer: Trainer,
    run: Fit,
    train: Examples,
    epoch: int,
    chunks: list[_Chunk],
    on_chunk: Callable[[int, int, int], None],
) -> tuple[TrainState, StepMetrics]:
    """Learn for one epoch; return the states and, on the host, means over its examples [S]."""
    images, labels = train
    order = trainer.epoch_order(run.states, np.int32(epoch), examples=len(labels))
    on_cpu = jax.default_backend() == "cpu"
    streamed = isinstance(images, streaming.HostImages)
    by_curriculum = bool(_window_read_at_once(trainer, train))
    if streamed:
        order = sharding.fetch(order)
    if streamed and not by_curriculum:
        batches = streaming.ahead(
            partial(streaming.read_batches, images, labels, _rows(order, chunk), trainer.mesh)
            for chunk in chunks
        )
    steps, done = sum(chunk.steps for chunk in chunks), 0
    before = (epoch - 1) * steps
    states, metrics = run.states, list[StepMetrics]()
    for chunk in chunks:
        # One program for chunks of all lengths; a fixed number of steps where they have just one.
        even = all(c.steps == c.length for c in chunks if c.batch == chunk.batch)
        count = None if even else np.int32(chunk.steps)
        if by_curriculum:
            rows = sharding.fetch(trainer.choose_rows(states, labels, _rows(order, chunk)))
            some_batches = streaming.read_batches(images, labels, rows, trainer.mesh)
            states, some = trainer.run_batches(states, run.active, *some_batches, count)
        elif streamed:
            states, some = trainer.run_batches(states, run.active, *next(batches), count)
        else:
            rows = _rows(order, chunk)
            states, some = trainer.run_steps(states, run.active, images, labels, rows, count)
        if on_cpu:  # elsewhere, waiting for numbers would leave the device idle
            some = sharding.fetch(some)
            _check_finite(some.error[:, : chunk.steps], before + done, epoch)
        elif streamed and metrics:  # one chunk at work and one waiting, lest they fill the device
            jax.block_until_ready(metrics[-1])
        metrics.append(some)
        done += chunk.steps
        on_chunk(epoch, done, steps)
    pieces = [
        jax.tree.map(lambda m, steps=chunk.steps: m[:, :steps], some)
        for chunk, some in zip(chunks, sharding.fetch(metrics), strict=True)
    ]
    per_step = jax.tree.map(lambda *m: np.concatenate(m, 1), *pieces)
    _check_finite(per_step.error, before, epoch)
    examples = np.concatenate([np.full(chunk.steps, chunk.batch) for chunk in chunks])
    return states, jax.tree.map(lambda m: np.average(m, 1, examples), per_step)


def _rows(order: chex.Array, chunk: _Chunk) -> chex.Array:
    """Return the rows int32[S, length, batch] of a chunk; steps that are not done repeat one."""
    rows = order[:, chunk.first : chunk.last].reshape(len(order), chunk.steps, chunk.batch)
    if chunk.steps == chunk.length:
        return rows
    padding = ((0, 0), (0, chunk.length - chunk.steps), (0, 0))
    return (jnp if isinstance(order, jax.Array) else np).pad(rows, padding, mode="edge")


def _after_epoch(run: Fit, accuracy: np.ndarray, patience: int, min_gain: float) -> Fit:
    better = run.active & (accuracy > run.best_accuracy)
    # In double precision, as Keras: a gain of exactly ``min_gain`` must not depend on rounding.
    gained = run.active & (np.asarray(accuracy, np.float64) - min_gain > run.reference)
    reference_epoch = np.where(gained, run.epoch, run.reference_epoch)
    return run._replace(
        best=_keep(better, run.states, run.best) if better.any() else run.best,
        best_accuracy=np.where(better, accuracy, run.best_accuracy),
        best_epoch=np.where(better, run.epoch, run.best_epoch),
        reference=np.where(gained, accuracy, run.reference),
        reference_epoch=reference_epoch,
        active=run.active & (run.epoch - reference_epoch < patience),
    )


_keep = jax.jit(select_seeds, donate_argnums=2)


def _on_mesh(run: Fit, mesh: Mesh | None) -> Fit:
    """Put the learners on the mesh, and what is remembered of them on the host."""
    return run._replace(
        states=sharding.by_seed(run.states, mesh),
        best=sharding.by_seed(run.best, mesh),
        **{name: np.asarray(getattr(run, name)) for name in _REMEMBERED},
    )


_REMEMBERED = tuple(name for name in Fit._fields if name not in ("states", "best"))


def _check_finite(errors: np.ndarray, steps_before: int, epoch: int) -> None:
    bad = ~np.isfinite(errors)
    if bad.any():
        step = int(np.argmax(bad.any(0)))
        raise DivergedError(int(np.argmax(bad[:, step])), steps_before + step + 1, epoch)
