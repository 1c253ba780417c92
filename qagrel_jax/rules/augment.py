"""AuGMEnT: attention-gated memory tagging, for tasks that need memory of earlier stimuli.

``init`` draws a network's weights, ``step`` is one step of a trial and has the equations.

**Axes.** Shapes below are for one network. Every array may carry one more axis at its *end*, over
networks: then one call is a step of all of them, laid out so that a CPU vectorizes over networks.
``jax.vmap`` works too.

Reference:
  Rombouts, Bohté & Roelfsema (2015), How attention can create synaptic tags for the learning of
  working memories in sequential tasks, PLoS Comput Biol 11(3): e1004060.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from qagrel_jax.policies import max_boltzmann

FEEDBACK = ("tied", "separate")

Chooser = Callable[[Any, chex.Array, chex.Array], chex.Array]
"""``(randomness, q_values [actions], epsilon []) -> action int32[]``."""


def _static(default: Any = dataclasses.MISSING) -> Any:
    return dataclasses.field(default=default, metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Sizes and parameters of AuGMEnT; the defaults are the paper's, the same in all its tasks.

    A pytree: sizes and the kind of feedback are static, the other parameters are leaves, so they
    may be traced, and may be float[networks] where networks differ.

    Attributes:
      inputs: number of sensory units.
      regular: number of regular units.
      memory: number of memory units.
      actions: number of Q units.
      feedback: "tied" (Wᵀ) or "separate".
      weight_range: initial weights are uniform in [−weight_range, weight_range].
      learning_rate: β.
      tag_decay: λ; a tag keeps the fraction λγ of itself each step.
      discount: γ.
      exploration: ε of the max-Boltzmann policy.
      threshold: θ of the sigmoid.
      leak: what the memory keeps from one step to the next; 1 is AuGMEnT, less forgets.

    Raises:
      ValueError: a size below 1, a parameter out of range, an unknown kind of feedback.

    >>> AugmentConfig(inputs=4, tag_decay=1.5)
    Traceback (most recent call last):
    ValueError: tag_decay must be in [0, 1], got 1.5
    """

    inputs: int = _static()
    regular: int = _static(3)
    memory: int = _static(4)
    actions: int = _static(3)
    feedback: str = _static("tied")
    weight_range: float = _static(0.25)
    learning_rate: chex.Numeric = 0.15
    tag_decay: chex.Numeric = 0.2
    discount: chex.Numeric = 0.9
    exploration: chex.Numeric = 0.025
    threshold: chex.Numeric = 2.5
    leak: chex.Numeric = 1.0

    def __post_init__(self) -> None:
        for name in ("inputs", "regular", "memory", "actions"):
            size = getattr(self, name)
            if not isinstance(size, int) or size < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {size}")
        if self.feedback not in FEEDBACK:
            raise ValueError(f"unknown feedback {self.feedback!r}; valid: {', '.join(FEEDBACK)}")
        infinity = float("inf")
        _check("weight_range", self.weight_range, 0, infinity)
        _check("learning_rate", self.learning_rate, 0, infinity)
        _check("threshold", self.threshold, -infinity, infinity)
        for name in ("tag_decay", "discount", "exploration", "leak"):
            _check(name, getattr(self, name), 0, 1)


class Weights(NamedTuple):
    """One number per forward synapse: the weights themselves, or their tags."""

    input_regular: chex.Array  # float[1 + inputs, regular]; row 0 is the bias
    input_memory: chex.Array  # float[2 inputs, memory]; first x⁺, then x⁻
    regular_q: chex.Array  # float[1 + regular, actions]; row 0 is the bias
    memory_q: chex.Array  # float[memory, actions]; no bias


class Feedback(NamedTuple):
    """Separate feedback weights, stored like their forward partners."""

    regular: chex.Array  # float[regular, actions], from Q units to regular units
    memory: chex.Array  # float[memory, actions], from Q units to memory units


class AugmentState(NamedTuple):
    """Everything one network carries from step to step."""

    weights: Weights  # the forward weights
    feedback: Feedback | None  # separate feedback weights; None where feedback is tied
    tags: Weights  # Tag of each forward weight
    trace: chex.Array  # float[2 inputs], sTrace; the same for every memory unit
    memory: chex.Array  # float[memory], S
    observation: chex.Array  # float[inputs], x(t−1)
    q_previous: chex.Array  # float[], q_a(t−1)


