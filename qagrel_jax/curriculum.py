r"""A class curriculum: classes come one after another, the newest is shown most often. A variant.

With many classes a network that starts with small weights and learns from rewards alone finds them
one at a time, and the later the slower. Van den Berg, Roelfsema & Bohte (2025) let classes come one
after another, as performance allows, and sample recent ones more often. Only their abstract could
be read, which has neither thresholds nor step sizes nor the form of the bias: what follows is a
variant of our own.

A set of active classes begins with ``initial_classes``. Over every ``window`` batches correct
choices are counted, exploration included. Where their fraction reaches ``threshold`` on all that
was shown *and* on the newest classes, the next ``step_classes`` become active. (Without the second
condition ten classes at 0.8 may include two that were never learned.) An image of an active class
is drawn, with replacement, with a probability proportional to

    w(a) = 1 + recency · decay^a,

a the class's age: how many times others have come since. Images of other classes are not shown.

A rule that learns from rewards has to find out what to do with a new class, and from small weights
nothing but exploration tells it: no unit answers to the new images, so that all Q values are near 0
and an old action is always the greedy one. So a fraction ``exploration`` of choices is made among
the newest classes' actions alone, whatever the image. These choices are not counted. For rules that
learn the probability of a choice (AGREL, REINFORCE, stochastic units) it must be 0: among one
action alone each choice is certain, and its reward teaches nothing.

With one active class all images of a batch change the same weights, which multiplies the step: at
a high learning rate begin with several (``initial_classes``), or the network diverges.

Once all classes are active and the newest are learned, the curriculum is over: from then on it is
ordinary training, in the ordinary order, to the bit. An epoch is as many presented images as
without a curriculum.

The state is a few arrays of fixed shape, so that all of this happens inside a compiled epoch, and a
class that comes compiles nothing. Only *when* classes come depends on what is learned.

``qagrel_jax.training.make_trainer`` takes a ``Curriculum``. In a loop of one's own:

>>> import jax, jax.numpy as jnp
>>> from qagrel_jax import curriculum, make_network, q_agrel
>>> images = jnp.repeat(jnp.eye(4), 10, axis=0)
>>> labels = jnp.repeat(jnp.arange(4), 10)
>>> net, rule, plan = make_network("dense", 4, hidden=(32,)), q_agrel(), Curriculum(window=5)
>>> params = net.init(jax.random.key(0), images)["params"]
>>> table = curriculum.class_table(labels, 4)
>>> @jax.jit
... def trial(params, state, key):
...     any_key, draw_key, explore_key, act_key = jax.random.split(key, 4)
...     anything = jax.random.randint(any_key, (16,), 0, 40)
...     rows = curriculum.draw(draw_key, plan, state, table, anything)
...     explored = curriculum.explore(explore_key, plan, state, 16)
...     q_values = lambda p, x: net.apply({"params": p}, x)
...     forward = lambda p, x: curriculum.mask(plan, state, q_values(p, x), explored)
...     decision = rule.act(act_key, forward, params, images[rows])
...     right = decision.action == labels[rows]
...     grads, _ = rule.update(decision, 1.0 * right)
...     params = jax.tree.map(lambda w, g: w - 0.3 * g, params, grads)
...     return params, curriculum.update(plan, state, labels[rows], right, explored)
>>> state = curriculum.start(jax.random.key(1), plan, 4)
>>> for step in range(400):
...     params, state = trial(params, state, jax.random.key(step))
>>> state.count.item()
4

Reference:
  van den Berg, Roelfsema & Bohte (2025), IJCNN, doi:10.1109/IJCNN64981.2025.11229171.
"""

import dataclasses
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from qagrel_jax import checks

ORDERS = ("index", "random")


