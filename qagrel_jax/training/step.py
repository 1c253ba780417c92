"""One training step of one network: choose, be rewarded, learn from the reward.

Everything random is drawn from the learner's own key folded with the number of the step, so what a
step does is a function of the state and the batch alone.

Whatever the network computes in, its parameters, the Q values, the reward-prediction error and the
optimizer stay in float32 (or float64, under ``jax_enable_x64``), BatchNorm's running statistics in
float32, as Flax has them.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from qagrel_jax import checks, optimizers, passes
from qagrel_jax import curriculum as curricula
from qagrel_jax.curriculum import Curriculum
from qagrel_jax.policies import at_least_float32
from qagrel_jax.rules import schedules
from qagrel_jax.rules.base import Rule
from qagrel_jax.rules.schedules import RuleOfStep
from qagrel_jax.tasks import classification

RewardFunction = Callable[[chex.PRNGKey, chex.Array, chex.Array], chex.Array]
"""``(key, labels [batch], actions [batch]) -> rewards float[batch]``: the task's answer."""

CorrectFunction = Callable[[chex.Array, chex.Array], chex.Array]
"""``(labels [batch], actions [batch]) -> bool[batch]``: what is counted as a correct choice."""


class Stream(enum.IntEnum):
    """The random streams of a learner: its key folded with one of these, then with what changes."""

    WEIGHTS = 0
    STEP = 1  # with the step: choice, dropout, reward
    ORDER = 2  # with the epoch: the order of the examples
    FEEDBACK = 3  # with the step: feedback weights that are drawn anew
    ROWS = 4  # with the step: the examples that a curriculum draws
    CURRICULUM = 5  # the order of its classes
    EXPLORATION = 6  # with the step: which choices a curriculum makes among the newest classes
    PHASE = 7  # the key of the next phase


class Learner(NamedTuple):
    """What learns: one rule, one network, one optimizer, and the reward it is given.

    The reward here does not follow another ``correct``; that of ``make_trainer`` does.
    """

    rule: Rule | RuleOfStep  # the learning rule, or that of a step, counted from 0
    network: nn.Module  # (images float[batch, ...][, train]) -> outputs [batch, actions]
    optimizer: optax.GradientTransformation  # makes updates of the rule's ``grads``
    reward: RewardFunction = classification.reward  # (key, labels, actions) -> rewards
    batch_size: int | None = None  # nominal: a smaller batch's rewards weigh less; None: as shown
    curriculum: Curriculum | None = None  # None: all classes are shown from the start
    correct: CorrectFunction = classification.correct  # (labels, actions) -> counted as correct


class TrainState(NamedTuple):
    """Everything about one learner; with a leading axis of seeds, about all of them."""

    key: chex.PRNGKey  # of the seed, and of the phase where there are several
    step: chex.Array  # int32[], batches seen
    params: chex.ArrayTree  # the trained weights
    model_state: chex.ArrayTree  # what is not trained: BatchNorm statistics, fixed feedback
    opt_state: optax.OptState  # of the optimizer
    curriculum: Any = None  # a CurriculumState, which classes are shown; None: all of them


class StepMetrics(NamedTuple):
    """What one step, a batch, looked like."""

    correct: chex.Array  # float32[], fraction of correct choices, exploration included
    error: chex.Array  # float32[], mean of δ² (reward-based rules) or of the loss (backprop)
    reward: chex.Array | None = None  # float32[], mean reward; None: the rule is told labels


def init_state(
    learner: Learner, key: chex.PRNGKey, image_shape: tuple[int, ...], num_classes: int
) -> TrainState:
    """Return an untrained network with the key that decides all that is random about it.

    Args:
      learner: rule, network, optimizer and reward.
      key: of the seed.
      image_shape: (height, width, channels).
      num_classes: classes the labels run over.

    Raises:
      ValueError: outputs that are not [batch, actions], or fewer actions than classes where each
        class needs one: where a choice of the label is correct, the rule is told labels, or there
        is a curriculum.
    """
    outputs, variables = learner.network.init_with_output(
        jax.random.fold_in(key, Stream.WEIGHTS),
        jnp.zeros((1, *image_shape)),
        **passes.mode(learner.network, False),
    )
    shape = getattr(outputs, "shape", None)
    needed = num_classes if _class_has_action(learner) else 1
    if shape is None or len(shape) != 2 or shape[1] < needed:
        wanted = "each action" if needed == 1 else f"each of {num_classes} classes"
        raise ValueError(
            f"the network must have an output for {wanted}, [1, {needed}] for one image, got "
            f"{type(outputs).__name__ if shape is None else list(shape)}"
        )
    model_state = {name: value for name, value in variables.items() if name != "params"}
    opt_state = learner.optimizer.init(variables["params"])
    shown = None
    if learner.curriculum is not None:
        own = jax.random.fold_in(key, Stream.CURRICULUM)
        shown = curricula.start(own, learner.curriculum, num_classes)
    return TrainState(key, jnp.int32(0), variables["params"], model_state, opt_state, shown)


