"""One epoch over all examples: cut into calls of the compiled steps, and put together again.

On an accelerator an epoch over images in memory is one call for its full batches, and one for the
incomplete last batch. On CPU it is cut into chunks, after each of which progress is reported and
divergence noticed. The cuts change no number, and all full chunks are of one compiled length.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from qagrel_jax import sharding
from qagrel_jax.data import streaming
from qagrel_jax.training.examples import Examples
from qagrel_jax.training.step import StepMetrics, TrainState
from qagrel_jax.training.trainer import Trainer


class DivergedError(FloatingPointError):
    """The error of a seed, counted from 0 among those of the run, is no longer a finite number.

    So it is, too, where a schedule takes epsilon or temperature out of its range. ``fit`` raises it
    once no seed of the run is left, and names the last. ``step`` counts, from 1, the batches that
    this seed has seen, those of earlier phases included. ``by_reward``: in that step a reward was
    NaN or infinite.
    """

    def __init__(self, seed: int, step: int, epoch: int, by_reward: bool = False) -> None:
        what = "a reward is NaN or infinite" if by_reward else "NaN or infinity"
        super().__init__(f"seed {seed} diverged at step {step} (epoch {epoch}): {what}")
        self.seed, self.step, self.epoch, self.by_reward = seed, step, epoch, by_reward

    def __reduce__(self) -> tuple:
        # As another process passes it on.
        return type(self), (self.seed, self.step, self.epoch, self.by_reward)

    def counted_from(self, first_seed: int) -> DivergedError:
        """Return the same error, its message naming the seed of a run that begins with another."""
        return DivergedError(first_seed + self.seed, self.step, self.epoch, self.by_reward)


class Chunk(NamedTuple):
    """What one call learns from: examples ``first`` to ``last`` of an epoch's order."""

    first: int  # the first example, in the order of the epoch
    last: int  # the one after the last
    batch: int  # examples a step
    length: int  # steps the call is compiled for: at least those it does

    @property
    def steps(self) -> int:
        """Steps that the call does."""
        return (self.last - self.first) // self.batch


