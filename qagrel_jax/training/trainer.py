"""Training many seeds of one network with one rule: state, step, epoch, evaluation.

Everything random is drawn from a seed's own key folded with the epoch or the step, so a run is a
function of its seeds alone: it can stop after any epoch and go on, or train alone or beside other
seeds, without changing a bit of any of them (beside others under ``vmap``: to rounding).

Images stay on the device as uint8 arguments of the compiled functions and are normalised batch by
batch; what does not fit there is streamed (``data.streaming``). A mesh of devices divides the
seeds (``qagrel_jax.sharding``). On each device they run side by side under ``vmap``, but one after
the other (``lax.map``) on a CPU, where a batched matrix product is no faster than its parts and a
finished seed then costs nothing.

Whatever the network computes in, its parameters, BatchNorm's statistics, the Q values, the
reward-prediction error and the optimiser stay in float32.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from qagrel_jax import curriculum as curricula
from qagrel_jax import sharding
from qagrel_jax.curriculum import Curriculum
from qagrel_jax.data import streaming
from qagrel_jax.rules.base import Rule
from qagrel_jax.tasks import classification

RewardFunction = Callable[[chex.PRNGKey, chex.Array, chex.Array], chex.Array]
"""``(key, labels [batch], actions [batch]) -> rewards float[batch]``: the task's answer."""


class TrainState(NamedTuple):
    """Everything about one learner; with a leading axis of seeds, about all of them."""

    key: chex.PRNGKey  # of the seed; never changes
    step: chex.Array  # int32[], batches seen
    params: chex.ArrayTree
    model_state: chex.ArrayTree  # what is not trained: BatchNorm statistics, fixed feedback
    opt_state: optax.OptState
    curriculum: Any = None  # a CurriculumState, which classes are shown; None: all of them


class StepMetrics(NamedTuple):
    """What one step, a batch, looked like."""

    correct: chex.Array  # float32[], fraction of right choices, exploration included
    error: chex.Array  # float32[], mean of δ² (reward-based rules) or of the loss (backprop)


class Trainer(NamedTuple):
    """The compiled functions of one experiment; the leading axis S runs over seeds."""

    init: Callable[..., TrainState]  # (keys [S]) -> states
    epoch_order: Callable[..., chex.Array]  # (states, epoch, examples) -> int32[S, examples]
    run_steps: Callable[..., tuple[TrainState, StepMetrics]]
    # (states, active bool[S], images, labels, order int32[S, steps, batch], count=None)
    # -> (states, metrics [S, steps]); with ``count`` int32[] only the first so many steps are done,
    # by the same program whatever the count. A batch may be smaller than ``batch_size``. The old
    # states are consumed, here as in run_batches: their buffers become the new ones
    run_batches: Callable[..., tuple[TrainState, StepMetrics]]
    # the same, from (states, active, images [S, steps, batch, ...], labels [S, steps, batch],
    # count=None)
    evaluate: Callable[..., np.ndarray]  # (states, images, labels) -> accuracy f64[S, classes]
    count_right: Callable[..., tuple]  # the same -> right answers [S, classes], shown [classes]
    mesh: Mesh | None  # the devices; None: one
    batch_size: int  # examples a step; an epoch's last batch may hold fewer
    curriculum: Curriculum | None  # None: all classes are shown from the start
    choose_rows: Callable[..., chex.Array]
    # (states, labels, order [S, steps, batch]) -> order as the curriculum has it; the steps are
    # those up to the end of a window of the curriculum, at most. run_steps does so by itself