@dataclasses.dataclass(frozen=True)
class Curriculum:
    """When classes come, and how often they are shown.

    Attributes:
      threshold: θ in [0, 1]: fraction of correct choices at which the next classes come.
      initial_classes: active from the start, at least 1.
      step_classes: number of classes added at a time, at least 1.
      window: batches over which choices are counted, at least 1.
      recency: how much more often an image of the newest class is shown, ≥ 0; 0: no bias.
      decay: what is left of that each time that others come, in [0, 1].
      exploration: fraction of choices among the newest classes' actions alone, until these classes
        are learned, in [0, 1]; 0: none, 1 only with ``max_wait``, for such choices are not counted.
        For rules that learn values.
      max_wait: batches after which the next classes come whatever the accuracy, at the end of a
        window, as always; 0: never.
      order: "index", or "random": an order of its own for each seed.
      mask: whether classes that are not active are kept from being chosen.

    Raises:
      ValueError: a value out of range.
      TypeError: a value of another type.

    >>> Curriculum(threshold=1.5)
    Traceback (most recent call last):
    ValueError: threshold must be in [0, 1], got 1.5
    """

    threshold: float = 0.8
    initial_classes: int = 1
    step_classes: int = 1
    window: int = 20
    recency: float = 4.0
    decay: float = 0.5
    exploration: float = 0.2
    max_wait: int = 0
    order: str = "index"
    mask: bool = True

    def __post_init__(self) -> None:
        checks.number("threshold", self.threshold, 0, 1)
        checks.number("decay", self.decay, 0, 1)
        checks.number("exploration", self.exploration, 0, 1)
        checks.number("recency", self.recency, 0)
        for name in ("initial_classes", "step_classes", "window"):
            checks.whole(name, getattr(self, name))
        checks.whole("max_wait", self.max_wait, 0)
        checks.option("order", self.order, ORDERS)
        checks.flag("mask", self.mask)
        if checks.known(self.exploration) and self.exploration == 1 and not self.max_wait:
            raise ValueError(
                f"exploration must be below 1 without max_wait, got {self.exploration}: no choice "
                "would be counted, and no class would come"
            )
        checks.make_hashable(self, *vars(self))


class CurriculumState(NamedTuple):
    """How far one learner has come."""

    turn: chex.Array  # int32[classes], each class's position in the order of arrival
    arrival: chex.Array  # int32[classes], the arrival that added it; 0: active from the start
    count: chex.Array  # int32[], active classes: those whose ``turn`` is below it
    arrivals: chex.Array  # int32[], times that classes have come
    over: chex.Array  # bool[], all classes are active, and the newest learned or waited for
    step: chex.Array  # int32[], batches seen
    last: chex.Array  # int32[], batches seen when classes last came
    right: chex.Array  # int32[2], correct choices in this window: all images, the newest classes
    shown: chex.Array  # int32[2], images shown in this window, likewise


class ClassTable(NamedTuple):
    """Where the images of each class are."""

    rows: chex.Array  # int32[n], images sorted by class
    first: chex.Array  # int32[classes], where in ``rows`` each class begins
    size: chex.Array  # int32[classes], its images


def start(key: chex.PRNGKey, curriculum: Curriculum, num_classes: int) -> CurriculumState:
    """Return the state before the first batch.

    Args:
      key: a random key; unused where the order is that of the index.
      curriculum: its settings.
      num_classes: classes in all; where ``initial_classes`` is as large, there is no curriculum.

    Raises:
      ValueError: ``num_classes`` below 1.
      TypeError: ``curriculum`` is no ``Curriculum``, ``num_classes`` no number.

    >>> start(jax.random.key(0), Curriculum(), 10).count.item()
    1
    """
    checks.instance("curriculum", curriculum, Curriculum)
    checks.whole("num_classes", num_classes)
    turn = jnp.arange(num_classes, dtype=jnp.int32)
    if curriculum.order == "random":
        checks.random_key("key", key)
        turn = jax.random.permutation(key, turn)
    count = jnp.int32(min(curriculum.initial_classes, num_classes))
    zero, two_zeros = jnp.int32(0), jnp.zeros(2, jnp.int32)
    return CurriculumState(
        turn=turn,
        arrival=jnp.zeros(num_classes, jnp.int32),
        count=count,
        arrivals=zero,
        over=count == num_classes,
        step=zero,
        last=zero,
        right=two_zeros,
        shown=two_zeros,
    )


def class_table(labels: chex.Array, num_classes: int) -> ClassTable:
    """Sort examples by class.

    Args:
      labels: int[n].
      num_classes: classes in all.

    Raises:
      ValueError: ``num_classes`` below 1, a label that is not in [0, ``num_classes``), a class
        without an example.
      TypeError: labels that are no whole numbers, ``num_classes`` no number.

    >>> class_table(jnp.array([1, 0, 1]), 2).rows.tolist()
    [1, 0, 2]
    """
    checks.whole("num_classes", num_classes)
    checks.labels("label", labels, num_classes)
    labels = jnp.asarray(labels)
    checks.every_class(labels, num_classes)
    size = jnp.bincount(labels, length=num_classes).astype(jnp.int32)
    rows = jnp.argsort(labels, stable=True).astype(jnp.int32)
    return ClassTable(rows, jnp.cumsum(size) - size, size)