class Activity(NamedTuple):
    """What one step brought about."""

    action: chex.Array  # int32[]; meaningless once the trial has ended
    q_values: chex.Array  # float[actions], q
    regular: chex.Array  # float[regular], y^R
    memory: chex.Array  # float[memory], y^M
    rpe: chex.Array  # float[], δ


def init(key: chex.PRNGKey, config: AugmentConfig) -> AugmentState:
    """Draw one network's weights, uniform in ±``weight_range``, at the start of a trial.

    Args:
      key: a random key.
      config: sizes and parameters.

    Returns:
      The state, shapes as in ``AugmentState``.
    """
    inputs, regular, memory, actions = config.inputs, config.regular, config.memory, config.actions
    shapes = (
        *((1 + inputs, regular), (2 * inputs, memory), (1 + regular, actions), (memory, actions)),
        *((regular, actions), (memory, actions)),  # separate feedback
    )
    # One draw for all: six compile six times as long.
    ends = np.cumsum([rows * columns for rows, columns in shapes])
    low, high = -config.weight_range, config.weight_range
    drawn = jnp.split(jax.random.uniform(key, (int(ends[-1]),), minval=low, maxval=high), ends[:-1])
    drawn = [values.reshape(shape) for values, shape in zip(drawn, shapes, strict=True)]
    weights, separate = Weights(*drawn[:4]), Feedback(*drawn[4:])
    return AugmentState(
        weights=weights,
        feedback=separate if config.feedback == "separate" else None,
        tags=jax.tree.map(jnp.zeros_like, weights),
        trace=jnp.zeros(2 * inputs),
        memory=jnp.zeros(memory),
        observation=jnp.zeros(inputs),
        q_previous=jnp.zeros(()),
    )