def judge(correct: CorrectFunction, labels: chex.Array, actions: chex.Array) -> chex.Array:
    """Return ``correct(labels, actions)`` bool[batch].

    Args:
      correct: the function.
      labels: int[batch].
      actions: int[batch].

    Raises:
      ValueError: it returns another shape.
      TypeError: it returns no truth values, or cannot be compiled.
    """
    verdict = checks.compiled("correct", correct, labels, actions)
    checks.truth_value("what correct returns", verdict)
    if jnp.shape(verdict) != labels.shape:
        raise ValueError(
            f"correct must return [batch], here {list(labels.shape)}, got "
            f"{list(jnp.shape(verdict))}"
        )
    return jnp.asarray(verdict)


def _rewards(
    learner: Learner, key: chex.PRNGKey, labels: chex.Array, actions: chex.Array
) -> chex.Array:
    """Return the learner's rewards [batch], of whose shape and numbers the rule tells."""
    rewards = checks.compiled("reward", learner.reward, key, labels, actions)
    if isinstance(rewards, tuple | list | dict):
        raise TypeError(
            f"reward must return an array, rewards [batch], got a {type(rewards).__name__}"
        )
    return rewards


def _check_update(
    grads: chex.ArrayTree, errors: chex.Array, params: chex.ArrayTree, batch: int
) -> None:
    """Refuse what a rule of one's own returns in another shape, of which some would broadcast.

    Raises:
      ValueError: ``grads`` that are not like ``params``, ``errors`` that are not [batch].
    """
    found, wanted = (jax.tree.map(jnp.shape, tree) for tree in (grads, params))
    if found != wanted:
        raise ValueError(
            f"the rule's update must return grads shaped like params, {wanted}, got {found}"
        )
    checks.one_each("errors of the rule's update", jnp.asarray(errors), batch)


def _class_has_action(learner: Learner) -> bool:
    """Say whether each class is an action, too."""
    supervised = schedules.first(learner.rule).supervised
    by_label = learner.correct is classification.correct
    return supervised or by_label or learner.curriculum is not None


def train_step(
    learner: Learner, state: TrainState, images: chex.Array, labels: chex.Array
) -> tuple[TrainState, StepMetrics]:
    """Choose an action for each image, receive the outcomes, change the weights.

    Args:
      learner: rule, network, optimizer and reward.
      state: of one seed.
      images: uint8[batch, height, width, channels], or floats, see ``classification.normalize``.
      labels: int32[batch]; a reward-based rule is told the rewards alone.

    Returns:
      The new state, and the ``StepMetrics`` of this batch.

    >>> from qagrel_jax import make_network, q_agrel
    >>> network = make_network("dense", num_actions=2, hidden=(3,))
    >>> learner = Learner(q_agrel(), network, optax.sgd(0.1))
    >>> state = init_state(learner, jax.random.key(0), image_shape=(4, 4, 1), num_classes=2)
    >>> images, labels = jnp.zeros((8, 4, 4, 1), jnp.uint8), jnp.zeros(8, jnp.int32)
    >>> state, metrics = jax.jit(train_step, static_argnums=0)(learner, state, images, labels)
    >>> int(state.step), metrics.reward.shape
    (1, ())
    """
    choice_key, dropout_key, reward_key = jax.random.split(_key_of_step(state, Stream.STEP), 3)
    rngs = {"dropout": dropout_key, "feedback": _key_of_step(state, Stream.FEEDBACK)}
    rule = schedules.at_step(learner.rule, state.step)
    explored = None
    if learner.curriculum is not None and not rule.supervised:
        explore_key = _key_of_step(state, Stream.EXPLORATION)
        explored = curricula.explore(explore_key, learner.curriculum, state.curriculum, len(labels))
    forward = forward_of(learner, state, rngs, explored)
    inputs = classification.normalize(images)

    decision = rule.act(choice_key, forward, state.params, inputs, has_aux=True)
    outcome = labels if rule.supervised else _rewards(learner, reward_key, labels, decision.action)
    grads, errors = rule.update(decision, outcome)
    _check_update(grads, errors, state.params, len(labels))
    nominal = learner.batch_size or len(labels)
    if not rule.supervised and len(labels) < nominal:
        grads = _scale(grads, len(labels) / nominal)
    error = rule.mean_error(errors)
    updates, opt_state = optimizers.update(
        learner.optimizer, grads, state.opt_state, state.params, error
    )
    params = optax.apply_updates(state.params, updates)

    model_state = passes.changed(state.model_state, decision.aux)
    correct = judge(learner.correct, labels, decision.action)
    reward = None if rule.supervised else outcome.mean()
    metrics = StepMetrics(correct.mean(), error, reward)
    metrics = jax.tree.map(lambda mean: mean.astype(jnp.float32), metrics)
    shown = state.curriculum
    if learner.curriculum is not None:
        shown = curricula.update(learner.curriculum, shown, labels, correct, explored)
    return TrainState(state.key, state.step + 1, params, model_state, opt_state, shown), metrics