def active(state: CurriculumState) -> chex.Array:
    """Return which classes are active, bool[classes].

    Raises:
      TypeError: ``state`` is no ``CurriculumState``.
    """
    checks.instance("state", state, CurriculumState, "start gives one")
    return state.turn < state.count


def weights(curriculum: Curriculum, state: CurriculumState) -> chex.Array:
    """Return w of an image of each class, float32[classes]; 0 where it is not active.

    Raises:
      TypeError: ``curriculum`` is no ``Curriculum``, ``state`` no ``CurriculumState``.

    >>> state = start(jax.random.key(0), Curriculum(initial_classes=1), 2)
    >>> weights(Curriculum(recency=3.0), state).tolist()
    [4.0, 0.0]
    """
    _check(curriculum, state)
    age = (state.arrivals - state.arrival).astype(jnp.float32)
    bias = curriculum.recency * jnp.float32(curriculum.decay) ** age
    return jnp.where(active(state), 1 + bias, 0)


def draw(
    key: chex.PRNGKey,
    curriculum: Curriculum,
    state: CurriculumState,
    table: ClassTable,
    ordinary: chex.Array,
) -> chex.Array:
    """Draw the images of a batch.

    Args:
      key: a random key, another for every batch.
      curriculum: its settings.
      state: how far it has come.
      table: from ``class_table``.
      ordinary: int[batch], the images of the batch in ordinary training, shown where the curriculum
        is over; in a loop that knows no epochs ``jax.random.randint(key, (batch,), 0, n)``.

    Returns:
      int32[batch], rows of the training set.

    Raises:
      TypeError: ``key`` is no random key, ``curriculum`` no ``Curriculum``, ``state`` no
        ``CurriculumState``, ``table`` no ``ClassTable``; ``ordinary`` are no whole numbers.
    """
    checks.random_key("key", key)
    checks.instance("table", table, ClassTable, "class_table gives one")
    checks.whole_numbers("ordinary", ordinary)
    ordinary = jnp.asarray(ordinary)
    class_key, image_key = jax.random.split(key)
    logits = jnp.log(weights(curriculum, state) * table.size.astype(float))
    classes = jax.random.categorical(class_key, logits, shape=ordinary.shape)
    places = jax.random.randint(image_key, ordinary.shape, 0, table.size[classes])
    drawn = table.rows[table.first[classes] + places]
    return jnp.where(state.over, ordinary.astype(jnp.int32), drawn)


def explore(
    key: chex.PRNGKey, curriculum: Curriculum, state: CurriculumState, batch: int
) -> chex.Array:
    """Draw which choices are made among the newest classes' actions alone, bool[batch].

    Args:
      key: a random key, another for every batch.
      curriculum: its settings; ``exploration`` is the probability.
      state: how far it has come; once it is over nothing is drawn.
      batch: choices in the batch.

    >>> settings = Curriculum(exploration=0.5)
    >>> explore(jax.random.key(0), settings, start(jax.random.key(0), settings, 2), 4).tolist()
    [False, False, True, True]
    """
    _check(curriculum, state)
    checks.random_key("key", key)
    checks.whole("batch", batch)
    return jax.random.bernoulli(key, curriculum.exploration, (batch,)) & ~state.over


def mask(
    curriculum: Curriculum,
    state: CurriculumState,
    outputs: chex.Array,
    explored: chex.Array | None = None,
) -> chex.Array:
    """Return ``outputs`` [batch, actions], −∞ where an action cannot be chosen.

    That is one of a class that is not active yet, or, until the curriculum is over, of no class
    (``mask`` on), and, where ``explored``, all but the newest classes'. No rule's policy chooses
    such an output, and none of its synapses changes.

    Args:
      curriculum: its settings.
      state: how far it has come.
      outputs: float[batch, actions], an action for each class at least.
      explored: bool[batch] from ``explore``; None for a rule that is told the labels, to which an
        output of −∞ would be an infinite loss.

    Raises:
      ValueError: arrays of other shapes, fewer actions than classes.
      TypeError: ``curriculum`` is no ``Curriculum``, ``state`` no ``CurriculumState``.
    """
    _check(curriculum, state)
    outputs = jnp.asarray(outputs)
    checks.shape("outputs", outputs, "batch", "actions")
    classes = state.turn.shape[0]
    if outputs.shape[1] < classes:
        raise ValueError(
            f"outputs must be [batch, {classes} or more], an action for each class, got "
            f"{list(outputs.shape)}"
        )
    beyond = jnp.full(outputs.shape[1] - classes, state.over)
    if curriculum.mask:
        allowed = jnp.concatenate([active(state), beyond])
        outputs = jnp.where(allowed[None], outputs, -jnp.inf)
    if explored is not None:
        explored = jnp.asarray(explored)
        checks.one_each("explored", explored, outputs.shape[0])
        newest = jnp.concatenate([_newest(state), beyond])
        outputs = jnp.where(explored[:, None] & ~newest[None], -jnp.inf, outputs)
    return outputs