def make_trainer(
    rule: Rule,
    network: nn.Module,
    optimizer: optax.GradientTransformation,
    *,
    image_shape: tuple[int, ...],
    num_classes: int,
    batch_size: int = 128,
    reward: RewardFunction = classification.reward,
    seeds_by: str | None = None,
    evaluation_batch: int = 250,
    mesh: Mesh | None = None,
    curriculum: Curriculum | None = None,
) -> Trainer:
    """Compile what training needs: one rule, one network, one optimiser.

    Args:
      rule: a one-step rule; if its ``outcome`` is "label" it is told labels, else rewards only.
      network: a Linen module ``(images float[batch, ...], train) -> outputs [batch, actions]``.
      optimizer: any ``optax.GradientTransformation``; ``optax.sgd(α)`` gives the published rule.
      image_shape: (height, width, channels).
      num_classes: classes the labels run over.
      batch_size: examples a step. A smaller batch, the last of an epoch, is trained on as in the
        authors' published code: a reward-based rule divides its sum by ``batch_size`` all the same,
        so that this batch weighs less; a rule told labels averages over the images it sees. Where
        a mesh does not divide it, every device works on the whole of it.
      reward: answers (key, labels, actions) with rewards.
      seeds_by: "vmap" or "map", on each device; by default "map" on CPU and "vmap" elsewhere.
      evaluation_batch: images evaluated at once.
      mesh: from ``sharding.make_mesh``: the devices to divide seeds and batches over.
      curriculum: lets classes come one after another (``qagrel_jax.curriculum``, a variant); each
        seed has active classes of its own. None: all are shown from the start.

    Returns:
      A ``Trainer``.

    Raises:
      ValueError: ``batch_size`` < 1 or not divisible over the mesh, or ``seeds_by`` is neither
        "vmap" nor "map".
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    across_seeds = _across_seeds(seeds_by, mesh)
    by_seed = None
    if mesh is not None:
        parts = mesh.shape[sharding.BATCH]
        if batch_size % parts:
            raise ValueError(f"batch_size {batch_size} is not divisible over {parts} devices")
        evaluation_batch = -(-evaluation_batch // parts) * parts
        by_seed = NamedSharding(mesh, PartitionSpec(sharding.SEEDS))

    def init(key: chex.PRNGKey) -> TrainState:
        example = jnp.zeros((1, *image_shape))
        params, model_state = _split(network.init(jax.random.fold_in(key, 0), example))
        shown = None
        if curriculum is not None:
            shown = curricula.start(jax.random.fold_in(key, 3), curriculum, num_classes)
        return TrainState(key, jnp.int32(0), params, model_state, optimizer.init(params), shown)

    def step(
        state: TrainState, images: chex.Array, labels: chex.Array
    ) -> tuple[TrainState, StepMetrics]:
        step_key = jax.random.fold_in(jax.random.fold_in(state.key, 1), state.step)
        choice_key, dropout_key, reward_key = jax.random.split(step_key, 3)

        def forward(params: chex.ArrayTree, inputs: chex.Array) -> tuple[chex.Array, Any]:
            outputs, changed = network.apply(
                {"params": params, **state.model_state},
                inputs,
                train=True,
                rngs={"dropout": dropout_key},
                mutable=list(state.model_state),
            )
            outputs = _at_least_float32(outputs)
            if curriculum is not None:
                outputs = curricula.mask(curriculum, state.curriculum, outputs)
            return outputs, changed

        images, labels = sharding.constrain_batch((images, labels), mesh)
        inputs = classification.normalise(images)
        decision = rule.act(choice_key, forward, state.params, inputs, has_aux=True)
        rewards = reward(reward_key, labels, decision.action)
        outcome = labels if rule.outcome == "label" else rewards
        grads, errors = rule.update(decision, outcome)
        if len(labels) < batch_size and rule.outcome == "reward":
            weight = len(labels) / batch_size
            grads = jax.tree.map(lambda g: g * weight, grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        model_state = {**state.model_state, **decision.aux}
        error = errors.mean() if rule.outcome == "label" else jnp.square(errors).mean()
        right = decision.action == labels
        metrics = StepMetrics(right.mean().astype(jnp.float32), error.astype(jnp.float32))
        shown = None
        if curriculum is not None:
            shown = curricula.update(curriculum, state.curriculum, labels, right)
        return TrainState(state.key, state.step + 1, params, model_state, opt_state, shown), metrics

    def chosen_rows(state: TrainState, table: Any, rows: chex.Array) -> chex.Array:
        if curriculum is None:
            return rows
        key = jax.random.fold_in(jax.random.fold_in(state.key, 4), state.step)
        return curricula.draw(key, curriculum, state.curriculum, table, rows)

    def choose_rows(states: TrainState, labels: chex.Array, order: chex.Array) -> chex.Array:
        table = curricula.class_table(labels, num_classes)

        def one_seed(state: TrainState, order: chex.Array) -> chex.Array:
            def one_step(ahead: chex.Array, rows: chex.Array) -> chex.Array:
                return chosen_rows(state._replace(step=state.step + ahead), table, rows)

            return jax.vmap(one_step)(jnp.arange(len(order)), order)

        return jax.vmap(one_seed)(states, order)

    def epoch_order(states: TrainState, epoch: chex.Array, examples: int) -> chex.Array:
        def one(key: chex.PRNGKey) -> chex.Array:
            epoch_key = jax.random.fold_in(jax.random.fold_in(key, 2), epoch)
            return jax.random.permutation(epoch_key, examples).astype(jnp.int32)

        return jax.vmap(one)(states.key)

    def run(
        states: TrainState,
        active: chex.Array,
        batches: Any,
        count: chex.Array | None,
        shared: Any,
        batch_of: Callable,
    ) -> tuple[TrainState, StepMetrics]:
        def one_seed(own: tuple, shared: tuple) -> tuple[TrainState, StepMetrics]:
            state, is_active, batches = own
            shared, count = shared
            zeros = jnp.zeros(jax.tree.leaves(batches)[0].shape[0], jnp.float32)
            nothing = StepMetrics(zeros, zeros)

            def next_step(state: TrainState, batch: Any) -> tuple[TrainState, StepMetrics]:
                return step(state, *batch_of(state, shared, batch))

            def numbered(i: chex.Array, done: tuple) -> tuple[TrainState, StepMetrics]:
                state, metrics = next_step(done[0], jax.tree.map(lambda b: b[i], batches))
                return state, jax.tree.map(lambda all, m: all.at[i].set(m), done[1], metrics)

            def learn(state: TrainState) -> tuple[TrainState, StepMetrics]:
                if count is None:
                    return jax.lax.scan(next_step, state, batches)
                return jax.lax.fori_loop(0, count, numbered, (state, nothing))

            return jax.lax.cond(is_active, learn, lambda state: (state, nothing), state)

        return across_seeds(one_seed)((states, active, batches), (shared, count))

    def run_steps(
        states: TrainState,
        active: chex.Array,
        images: chex.Array,
        labels: chex.Array,
        order: chex.Array,
        count: chex.Array | None = None,
    ) -> tuple[TrainState, StepMetrics]:
        table = None if curriculum is None else curricula.class_table(labels, num_classes)

        def batch_of(state: TrainState, shared: tuple, rows: chex.Array) -> tuple:
            images, labels, table = shared
            rows = chosen_rows(state, table, rows)
            return images[rows], labels[rows]

        return run(states, active, order, count, (images, labels, table), batch_of)

    def run_batches(
        states: TrainState,
        active: chex.Array,
        images: chex.Array,
        labels: chex.Array,
        count: chex.Array | None = None,
    ) -> tuple[TrainState, StepMetrics]:
        return run(states, active, (images, labels), count, (), lambda *given: given[-1])

    @jax.jit
    def count_right(
        states: TrainState, images: chex.Array, labels: chex.Array
    ) -> tuple[chex.Array, chex.Array]:
        examples = labels.shape[0]
        batches = -(-examples // evaluation_batch)
        missing = batches * evaluation_batch - examples
        images = jnp.pad(images, ((0, missing), *[(0, 0)] * (images.ndim - 1)))
        labels = jnp.pad(labels, (0, missing), constant_values=-1)
        images = images.reshape(batches, evaluation_batch, *images.shape[1:])
        labels = labels.reshape(batches, evaluation_batch)
        shown = jax.nn.one_hot(labels, num_classes).sum((0, 1))

        def one_seed(state: TrainState, shared: tuple) -> chex.Array:
            variables = {"params": state.params, **state.model_state}

            def one_batch(batch: tuple[chex.Array, chex.Array]) -> chex.Array:
                images, labels = sharding.constrain_batch(batch, mesh)
                outputs = network.apply(variables, classification.normalise(images), train=False)
                right = _at_least_float32(outputs).argmax(-1) == labels
                return (jax.nn.one_hot(labels, num_classes) * right[:, None]).sum(0)

            return jax.lax.map(one_batch, shared).sum(0)

        return across_seeds(one_seed)(states, (images, labels)), shown

    def evaluate(states: TrainState, images: Any, labels: chex.Array) -> np.ndarray:
        right, shown = 0, 0
        for piece in _pieces(images, labels, evaluation_batch, mesh):
            more = count_right(states, *piece)
            right, shown = right + more[0], shown + more[1]
        right, shown = sharding.fetch((right, shown))
        return right.astype(np.float64) / np.maximum(shown, 1)

    init_all = jax.jit(jax.vmap(init), out_shardings=by_seed)
    return Trainer(
        init=lambda keys: init_all(sharding.by_seed(keys, mesh)),
        epoch_order=jax.jit(epoch_order, static_argnames="examples", out_shardings=by_seed),
        run_steps=jax.jit(run_steps, donate_argnums=0, out_shardings=by_seed),
        run_batches=jax.jit(run_batches, donate_argnums=0, out_shardings=by_seed),
        evaluate=evaluate,
        count_right=count_right,
        mesh=mesh,
        batch_size=batch_size,
        curriculum=curriculum,
        choose_rows=jax.jit(choose_rows, out_shardings=by_seed),
    )


def overall_accuracy(per_class: chex.Array, labels: chex.Array) -> np.ndarray:
    """Weigh accuracies per class [S, classes] by how often each class occurs in ``labels``.

    Returns:
      float32[S], the fraction of all examples answered rightly.
    """
    counts = np.bincount(np.asarray(labels), minlength=np.shape(per_class)[-1])
    return (np.asarray(per_class, float) @ (counts / counts.sum())).astype(np.float32)


def select_seeds(use_new: chex.Array, new: chex.ArrayTree, old: chex.ArrayTree) -> chex.ArrayTree:
    """Take, seed by seed, ``new`` where ``use_new`` bool[S] is true and ``old`` elsewhere."""

    def pick(a: chex.Array, b: chex.Array) -> chex.Array:
        return jnp.where(use_new.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return jax.tree.map(pick, new, old)


def _across_seeds(seeds_by: str | None, mesh: Mesh | None) -> Callable:
    """Return what turns ``f(own, shared)`` of one seed into that of all: ``own`` [S, ...]."""
    seeds_by = seeds_by or ("map" if jax.default_backend() == "cpu" else "vmap")
    if seeds_by not in ("vmap", "map"):
        raise ValueError(f"seeds_by must be 'vmap' or 'map', got {seeds_by!r}")

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


def _split(variables: Any) -> tuple[chex.ArrayTree, chex.ArrayTree]:
    rest = {name: value for name, value in variables.items() if name != "params"}
    return variables["params"], rest


def _at_least_float32(outputs: chex.Array) -> chex.Array:
    return outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))


def _pieces(images: Any, labels: chex.Array, batch: int, mesh: Mesh | None) -> Iterator[tuple]:
    """Cut streamed examples into pieces for evaluation; resident ones are a single piece."""
    if not isinstance(images, streaming.HostImages):
        yield sharding.replicate((images, labels), mesh)
        return
    labels = np.asarray(labels)
    size = min(streaming.steps_at_once(images, batch) * batch, -(-len(images) // batch) * batch)

    def read(first: int) -> tuple:
        # The last piece is filled up with images of no class, so that one program serves all.
        rows = np.arange(first, first + size)
        classes = np.where(rows < len(labels), labels[rows % len(labels)], -1)
        return sharding.replicate((images.read(rows % len(labels)), classes), mesh)

    yield from streaming.ahead(partial(read, i) for i in range(0, len(labels), size))