def variables_of(states: TrainState, seed: int | None = None) -> dict[str, Any]:
    """Return what ``network.apply`` takes: the parameters and all other collections.

    Images are normalized first, as they are in training (``tasks.classification.normalize``).

    Args:
      states: of one learner or of many, such as ``run.best``.
      seed: one of many, by its place; None: states as they are, with their leading axis if any.

    Raises:
      ValueError: no learner has this place; states that another call has consumed.
      TypeError: ``states`` are no ``TrainState``, ``seed`` is no whole number.

    Q values of images, by the fourth of five learners:

    >>> import numpy as np
    >>> from qagrel_jax import make_network, make_trainer, q_agrel
    >>> network, shape = make_network("dense", num_actions=2, hidden=(3,)), (4, 4, 1)
    >>> trainer = make_trainer(q_agrel(), network, optax.sgd(1), image_shape=shape, num_classes=2)
    >>> states = trainer.init(jax.random.split(jax.random.key(0), 5))
    >>> images = classification.normalize(np.zeros((6, *shape), np.uint8))
    >>> network.apply(variables_of(states, 3), images).shape
    (6, 2)
    """
    check_states(states, of_seeds=seed is not None)
    variables = {"params": states.params, **states.model_state}
    if seed is not None:
        # An index that is out of range would silently be the nearest one.
        checks.whole("seed", seed, -len(states.step), len(states.step) - 1)
    return variables if seed is None else jax.tree.map(lambda x: x[seed], variables)


def check_states(states: Any, of_seeds: bool = True) -> None:
    """Check that states are learners, and that no call has consumed them.

    Args:
      states: what should be a ``TrainState``.
      of_seeds: with a leading axis of seeds.

    Raises:
      ValueError: one learner without that axis; states that another call has consumed.
      TypeError: no ``TrainState``.
    """
    checks.instance("states", states, TrainState, "run.states and run.best of a Fit are")
    checks.not_consumed("states", states)
    if of_seeds and np.ndim(states.step) != 1:
        raise ValueError("states must be of seeds, with a leading axis, such as run.best")


def choose_rows(learner: Learner, state: TrainState, table: Any, rows: chex.Array) -> chex.Array:
    """Return the examples int32[batch] of the next batch: ``rows``, or the curriculum's draw.

    Args:
      learner: has the curriculum, if any.
      state: of one seed.
      table: ``curriculum.class_table`` of the labels; None without a curriculum.
      rows: int32[batch], the next examples of the epoch's order.
    """
    if learner.curriculum is None:
        return rows
    key = _key_of_step(state, Stream.ROWS)
    return curricula.draw(key, learner.curriculum, state.curriculum, table, rows)


def forward_of(
    learner: Learner, state: TrainState, rngs: dict, explored: chex.Array | None = None
) -> Callable:
    """Return the network as it runs in training: ``(params, inputs) -> (outputs, model_state)``.

    Args:
      learner: has the network, and the curriculum if any.
      state: of one seed; its parameters are not used.
      rngs: keys of the streams "dropout" and "feedback".
      explored: of ``curriculum.explore``; None: no choice is among the newest classes alone.
    """

    run = passes.in_training(learner.network, state.model_state, rngs)

    def forward(params: chex.ArrayTree, inputs: chex.Array) -> tuple[chex.Array, Any]:
        outputs, changed = run(params, inputs)
        outputs = at_least_float32(outputs)
        if learner.curriculum is not None:
            outputs = curricula.mask(learner.curriculum, state.curriculum, outputs, explored)
        return outputs, changed

    return forward


def _key_of_step(state: TrainState, stream: Stream) -> chex.PRNGKey:
    return jax.random.fold_in(jax.random.fold_in(state.key, stream), state.step)


def _scale(grads: chex.ArrayTree, factor: float) -> chex.ArrayTree:
    return jax.tree.map(lambda g: g * factor, grads)