def chunks_of_epoch(
    trainer: Trainer,
    train: Examples,
    seeds: int,
    last_batch: str,
    chunk_steps: int | None,
    steps_before: Collection[int] = (0,),
    over: bool = False,
) -> list[Chunk]:
    """Cut an epoch into full batches, in calls of one length, and the incomplete last batch.

    Args:
      trainer: knows the batch size.
      train: examples in memory or streamed, which limits a call's steps.
      seeds: number of seeds, each with batches of its own.
      last_batch: "keep" or "drop".
      chunk_steps: about the most steps of a compiled call; None: 100 on CPU, an epoch elsewhere.
      steps_before: steps that the seeds which learn have done; a curriculum's windows run on from
        epoch to epoch.
      over: the curriculum, if any, shows every seed that learns all classes.

    Raises:
      ValueError: fewer examples than a batch.
    """
    examples, batch = len(train.labels), trainer.batch_size
    full, rest = divmod(examples, batch)
    if full == 0:
        raise ValueError(f"{examples} training examples do not fill one batch of {batch}")
    most = chunk_steps or (100 if jax.default_backend() == "cpu" else full)
    if isinstance(train.images, streaming.HostImages):
        most = min(most, streaming.steps_at_once(train.images, seeds * batch))
    length = -(-full // -(-full // most))
    if window := _window_read_at_once(trainer, train, over):
        # What is read depends on what was learned up to the last end of a window.
        length = min(most, window)
    chunks, step = list[Chunk](), 0
    while step < full:
        steps = length
        if window:
            steps = min(length, *(window - (before + step) % window for before in steps_before))
        last = min(step + steps, full)
        chunks.append(Chunk(batch * step, batch * last, batch, length))
        step = last
    if rest and last_batch == "keep":
        chunks.append(Chunk(examples - rest, examples, rest, 1))
    return chunks


def _window_read_at_once(trainer: Trainer, train: Examples, over: bool) -> int:
    """Return the curriculum's window where it decides what is to be streamed, else 0."""
    streamed = isinstance(train.images, streaming.HostImages)
    if trainer.curriculum is None or over or not streamed:
        return 0
    return trainer.curriculum.window


def run_epoch(
    trainer: Trainer,
    states: TrainState,
    active: np.ndarray,
    lost: np.ndarray,
    train: Examples,
    epoch: int,
    chunks: list[Chunk],
    on_chunk: Callable[[int, int, int], None],
    over: bool = False,
) -> tuple[TrainState, StepMetrics, list[DivergedError]]:
    """Learn for one epoch; ``over`` as in the chunks.

    ``active`` are the seeds that learn, ``lost`` those that diverged in an earlier epoch.

    Returns:
      The states, on the host means over the epoch's examples [S], and the seeds that diverged.

    Raises:
      DivergedError: no seed of the run is left.
    """
    rate = trainer.learning_rate
    if rate is not None:
        rate = np.asarray(rate, jnp.result_type(float))  # a plain number would compile anew
    on_cpu = jax.default_backend() == "cpu"
    streamed = isinstance(train.images, streaming.HostImages)
    learn = _learn_from(trainer, states, train, epoch, chunks, over)
    steps, done = sum(chunk.steps for chunk in chunks), 0
    metrics = list[StepMetrics]()
    left = ~lost
    for chunk in chunks:
        # One program for chunks of all lengths; a fixed number of steps where they have just one.
        even = all(c.steps == c.length for c in chunks if c.batch == chunk.batch)
        count = None if even else np.int32(chunk.steps)
        states, some = learn(chunk, states, active, count, rate)
        if on_cpu:  # elsewhere, waiting for numbers would leave the device idle
            some = sharding.fetch(some)
            left &= ~active | np.isfinite(some.error[:, : chunk.steps]).all(1)
        elif streamed and metrics:  # one chunk at work and one waiting, lest they fill the device
            jax.block_until_ready(metrics[-1])
        metrics.append(some)
        done += chunk.steps
        if not left.any():
            break
        on_chunk(epoch, done, steps)
    metrics, after = sharding.fetch((metrics, states.step))
    pieces = [
        jax.tree.map(lambda m, steps=chunk.steps: m[:, :steps], some)
        for chunk, some in zip(chunks, metrics, strict=False)
    ]
    per_step = jax.tree.map(lambda *m: np.concatenate(m, 1), *pieces)
    diverged = _diverged(per_step, active, after - done, epoch)
    _check_some_are_left(lost, diverged)
    examples = np.concatenate([np.full(chunk.steps, chunk.batch) for chunk in chunks])
    return states, jax.tree.map(lambda m: np.average(m, 1, examples), per_step), diverged


def _learn_from(
    trainer: Trainer,
    states: TrainState,
    train: Examples,
    epoch: int,
    chunks: list[Chunk],
    over: bool,
) -> Callable[..., tuple[TrainState, StepMetrics]]:
    """Return ``(chunk, states, active, count, rate) -> states, metrics``, called chunk by chunk."""
    images, labels = train
    order = trainer.epoch_order(states, np.int32(epoch), examples=len(labels))
    streamed = isinstance(images, streaming.HostImages)
    if streamed or (jax.default_backend() == "cpu" and trainer.mesh is None):
        order = sharding.fetch(order)  # NumPy cuts it without a program a cut

    def in_memory(chunk: Chunk, states: TrainState, active: np.ndarray, *how: Any) -> tuple:
        return trainer.run_steps(states, active, images, labels, _rows(order, chunk), *how)

    def as_the_curriculum_draws(
        chunk: Chunk, states: TrainState, active: np.ndarray, *how: Any
    ) -> tuple:
        rows = sharding.fetch(trainer.choose_rows(states, labels, _rows(order, chunk)))
        batches = streaming.read_batches(images, labels, rows, trainer.mesh)
        return trainer.run_batches(states, active, *batches, *how)

    if not streamed:
        return in_memory
    if _window_read_at_once(trainer, train, over):
        return as_the_curriculum_draws
    reader = streaming.prefetch(
        partial(streaming.read_batches, images, labels, _rows(order, chunk), trainer.mesh)
        for chunk in chunks
    )

    def next_batches(chunk: Chunk, states: TrainState, active: np.ndarray, *how: Any) -> tuple:
        return trainer.run_batches(states, active, *next(reader), *how)

    return next_batches


def _rows(order: chex.Array, chunk: Chunk) -> chex.Array:
    """Return the rows int32[S, length, batch] of a chunk; steps that are not done repeat one."""
    rows = order[:, chunk.first : chunk.last].reshape(len(order), chunk.steps, chunk.batch)
    if chunk.steps == chunk.length:
        return rows
    padding = ((0, 0), (0, chunk.length - chunk.steps), (0, 0))
    return (jnp if isinstance(order, jax.Array) else np).pad(rows, padding, mode="edge")


def _diverged(
    metrics: StepMetrics, active: np.ndarray, steps_before: np.ndarray, epoch: int
) -> list[DivergedError]:
    """Return which active seeds have errors [S, steps] that are not finite, and since when.

    ``steps_before`` [S]: those of earlier phases may be of another number for each seed.
    """
    bad = ~np.isfinite(metrics.error) & active[:, None]
    found = []
    for seed in np.flatnonzero(bad.any(1)).tolist():
        first = int(bad[seed].argmax())
        by_reward = metrics.reward is not None and not np.isfinite(metrics.reward[seed, first])
        step = int(steps_before[seed]) + first + 1
        found.append(DivergedError(seed, step, epoch, bool(by_reward)))
    return found


def _check_some_are_left(lost: np.ndarray, diverged: Sequence[DivergedError]) -> None:
    if lost.sum() + len(diverged) == len(lost):
        raise max(diverged, key=lambda error: error.step)
