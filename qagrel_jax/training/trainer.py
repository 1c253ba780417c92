"""Training many seeds of one network with one rule: compiled once, on one device or a mesh.

Everything random is drawn from a seed's own key folded with the epoch or the step, so a run is a
function of its seeds alone: it can stop after any epoch and resume, or train alone or beside other
seeds, without changing a bit of any of them (beside others under ``vmap``: to rounding).

Images stay on the device as uint8 arguments of the compiled functions and are normalized batch by
batch; what does not fit there is streamed (``data.streaming``). A mesh of devices divides the
seeds (``qagrel_jax.sharding``). On each device they run side by side under ``vmap``, but one after
the other (``lax.map``) on a CPU, where a batched matrix product is no faster than its parts and a
finished seed then costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from qagrel_jax import checks, optimizers, passes, sharding
from qagrel_jax import curriculum as curricula
from qagrel_jax.curriculum import Curriculum
from qagrel_jax.rules import schedules
from qagrel_jax.rules.base import Rule
from qagrel_jax.rules.schedules import RuleOfStep
from qagrel_jax.tasks import classification
from qagrel_jax.training import evaluation
from qagrel_jax.training.step import (
    CorrectFunction,
    Learner,
    RewardFunction,
    StepMetrics,
    Stream,
    TrainState,
    choose_rows,
    init_state,
    judge,
    train_step,
)

MakeOptimizer = Callable[[Any], optax.GradientTransformation]
"""``learning rate float[] -> optimizer``: ``optax.sgd``, for one."""


class Trainer(NamedTuple):
    """The compiled functions of one experiment; the leading axis S runs over seeds."""

    init: Callable[..., TrainState]  # (keys [S]) -> states
    epoch_order: Callable[..., chex.Array]  # (states, epoch, examples) -> int32[S, examples]
    run_steps: Callable[..., tuple[TrainState, StepMetrics]]
    # (states, active bool[S], images, labels, order int32[S, steps, batch], count=None, rate=None)
    # -> (states, metrics [S, steps]). Neither rows of ``order`` nor labels are checked. With
    # ``count`` int32[] only the first so many steps are done, by the same program whatever the
    # count. ``rate`` float[] is the learning rate, again of one program; None: the one compiled in.
    # A batch may be smaller than ``batch_size``. The old states are consumed, here as in
    # run_batches: their buffers become the new ones
    run_batches: Callable[..., tuple[TrainState, StepMetrics]]
    # the same, from (states, active, images [S, steps, batch, ...], labels [S, steps, batch],
    # count=None, rate=None)
    evaluate: Callable[..., np.ndarray]  # (states, images, labels) -> accuracy f64[S, classes];
    # not within a compiled function, where count_correct can be called
    count_correct: Callable[..., tuple]  # the same -> correct [S, classes], images [classes]
    mesh: Mesh | None  # the devices; None: one
    batch_size: int  # examples a step; an epoch's last batch may hold fewer
    num_classes: int | None = None  # labels are in [0, num_classes)
    curriculum: Curriculum | None = None  # None: all classes are shown from the start
    choose_rows: Any = None
    # (states, labels, order [S, steps, batch]) -> order as the curriculum has it; the steps are
    # those up to the end of a window of the curriculum, at most. run_steps does so by itself
    image_shape: tuple[int, ...] | None = None  # (height, width, channels)
    learning_rate: Any = None  # float[] that ``fit`` hands on as ``rate``; None: in the optimizer


def make_trainer(
    rule: Rule | RuleOfStep,
    network: nn.Module,
    optimizer: optax.GradientTransformation | MakeOptimizer,
    *,
    image_shape: tuple[int, ...],
    num_classes: int,
    batch_size: int = 128,
    reward: RewardFunction | None = None,
    correct: CorrectFunction = classification.correct,
    seeds_by: str | None = None,
    evaluation_batch: int = 250,
    mesh: Mesh | None = None,
    curriculum: Curriculum | None = None,
    learning_rate: float | None = None,
) -> Trainer:
    """Compile what training needs: one rule, one network, one optimizer.

    Args:
      rule: a one-step rule; if its ``outcome`` is "label" it is told labels, else rewards only. Or
        a function of the step, int32[] counted from 0, that returns one, for exploration that
        follows a schedule:
        ``lambda step: q_agrel(make_policy("epsilon_greedy", epsilon=schedule(step)))``.
      network: a Linen module ``images float[batch, ...] -> outputs [batch, actions]``. One that
        differs in training (dropout, BatchNorm) takes an argument ``train``, too. Its random
        streams are "dropout" and "feedback".
      optimizer: any ``optax.GradientTransformation``; ``optax.sgd(α)`` is the published rule. One
        that wants a ``value`` (``optax.contrib.reduce_on_plateau``) gets the step's error, the mean
        of δ² or of the loss. There is no ``value_fn`` for line searches: ``optax.lbfgs`` goes with
        ``linesearch=None`` alone. With ``learning_rate``, a function that makes the optimizer of a
        rate, such as ``optax.sgd`` itself.
      image_shape: (height, width, channels).
      num_classes: classes the labels run over.
      batch_size: examples a step. A smaller batch, the last of an epoch, is trained on as in the
        authors' published code: a reward-based rule divides its sum by ``batch_size`` all the same,
        so that this batch weighs less; a rule told labels averages over the images it sees. Where
        a mesh does not divide it, every device works on the whole of it.
      reward: ``(key, labels int[batch], actions int32[batch]) -> rewards float[batch]``; None: 1
        for each correct choice, 0 for any other. A rule that is told labels gets none. It is
        compiled: what depends on values is written with ``jnp.where``, and variables it refers to
        stay as they were at the first call. Where contingencies change, another trainer goes on
        with the run (``training.new_phase``).
      correct: ``(labels int[batch], actions int32[batch]) -> bool[batch]``, the choices that
        accuracy counts, and with it the best epoch, the stopping rule and a curriculum, whatever
        ``reward`` pays for. By default those of the label; with another function there may be
        fewer actions than classes, unless the rule is told labels or there is a curriculum.
      seeds_by: "vmap" or "map", on each device; by default "map" on CPU and "vmap" elsewhere.
      evaluation_batch: images evaluated at once.
      mesh: from ``sharding.make_mesh``: the devices to divide seeds and batches over.
      curriculum: lets classes come one after another (``qagrel_jax.curriculum``, a variant), as
        correct choices become frequent; each seed has active classes of its own. None: all are
        shown from the start.
      learning_rate: given here rather than to the optimizer, it is an argument of the compiled
        steps instead of a constant in them: other rates need no compilation, in this process
        (``trainer._replace(learning_rate=...)``) or from a compilation cache in the next. The
        results are the same. Not for optimizers that keep the rate in their state
        (``optax.inject_hyperparams``).

    Returns:
      A ``Trainer``.

    Raises:
      ValueError: the rule ``relearnn``, a size below 1, ``batch_size`` not divisible over the mesh,
        a mesh of other axes than ``sharding.make_mesh`` gives, ``seeds_by`` is neither "vmap" nor
        "map", a network whose argument that tells training from evaluation is not called ``train``,
        a curriculum's
        ``exploration`` with a rule that learns probabilities; from the first step, a
        ``learning_rate`` where the optimizer keeps one.
      TypeError: an argument of another type; from the first step, an optimizer that wants what a
        learning rule cannot give.
    """
    _check_parts(rule, network, curriculum, mesh)
    checks.wholes("image_shape", image_shape)
    checks.whole("num_classes", num_classes)
    checks.whole("batch_size", batch_size)
    checks.whole("evaluation_batch", evaluation_batch)
    checks.function("correct", correct, takes=("labels", "actions"))
    if reward is None:
        reward = _one_if(correct)
    checks.function("reward", reward, takes=("key", "labels", "actions"))
    optimizer, make_optimizer, rate = _at_first(optimizer, learning_rate)
    across_seeds = _across_seeds(seeds_by, mesh)
    evaluation_batch = _divided(batch_size, evaluation_batch, mesh)
    by_seed = None if mesh is None else NamedSharding(mesh, PartitionSpec(sharding.SEEDS))
    learner = Learner(rule, network, optimizer, reward, batch_size, curriculum, correct)
    at_rate = partial(_at_rate, learner, make_optimizer)
    compiled = partial(jax.jit, donate_argnums=0, out_shardings=by_seed)
    init = jax.jit(
        jax.vmap(partial(init_state, learner, image_shape=image_shape, num_classes=num_classes)),
        out_shardings=by_seed,
    )
    count_correct = jax.jit(
        partial(
            evaluation.count_correct,
            network,
            correct,
            evaluation_batch,
            num_classes,
            across_seeds,
            mesh,
        )
    )
    return Trainer(
        init=lambda keys: init(sharding.by_seed(keys, mesh)),
        epoch_order=jax.jit(_epoch_order, static_argnames="examples", out_shardings=by_seed),
        run_steps=compiled(partial(_run_steps, learner, at_rate, across_seeds, mesh, num_classes)),
        run_batches=compiled(partial(_run_batches, at_rate, across_seeds, mesh)),
        evaluate=partial(
            evaluation.evaluate,
            count_correct,
            evaluation_batch,
            num_classes,
            mesh,
            tuple(image_shape),
        ),
        count_correct=count_correct,
        mesh=mesh,
        batch_size=batch_size,
        num_classes=num_classes,
        curriculum=curriculum,
        choose_rows=jax.jit(partial(_choose_rows, learner, num_classes), out_shardings=by_seed),
        image_shape=tuple(image_shape),
        learning_rate=rate,
    )


def _check_parts(
    rule: Rule | RuleOfStep, network: nn.Module, curriculum: Curriculum | None, mesh: Mesh | None
) -> None:
    """Check that a trainer can train these together; ``make_trainer`` names the errors."""
    first_rule = schedules.first(rule)
    if first_rule.name == "relearnn":
        raise ValueError(
            "relearnn takes a Recurrent network, and a trainer does not: call its act and update"
        )
    checks.instance("network", network, nn.Module, "make_network gives one by its name")
    passes.check_mode(network)
    if mesh is not None:
        sharding.check(mesh)
    if curriculum is None:
        return
    checks.instance("curriculum", curriculum, Curriculum)
    if curriculum.exploration and first_rule.estimates == "probabilities":
        raise ValueError(
            f"curriculum.exploration must be 0 with rule {first_rule.name!r}, got "
            f"{curriculum.exploration}: it learns how probable a choice is, and one that is forced "
            "teaches it nothing"
        )


def _one_if(correct: CorrectFunction) -> RewardFunction:
    """Return the reward of 1 for each correct choice, and 0 for any other."""

    def reward(key: chex.PRNGKey, labels: chex.Array, actions: chex.Array) -> chex.Array:
        return judge(correct, labels, actions).astype(jnp.float32)

    return reward


def select_seeds(use_new: chex.Array, new: chex.ArrayTree, old: chex.ArrayTree) -> chex.ArrayTree:
    """Take, seed by seed, ``new`` where ``use_new`` bool[S] is true and ``old`` elsewhere."""

    def pick(a: chex.Array, b: chex.Array) -> chex.Array:
        return jnp.where(use_new.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return jax.tree.map(pick, new, old)


def _at_first(
    optimizer: optax.GradientTransformation | MakeOptimizer, learning_rate: float | None
) -> tuple[optax.GradientTransformation, MakeOptimizer | None, np.ndarray | None]:
    """Return the optimizer; where a learning rate was given, what makes it of one, and this."""
    make_optimizer, rate = None, None
    if learning_rate is not None:
        checks.number("learning_rate", learning_rate, 0)
        checks.function("optimizer", optimizer, "optax.sgd is one", takes=("learning_rate",))
        make_optimizer, optimizer = optimizer, optimizer(learning_rate)
        rate = np.asarray(learning_rate, jnp.result_type(float))
    return optimizers.checked(optimizer), make_optimizer, rate


def _divided(batch_size: int, evaluation_batch: int, mesh: Mesh | None) -> int:
    """Return ``evaluation_batch`` as a multiple of the devices that a batch is divided over.

    Raises:
      ValueError: these do not divide ``batch_size``.
    """
    parts = 1 if mesh is None else mesh.shape[sharding.BATCH]
    if batch_size % parts:
        raise ValueError(f"batch_size {batch_size} is not divisible over {parts} devices")
    return -(-evaluation_batch // parts) * parts


def _at_rate(
    learner: Learner,
    make_optimizer: MakeOptimizer | None,
    rate: chex.Array | None,
    state: TrainState,
) -> Learner:
    """Return ``learner`` with the optimizer of another learning rate; None: as it is."""
    if rate is None:
        return learner
    parts = jax.tree.leaves(state.opt_state, is_leaf=lambda part: hasattr(part, "hyperparams"))
    if any("learning_rate" in getattr(part, "hyperparams", ()) for part in parts):
        raise ValueError(
            "this optimizer keeps its learning rate in its state, where another has no effect: "
            "give make_trainer the optimizer itself, without learning_rate"
        )
    if make_optimizer is None:
        raise ValueError("rate must be None: make_trainer was not given a learning_rate")
    return learner._replace(optimizer=make_optimizer(rate))


def _epoch_order(states: TrainState, epoch: chex.Array, examples: int) -> chex.Array:
    """Draw the order in which each seed sees the examples of an epoch: int32[S, examples]."""

    def one(key: chex.PRNGKey) -> chex.Array:
        epoch_key = jax.random.fold_in(jax.random.fold_in(key, Stream.ORDER), epoch)
        return jax.random.permutation(epoch_key, examples).astype(jnp.int32)

    return jax.vmap(one)(states.key)


def _choose_rows(
    learner: Learner, num_classes: int, states: TrainState, labels: chex.Array, order: chex.Array
) -> chex.Array:
    """Return the rows that the curriculum draws for coming steps; see ``Trainer.choose_rows``."""
    table = curricula.class_table(labels, num_classes)

    def one_seed(state: TrainState, order: chex.Array) -> chex.Array:
        def one_step(ahead: chex.Array, rows: chex.Array) -> chex.Array:
            return choose_rows(learner, state._replace(step=state.step + ahead), table, rows)

        return jax.vmap(one_step)(jnp.arange(len(order)), order)

    return jax.vmap(one_seed)(states, order)


def _run_steps(
    learner: Learner,
    at_rate: Callable[..., Learner],
    across_seeds: Callable,
    mesh: Mesh | None,
    num_classes: int,
    states: TrainState,
    active: chex.Array,
    images: chex.Array,
    labels: chex.Array,
    order: chex.Array,
    count: chex.Array | None = None,
    rate: chex.Array | None = None,
) -> tuple[TrainState, StepMetrics]:
    """Train on the rows ``order`` of examples in memory; see ``Trainer.run_steps``."""
    table = None if learner.curriculum is None else curricula.class_table(labels, num_classes)

    def batch_of(state: TrainState, shared: tuple, rows: chex.Array) -> tuple:
        images, labels, table = shared
        rows = choose_rows(learner, state, table, rows)
        return images[rows], labels[rows]

    one_seed = partial(_scan, at_rate, mesh, batch_of)
    return across_seeds(one_seed)((states, active, order), ((images, labels, table), count, rate))


def _run_batches(
    at_rate: Callable[..., Learner],
    across_seeds: Callable,
    mesh: Mesh | None,
    states: TrainState,
    active: chex.Array,
    images: chex.Array,
    labels: chex.Array,
    count: chex.Array | None = None,
    rate: chex.Array | None = None,
) -> tuple[TrainState, StepMetrics]:
    """Train on batches that were copied to the device; see ``Trainer.run_batches``."""
    one_seed = partial(_scan, at_rate, mesh, lambda *given: given[-1])
    return across_seeds(one_seed)((states, active, (images, labels)), ((), count, rate))


def _scan(
    at_rate: Callable[..., Learner],
    mesh: Mesh | None,
    batch_of: Callable,
    own: tuple,
    shared: tuple,
) -> tuple[TrainState, StepMetrics]:
    """Train one seed on its batches, all or the first ``count``; an inactive one stays as it is."""
    state, active, batches = own
    examples, count, rate = shared
    learner = at_rate(rate, state)
    zeros = jnp.zeros(jax.tree.leaves(batches)[0].shape[0], jnp.float32)
    supervised = schedules.at_step(learner.rule, state.step).supervised
    nothing = StepMetrics(zeros, zeros, None if supervised else zeros)

    def step(state: TrainState, batch: Any) -> tuple[TrainState, StepMetrics]:
        batch = sharding.constrain_batch(batch_of(state, examples, batch), mesh)
        return train_step(learner, state, *batch)

    def numbered(i: chex.Array, done: tuple) -> tuple[TrainState, StepMetrics]:
        state, metrics = step(done[0], jax.tree.map(lambda b: b[i], batches))
        return state, jax.tree.map(lambda all, m: all.at[i].set(m), done[1], metrics)

    def learn(state: TrainState) -> tuple[TrainState, StepMetrics]:
        if count is None:
            return jax.lax.scan(step, state, batches)
        return jax.lax.fori_loop(0, count, numbered, (state, nothing))

    return jax.lax.cond(active, learn, lambda state: (state, nothing), state)


def _across_seeds(seeds_by: str | None, mesh: Mesh | None) -> Callable:
    """Return what turns ``f(own, shared)`` of one seed into that of all: ``own`` [S, ...]."""
    seeds_by = seeds_by or ("map" if jax.default_backend() == "cpu" else "vmap")
    checks.option("seeds_by", seeds_by, ("vmap", "map"))

    def on_one_device(f: Callable) -> Callable:
        if seeds_by == "vmap":
            return jax.vmap(f, (0, None))
        return lambda own, shared: jax.lax.map(lambda one: f(one, shared), own)

    if mesh is None:
        return on_one_device
    # Not left to the compiler, which divides convolutions with a kernel for each seed badly. The
    # batches are: BatchNorm's sums, for one, then run over all the parts of any network.
    seeds, everyone = PartitionSpec(sharding.SEEDS), PartitionSpec()
    return lambda f: jax.shard_map(
        on_one_device(f),
        mesh=mesh,
        in_specs=(seeds, everyone),
        out_specs=seeds,
        axis_names={sharding.SEEDS},
        check_vma=False,
    )