def _newest(state: CurriculumState) -> chex.Array:
    """Return which classes came last, bool[classes]."""
    return (state.arrival == state.arrivals) & active(state)


def update(
    curriculum: Curriculum,
    state: CurriculumState,
    labels: chex.Array,
    right: chex.Array,
    explored: chex.Array | None = None,
) -> CurriculumState:
    """Count a batch; at the end of a window of enough correct choices the next classes come.

    Args:
      curriculum: its settings.
      state: before the batch.
      labels: int[batch], what was shown. The learner is not told.
      right: bool[batch], whether each choice was correct. A trainer counts what its ``correct``
        says, whatever its ``reward`` pays for.
      explored: bool[batch] from ``explore``, choices that are not counted; None: all are.

    Raises:
      ValueError: a label that is no class; ``right`` or ``explored`` is not [batch].
      TypeError: ``curriculum`` is no ``Curriculum``, ``state`` no ``CurriculumState``, labels that
        are no whole numbers, ``right`` or ``explored`` no truth values.

    >>> curriculum = Curriculum(threshold=0.5, initial_classes=2, window=1)
    >>> state = start(jax.random.key(0), curriculum, 10)
    >>> update(curriculum, state, jnp.array([0, 1]), jnp.array([True, False])).count.item()
    3
    """
    _check(curriculum, state)
    checks.labels("label", labels, state.turn.shape[0])
    labels, right = jnp.asarray(labels), _truth_values("right", right)
    if explored is not None:
        explored = _truth_values("explored", explored)
    checks.shape("right", right, *labels.shape)
    if explored is not None:
        checks.shape("explored", explored, *labels.shape)
    classes = state.turn.shape[0]
    free = (labels >= 0) & (labels < classes)  # compiled, no label that is no class is refused
    if explored is not None:
        free &= ~explored
    counted = jnp.stack([free, free & _newest(state)[labels]])  # bool[2, batch]
    shown = state.shown + counted.sum(1, dtype=jnp.int32)
    right_so_far = state.right + (counted & right[None]).sum(1, dtype=jnp.int32)
    step = state.step + 1
    # Less a millionth: in float32 θ n may lie above a whole number that it equals.
    needed = curriculum.threshold * (1 - 1e-6) * shown.astype(float)
    passed = ((right_so_far.astype(float) >= needed) & (shown > 0)).all()
    if curriculum.max_wait:
        passed |= step - state.last >= curriculum.max_wait
    ends = step % curriculum.window == 0
    passed &= ends
    more = jnp.minimum(state.count + curriculum.step_classes, classes)
    count = jnp.where(passed, more, state.count)
    come = count > state.count
    new = (state.turn >= state.count) & (state.turn < count)
    arrivals = state.arrivals + come.astype(jnp.int32)
    return state._replace(
        arrival=jnp.where(new, arrivals, state.arrival),
        count=count,
        arrivals=arrivals,
        over=state.over | (passed & (state.count == classes)),
        step=step,
        last=jnp.where(come, step, state.last),
        right=jnp.where(ends, 0, right_so_far),
        shown=jnp.where(ends, 0, shown),
    )


def _truth_values(name: str, values: chex.Array) -> chex.Array:
    values = values if isinstance(values, jax.Array) else np.asarray(values)
    checks.truth_value(name, values)
    return jnp.asarray(values)


def _check(curriculum: Curriculum, state: CurriculumState) -> None:
    checks.instance("curriculum", curriculum, Curriculum)
    checks.instance("state", state, CurriculumState, "start gives one")