def step(
    randomness: Any,
    config: AugmentConfig,
    state: AugmentState,
    observation: chex.Array,
    reward: chex.Array,
    ended: chex.Array,
    plastic: chex.Array | bool = True,
    choose: Chooser = max_boltzmann,
) -> tuple[AugmentState, Activity]:
    r"""One step t of AuGMEnT: observe, choose, compute the RPE, learn, tag.

    The input x(t) reaches instantaneous units and transient units:

        x⁺ = max(x(t) − x(t−1), 0),      x⁻ = max(x(t−1) − x(t), 0),      x' = (x⁺, x⁻).

    Regular units receive the first, memory units accumulate the second (``leak`` = 1 in the paper):

        y^R = σ(V_Rᵀ [1; x]),            σ(u) = 1/(1 + e^{θ−u}),
        S(t) = leak·S(t−1) + V_Mᵀ x'(t),       y^M = σ(S),
        q = W_Rᵀ [1; y^R] + W_Mᵀ y^M.

    The policy picks action a. The reward r(t), which the previous action brought, gives the SARSA
    reward-prediction error, with q_a = 0 once the trial has ended:

        δ(t) = r(t) + γ q_a(t) − q_a(t−1).

    Every synapse changes by δ and by the tag it carried *before* this step:

        Δw = β δ Tag.

    Then tags decay, and the synapses that took part in the choice of a are tagged anew. Attention
    feedback reaches them from unit a alone, through the feedback weights w' just changed:

        Tag ← λγ Tag + y_j                  onto Q unit a (the other Q units: nothing),
        Tag ← λγ Tag + x_i σ'_j w'_aj       onto regular unit j,
        Tag ← λγ Tag + sTrace_l σ'_m w'_am  onto memory unit m,

    with σ' = y(1 − y) and the synaptic trace sTrace(t) = leak·sTrace(t−1) + x'(t). A trial's end
    resets S, traces, tags, x(t−1) and q_a(t−1); weights stay.

    Feedback is ``tied`` (w' = Wᵀ) or ``separate``: drawn independently, then given the same changes
    as the forward weights (Kolen–Pollack). With λ = 0 and V_M constant within the trial, β δ Tag is
    −β ∇ ½(r + γ q_a(t) − q_a(t−1))² through the unrolled memory sum, target held fixed.

    Args:
      randomness: what ``choose`` draws from; a random key for ``max_boltzmann``.
      config: sizes and parameters.
      state: from ``init`` or the previous step.
      observation: float[inputs], x(t).
      reward: float[], r(t), brought by the previous action.
      ended: bool[], whether that action ended the trial; the state is then ready for the next one.
      plastic: bool[], False freezes the network: β = ε = 0.
      choose: the policy, called with ``(randomness, q_values, epsilon)``.

    Returns:
      ``(state, activity)``.

    Raises:
      AssertionError: ``observation`` is not [inputs] (or [inputs, networks]).
    """
    chex.assert_axis_dimension(observation, 0, config.inputs)
    ended, plastic = jnp.asarray(ended), jnp.asarray(plastic)
    weights, tags = state.weights, state.tags

    change = observation - state.observation
    transients = jnp.concatenate([jnp.maximum(change, 0), jnp.maximum(-change, 0)])
    inputs = _with_bias(observation)
    summed = config.leak * state.memory + _project(weights.input_memory, transients)
    regular = _sigmoid(_project(weights.input_regular, inputs), config.threshold)
    memory = _sigmoid(summed, config.threshold)
    hidden = _with_bias(regular)
    q_values = _project(weights.regular_q, hidden) + _project(weights.memory_q, memory)

    action = choose(randomness, q_values, jnp.where(plastic, config.exploration, 0.0))
    chosen = jax.nn.one_hot(action, config.actions, dtype=q_values.dtype, axis=0)
    # Once the trial has ended no unit is chosen: q_a is 0 and nothing is tagged.
    chosen = chosen * (1 - ended.astype(q_values.dtype))[None]
    q_chosen = (q_values * chosen).sum(0)

    rpe = reward + config.discount * q_chosen - state.q_previous
    rate = jnp.where(plastic, config.learning_rate * rpe, 0)[None, None]
    weights = Weights(*(w + rate * tag for w, tag in zip(weights, tags, strict=True)))
    feedback = state.feedback
    if feedback is None:
        attention = Feedback(weights.regular_q[1:], weights.memory_q)
    else:
        feedback = Feedback(
            feedback.regular + rate * tags.regular_q[1:], feedback.memory + rate * tags.memory_q
        )
        attention = feedback

    keep = 1 - ended.astype(q_values.dtype)
    trace = (config.leak * state.trace + transients) * keep[None]
    to_regular = regular * (1 - regular) * (attention.regular * chosen[None]).sum(1)
    to_memory = memory * (1 - memory) * (attention.memory * chosen[None]).sum(1)
    fresh = Weights(
        _outer(inputs, to_regular),
        _outer(trace, to_memory),
        _outer(hidden, chosen),
        _outer(memory, chosen),
    )
    decay = (config.tag_decay * config.discount * keep)[None, None]
    tags = Weights(*(decay * tag + new for tag, new in zip(tags, fresh, strict=True)))

    state = AugmentState(
        weights=weights,
        feedback=feedback,
        tags=tags,
        trace=trace,
        memory=summed * keep[None],
        observation=observation * keep[None],
        q_previous=q_chosen,
    )
    return state, Activity(action, q_values, regular, memory, rpe)


def _sigmoid(drive: chex.Array, threshold: chex.Numeric) -> chex.Array:
    return jax.nn.sigmoid(drive - threshold)


def _with_bias(activity: chex.Array) -> chex.Array:
    return jnp.concatenate([jnp.ones_like(activity[:1]), activity])


def _project(weights: chex.Array, activity: chex.Array) -> chex.Array:
    # A product and a sum, not a dot: XLA fuses it and vectorises over the networks' axis.
    return (weights * activity[:, None]).sum(0)


def _outer(before: chex.Array, after: chex.Array) -> chex.Array:
    return before[:, None] * after[None]


def _check(name: str, value: Any, low: float, high: float) -> None:
    # Tracers, and the placeholders that pytree utilities put in, have no value to check.
    known = isinstance(value, int | float | np.generic | np.ndarray | jax.Array)
    if not known or isinstance(value, jax.core.Tracer):
        return
    values = np.asarray(value)
    if not np.all(np.isfinite(values) & (values >= low) & (values <= high)):
        interval = f"in [{low}, {high}]" if high < float("inf") else f"finite, at least {low}"
        raise ValueError(f"{name} must be {interval}, got {value}")
