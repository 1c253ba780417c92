"""From the first epoch to the stopping rule: a run that can be saved after any epoch.

Early stopping is the papers' (Keras's ``EarlyStopping``, as in the authors' published code): the
monitored accuracy must gain more than ``min_gain`` over the last accuracy that did so, or after
``patience`` epochs without such a gain the seed stops. What is monitored is the protocol's choice:

``paper``  the test set, as in the papers; the accuracy reported is the best over the epochs, and
           thereby optimistic.
``clean``  a validation split held out of the training set picks the epoch; the test set is read
           once, with that epoch's parameters.

Learners stay on the device, which is asked for numbers only at the end of an epoch. What the
stopping rule remembers is a few numbers a seed, and lives on the host.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from qagrel_jax import checks, sharding
from qagrel_jax.random_keys import is_key
from qagrel_jax.training.epoch import DivergedError, chunks_of_epoch, run_epoch
from qagrel_jax.training.evaluation import overall_accuracy
from qagrel_jax.training.examples import (
    Examples,
    as_arrays,
    check_kind,
    check_pixels,
    place,
    split,
)
from qagrel_jax.training.step import StepMetrics, Stream, TrainState
from qagrel_jax.training.trainer import Trainer, select_seeds

__all__ = [
    "LAST_BATCH",
    "PROTOCOLS",
    "DivergedError",
    "EpochRecord",
    "Examples",
    "Fit",
    "fit",
    "new_phase",
    "place",
    "split",
    "start",
]

PROTOCOLS = ("clean", "paper")
LAST_BATCH = ("keep", "drop")


class Fit(NamedTuple):
    """A run after some epoch: all it takes to resume. Leading axes S run over seeds.

    ``training.save`` and ``training.load`` keep it in a file; ``qagrel_jax.plain`` makes of it what
    flax.serialization and orbax save, and back. ``training.variables_of(run.best, seed)`` is what
    ``network.apply`` takes.
    """

    epoch: chex.Array  # int32[], epochs done
    states: TrainState  # the learners now
    best: TrainState  # the learners at their best epoch (key, step, params, ... of that moment)
    best_accuracy: chex.Array  # float32[S], highest monitored accuracy
    best_epoch: chex.Array  # int32[S], the epoch of ``best``
    reference: chex.Array  # float32[S], the accuracy of the last gain; NaN: the seed diverged
    reference_epoch: chex.Array  # int32[S], the epoch of ``reference``
    active: chex.Array  # bool[S], not yet stopped

    @property
    def diverged(self) -> np.ndarray:
        """bool[S], whose error was no longer a finite number: such a seed has stopped.

        ``best`` has its weights of its best epoch, as ever; if it diverged in the first, they are
        not finite.
        """
        return np.isnan(np.asarray(self.reference))


class EpochRecord(NamedTuple):
    """What one epoch looked like, for each seed; NaN for seeds that have stopped."""

    epoch: int  # counted from 1
    accuracy: np.ndarray  # float[S], on the monitored examples, greedy; what is correct, the
    # trainer says: choices of the label, if it was not given a ``correct``
    class_accuracy: np.ndarray  # float[S, classes], of each class; 0 where it has no examples
    train_accuracy: np.ndarray  # float[S], choices during learning, exploration included
    error: np.ndarray  # float[S], mean δ² or loss
    reward: np.ndarray  # float[S], mean reward during learning; NaN: the rule is told labels
    diverged: tuple[DivergedError, ...] = ()  # the seeds that diverged in it; they have stopped


def start(trainer: Trainer, keys: chex.PRNGKey) -> Fit:
    """Initialize one learner for each of ``keys`` [S].

    Raises:
      ValueError: no keys, or S is not divisible over the trainer's mesh.
      TypeError: ``keys`` is one key, or none.

    >>> import optax
    >>> from qagrel_jax import make_network, make_trainer, q_agrel
    >>> network, sizes = make_network("dense", 2, hidden=(3,)), {"image_shape": (2, 2, 1)}
    >>> trainer = make_trainer(q_agrel(), network, optax.sgd(1.0), num_classes=2, **sizes)
    >>> run = start(trainer, jax.random.split(jax.random.key(0), 4))
    >>> run.states.params["Dense_0"]["kernel"].shape, run.active.tolist()
    ((4, 4, 3), [True, True, True, True])
    """
    if not isinstance(keys, jax.Array) or keys.ndim != (1 if is_key(keys) else 2):
        raise TypeError(
            "keys must be random keys [seeds], such as jax.random.split(jax.random.key(0), seeds), "
            f"got {checks.in_a_line(keys)}"
        )
    seeds = keys.shape[0]
    checks.whole("the number of keys", seeds)
    parts = trainer.mesh.shape[sharding.SEEDS] if trainer.mesh is not None else 1
    if seeds % parts:
        raise ValueError(f"{seeds} seeds are not divisible over {parts} devices")
    return _before_epoch_1(trainer.init(keys), seeds)


def new_phase(run: Fit) -> Fit:
    """Begin another phase with the learners as they are: other examples, another reward.

    Weights, BatchNorm's statistics, a curriculum and the optimizer's state, with the steps that its
    schedules count, go on. Epochs are counted from 1 again, no epoch is the best yet, every seed is
    active, also one that had stopped, but for those that diverged, and what is random is drawn
    anew: the key of phase i + 1 is ``fold_in(key of phase i, 7)``.

    Args:
      run: after some epoch of the phase before. It is consumed by the next ``fit``.

    Returns:
      A run for ``fit``, of the same trainer or of one that differs in reward or rule alone.

    Raises:
      ValueError: ``run`` was consumed.
      TypeError: ``run`` is no ``Fit``.

    Reversal learning, from the weights that the first contingency left:

    >>> import optax
    >>> from qagrel_jax import make_network, make_trainer, q_agrel
    >>> images, labels = np.eye(2, dtype=np.float32).reshape(2, 1, 2, 1), np.arange(2)
    >>> patterns = Examples(np.tile(images, (32, 1, 1, 1)), np.tile(labels, 32))
    >>> network, sizes = make_network("dense", 2, hidden=(8,)), {"image_shape": (1, 2, 1)}
    >>> options = {"num_classes": 2, "batch_size": 8, **sizes}
    >>> before = make_trainer(q_agrel(), network, optax.sgd(0.2), **options)
    >>> opposite = lambda labels, actions: labels != actions
    >>> after = make_trainer(q_agrel(), network, optax.sgd(0.2), correct=opposite, **options)
    >>> run = start(before, jax.random.split(jax.random.key(0), 1))
    >>> for run, record in fit(before, run, patterns, patterns, epochs=20):
    ...     pass
    >>> after.evaluate(run.states, *patterns).tolist()
    [[0.0, 0.0]]
    >>> for run, record in fit(after, new_phase(run), patterns, patterns, epochs=20):
    ...     pass
    >>> record.accuracy.tolist()
    [1.0]
    """
    checks.instance("run", run, Fit, "start gives one")
    checks.not_consumed("run", run)
    keys = jax.vmap(lambda key: jax.random.fold_in(key, Stream.PHASE))(run.states.key)
    begun = _before_epoch_1(run.states._replace(key=keys), len(run.active))
    lost = run.diverged
    return begun._replace(
        reference=np.where(lost, _DIVERGED, begun.reference), active=begun.active & ~lost
    )


_DIVERGED = np.float32(np.nan)  # in place of the accuracy of the last gain, which has no use then


def _before_epoch_1(states: TrainState, seeds: int) -> Fit:
    return Fit(
        epoch=np.int32(0),
        states=states,
        best=_copy(states),
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
    patience: int | None = None,
    min_gain: float = 0.001,
    last_batch: str = "keep",
    chunk_steps: int | None = None,
    on_chunk: Callable[[int, int, int], None] = lambda epoch, done, steps: None,
) -> Iterator[tuple[Fit, EpochRecord]]:
    """Train from ``run`` on until every seed has stopped or ``epochs`` are done.

    Args:
      trainer: the compiled functions.
      run: from ``start`` or ``new_phase``, or one saved earlier. It is consumed: its buffers are
        donated. ``jax.tree.map(jnp.copy, run)`` is another, to go on from twice.
      train: examples to learn from; an epoch shows each once, in an order of its own for each
        seed; during a curriculum it shows as many, drawn from the active classes. ``place``
        puts them on the device.
      monitored: examples the stopping rule watches: the accuracy of greedy choices, correct as
        the trainer's ``correct`` has it.
      epochs: at most this many in all, those already in ``run`` included. For other examples or
        another reward begin a ``new_phase``.
      patience: epochs without a gain after which a seed stops; None: none stops early. A seed
        that has stopped stays so when the run is resumed.
      min_gain: what counts as a gain, as a fraction of the monitored examples.
      last_batch: what becomes of the examples that do not fill a last batch: "keep", trained on
        (see ``make_trainer``), or "drop", left out of this epoch.
      chunk_steps: about the most steps of a compiled call; None: 100 on CPU, an epoch elsewhere.
      on_chunk: called with (epoch, steps done, steps in the epoch) after each chunk; off the CPU
        the device may still be at work on it.

    Yields:
      ``(run, record)`` after each epoch. ``run.states`` and ``run.best`` are consumed by the next
      iteration: save what is to be kept before the next one. Nothing where ``epochs`` are done or
      every seed has stopped.

    A seed whose error is no longer finite has diverged: it stops, ``run.diverged`` and the record
    tell of it, and the others go on. An output that is no number is no choice, and never correct.

    Raises:
      DivergedError: every seed has diverged; on CPU after that chunk, else after that epoch.
      ValueError: fewer training examples than a batch, none to monitor, images of another shape
        than the trainer's or not as many as labels, one that is not finite (of streamed ones the
        first are looked at), ``last_batch`` is neither of the two, a number or a label out of
        range, with a curriculum a class without training examples; a ``run`` that was consumed, or
        is of another network, optimizer or curriculum; a network that sows.
      TypeError: an argument of another type.

    Warns:
      UserWarning: float images that look like pixels up to 255: floats are taken as they are; uint8
        images of 0 and 1, which are divided by 255.
      RuntimeWarning: a seed diverged.

    Two seeds of a dense network learn the digits for two epochs:

    >>> import optax, qagrel_jax as qj
    >>> digits = qj.data.load("digits")
    >>> trainer = qj.make_trainer(
    ...     qj.q_agrel(),
    ...     qj.make_network("dense", num_actions=10, hidden=(20,)),
    ...     optax.sgd(0.1),
    ...     image_shape=(8, 8, 1),
    ...     num_classes=10,
    ... )
    >>> run = start(trainer, jax.random.split(jax.random.key(0), 2))
    >>> train = Examples(digits.train_images, digits.train_labels)
    >>> test = Examples(digits.test_images, digits.test_labels)
    >>> for run, record in fit(trainer, run, train, test, epochs=2):
    ...     print(record.epoch, record.accuracy.shape)
    1 (2,)
    2 (2,)
    >>> qj.training.variables_of(run.best, seed=0)["params"]["Dense_0"]["kernel"].shape
    (64, 20)
    """
    checks.option("last_batch", last_batch, LAST_BATCH)
    checks.whole("epochs", epochs, 0)
    if patience is not None:
        checks.whole("patience", patience)
    checks.number("min_gain", min_gain, 0)
    if chunk_steps is not None:
        checks.whole("chunk_steps", chunk_steps)
    checks.function("on_chunk", on_chunk, takes=("epoch", "done", "steps"))
    checks.instance("run", run, Fit, "start gives one")
    checks.not_consumed("run", run)
    _check_run(trainer, run)
    train, monitored = as_arrays(train, "train"), as_arrays(monitored, "monitored")
    for name, examples in (("train", train), ("monitored", monitored)):
        check_kind(name, examples, trainer.image_shape)
        if not len(examples.labels):
            raise ValueError(f"{name} has no examples")
        check_pixels(name, examples.images)
    train = _on_device("train", train, trainer)
    monitored = _on_device("monitored", monitored, trainer)
    if trainer.curriculum is not None and trainer.num_classes is not None:
        checks.every_class(train.labels, trainer.num_classes)
    run = _on_mesh(run, trainer.mesh)
    seeds = len(run.active)
    # A curriculum's windows go on from before a resumption, and from phase to phase. Without one
    # the device is not waited for.
    windows = trainer.curriculum is not None
    before = sharding.fetch(run.states.step) if windows else np.zeros(seeds, np.int32)
    while run.epoch < epochs and run.active.any():
        epoch = int(run.epoch) + 1
        over = _curriculum_is_over(run)
        done = set(before[run.active].tolist())
        chunks = chunks_of_epoch(trainer, train, seeds, last_batch, chunk_steps, done, over)
        states, metrics, diverged = run_epoch(
            trainer,
            run.states,
            run.active,
            run.diverged,
            train,
            epoch,
            chunks,
            on_chunk,
            over,
        )
        for error in diverged:
            warnings.warn(f"{error}; it stops, the others go on", RuntimeWarning, stacklevel=2)
        before = before + sum(chunk.steps for chunk in chunks)
        class_accuracy = trainer.evaluate(states, *monitored)
        accuracy = overall_accuracy(class_accuracy, monitored.labels)
        record = _record(epoch, accuracy, class_accuracy, metrics, run.active, diverged)
        run = run._replace(epoch=np.int32(epoch), states=states)
        run = _after_epoch(run, accuracy, patience, min_gain, diverged)
        yield run, record


def _check_run(trainer: Trainer, run: Fit) -> None:
    """Raise ``ValueError`` if the learners are not such as ``trainer`` starts."""

    def arrays(states: TrainState) -> dict[str, str]:
        leaves = jax.tree_util.tree_leaves_with_path(states)
        return {
            jax.tree_util.keystr(path): f"{x.dtype}{list(np.shape(x)[1:])}" for path, x in leaves
        }

    wanted = arrays(jax.eval_shape(trainer.init, run.states.key))
    for states in (run.states, run.best):
        found = arrays(states)
        for path in (*wanted, *found):
            if wanted.get(path) != found.get(path):
                raise ValueError(
                    f"run is of another network, optimizer or curriculum than trainer: its states"
                    f"{path} is {found.get(path, 'missing')}, expected "
                    f"{wanted.get(path, 'none')}"
                )


def _curriculum_is_over(run: Fit) -> bool:
    """Say whether all seeds that go on see every class, as they do without a curriculum."""
    curriculum = run.states.curriculum
    return curriculum is None or bool(sharding.fetch(curriculum.over)[run.active].all())


def _on_device(name: str, examples: Examples, trainer: Trainer) -> Examples:
    """Put examples on the device, and check their labels."""
    examples = place(examples, trainer.mesh)
    if trainer.num_classes is not None:
        checks.labels(f"labels of {name}", examples.labels, trainer.num_classes)
    return examples


def _record(
    epoch: int,
    accuracy: np.ndarray,
    class_accuracy: np.ndarray,
    metrics: StepMetrics,
    active: np.ndarray,
    diverged: Sequence[DivergedError],
) -> EpochRecord:
    """Return the record of an epoch; ``metrics`` are means over its steps."""

    def of_active(values: np.ndarray) -> np.ndarray:
        return np.where(active.reshape(-1, *[1] * (values.ndim - 1)), values, np.nan)

    reward = metrics.error * np.nan if metrics.reward is None else metrics.reward
    return EpochRecord(
        epoch,
        accuracy=of_active(accuracy),
        class_accuracy=of_active(class_accuracy),
        train_accuracy=of_active(metrics.correct),
        error=of_active(metrics.error),
        reward=of_active(reward),
        diverged=tuple(diverged),
    )


def _after_epoch(
    run: Fit,
    accuracy: np.ndarray,
    patience: int | None,
    min_gain: float,
    diverged: Sequence[DivergedError] = (),
) -> Fit:
    lost = np.isin(np.arange(len(run.active)), [error.seed for error in diverged])
    better = run.active & (accuracy > run.best_accuracy)
    # In double precision, as Keras; the accuracies are float32, so that whether one of exactly
    # ``min_gain`` counts depends on their rounding.
    gained = run.active & (np.asarray(accuracy, np.float64) - min_gain > run.reference)
    reference_epoch = np.where(gained, run.epoch, run.reference_epoch)
    return run._replace(
        best=_keep(better, run.states, run.best) if better.any() else run.best,
        best_accuracy=np.where(better, accuracy, run.best_accuracy),
        best_epoch=np.where(better, run.epoch, run.best_epoch),
        reference=np.where(lost, _DIVERGED, np.where(gained, accuracy, run.reference)),
        reference_epoch=reference_epoch,
        active=run.active & ~lost & (patience is None or run.epoch - reference_epoch < patience),
    )


_keep = jax.jit(select_seeds, donate_argnums=2)
_copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))  # one program, not one an array


def _on_mesh(run: Fit, mesh: Mesh | None) -> Fit:
    """Put the learners on the mesh, and what is remembered of them on the host."""
    return run._replace(
        states=sharding.by_seed(run.states, mesh),
        best=sharding.by_seed(run.best, mesh),
        **{name: np.asarray(getattr(run, name)) for name in _REMEMBERED},
    )


_REMEMBERED = tuple(name for name in Fit._fields if name not in ("states", "best"))
