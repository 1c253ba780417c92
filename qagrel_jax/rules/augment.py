"""AuGMEnT: attention-gated memory tagging, for tasks that need memory of earlier stimuli.

``init`` draws a network's weights, ``step`` is one step of a trial and has the equations.

**Axes.** Shapes below are for one network. Every array may carry one more axis at its *end*, over
networks: then one call is a step of all of them, laid out so that a CPU vectorizes over networks.
The random key remains one, of which every network gets its own; ``plastic``, ``reward`` and
``ended`` may be one for all. ``jax.vmap`` works too.

Reference:
  Rombouts, Bohte & Roelfsema (2015), How attention can create synaptic tags for the learning of
  working memories in sequential tasks, PLoS Comput Biol 11(3): e1004060.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from qagrel_jax import checks, settings
from qagrel_jax.layers.feedback import canonical
from qagrel_jax.rules import synapses
from qagrel_jax.rules.synapses import (
    FEEDBACK,
    POLICIES,
    Chooser,
    along,
    outer,
    per_unit,
    project,
    with_bias,
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Sizes and parameters of AuGMEnT; the defaults are the paper's, the same in all its tasks.

    θ is that of the authors' code. A pytree: ``learning_rate``, ``tag_decay``, ``discount``,
    ``exploration``, ``threshold`` and ``leak`` are leaves, so they may be traced, and may be
    float[networks] where networks differ; the rest is static.

    Attributes:
      inputs: number of sensory units.
      regular: number of regular units.
      memory: number of memory units.
      actions: number of Q units.
      feedback: "tied" (Wᵀ) or "kolen_pollack"; "separate" and "reciprocal" mean the latter.
      bias: whether regular and Q units have a bias; without it the 1 in [1; x] and [1; y^R] is 0.
      weight_range: initial weights are uniform in [−weight_range, weight_range].
      learning_rate: β.
      tag_decay: λ; a tag keeps the fraction λγ of itself each step.
      discount: γ.
      policy: "max_boltzmann" (the paper's) or "epsilon_greedy", which explores uniformly.
      exploration: ε of the policy.
      threshold: θ of the sigmoid.
      leak: what the memory keeps from one step to the next; 1 is AuGMEnT, less forgets. A tuple
        (not an array, which is of many networks) gives every memory unit its own: half 1, half
        less is hybrid AuGMEnT, see ``rules.synapses.hybrid_leak``.

    Raises:
      ValueError: a size below 1, a parameter out of range, an unknown kind of feedback.
      TypeError: text or nothing in place of a number.

    >>> AugmentConfig(inputs=4, tag_decay=1.5)
    Traceback (most recent call last):
    ValueError: tag_decay must be in [0, 1], got 1.5
    """

    inputs: int = settings.static()
    regular: int = settings.static(3)
    memory: int = settings.static(4)
    actions: int = settings.static(3)
    feedback: str = settings.static("tied")
    policy: str = settings.static("max_boltzmann")
    bias: bool = settings.static(True)
    weight_range: float = settings.static(0.25)
    learning_rate: chex.Numeric = 0.15
    tag_decay: chex.Numeric = 0.2
    discount: chex.Numeric = 0.9
    exploration: chex.Numeric = 0.025
    threshold: chex.Numeric = 2.5
    leak: chex.Numeric | tuple[float, ...] = 1.0

    def __post_init__(self) -> None:
        settings.at_least(self, 1, "inputs", "regular", "memory", "actions")
        object.__setattr__(self, "feedback", canonical(self.feedback))
        settings.one_of(self, "feedback", FEEDBACK)
        settings.one_of(self, "policy", tuple(POLICIES))
        checks.flag("bias", self.bias)
        infinity = float("inf")
        settings.within(self, 0, infinity, "weight_range", "learning_rate")
        settings.within(self, -infinity, infinity, "threshold")
        settings.within(self, 0, 1, "tag_decay", "discount", "exploration", "leak")
        if isinstance(self.leak, tuple) and len(self.leak) != self.memory:
            raise ValueError(f"leak needs {self.memory} values, one a memory unit, got {self.leak}")


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
    trace: chex.Array  # float[2 inputs], sTrace; [2 inputs, memory] where units leak differently
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

    Raises:
      TypeError: ``key`` is no random key, ``config`` no ``AugmentConfig``.
    """
    checks.random_key("key", key)
    checks.instance("config", config, AugmentConfig)
    inputs, regular, memory, actions = config.inputs, config.regular, config.memory, config.actions
    shapes = (
        *((1 + inputs, regular), (2 * inputs, memory), (1 + regular, actions), (memory, actions)),
        *((regular, actions), (memory, actions)),  # feedback weights of their own
    )
    drawn = synapses.uniform(key, shapes, config.weight_range)
    weights, own_feedback = Weights(*drawn[:4]), Feedback(*drawn[4:])
    return AugmentState(
        weights=weights,
        feedback=own_feedback if config.feedback == "kolen_pollack" else None,
        tags=jax.tree.map(jnp.zeros_like, weights),
        trace=jnp.zeros((2 * inputs, memory) if isinstance(config.leak, tuple) else 2 * inputs),
        memory=jnp.zeros(memory),
        observation=jnp.zeros(inputs),
        q_previous=jnp.zeros(()),
    )


def tie_feedback(state: AugmentState, tied: chex.Array) -> AugmentState:
    """Let feedback weights start as the forward ones where ``tied``.

    Feedback gets the changes of its forward partner, so what starts tied stays tied.

    Args:
      state: from ``init``.
      tied: bool[], or of networks along a last axis one for each.

    Returns:
      The state with these feedback weights; as it is where feedback is tied by ``config``.

    Raises:
      TypeError: ``state`` is no ``AugmentState``, ``tied`` no truth value.
    """
    checks.instance("state", state, AugmentState, "init gives one")
    forward = Feedback(state.weights.regular_q[1:], state.weights.memory_q)
    return synapses.with_feedback(state, tied, forward)


def at_rest(state: AugmentState) -> AugmentState:
    """Return the network as it is between trials: its weights, and all else 0.

    Raises:
      TypeError: ``state`` is no ``AugmentState``.
    """
    checks.instance("state", state, AugmentState, "init gives one")
    cleared = jax.tree.map(jnp.zeros_like, state)
    return cleared._replace(weights=state.weights, feedback=state.feedback)


def step(
    randomness: Any,
    config: AugmentConfig,
    state: AugmentState,
    observation: chex.Array,
    reward: chex.Array,
    ended: chex.Array,
    plastic: chex.Array | bool = True,
    choose: Chooser | None = None,
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

    Feedback is ``tied`` (w' = Wᵀ) or ``kolen_pollack``: drawn independently, then given the same
    changes as the forward weights (Kolen & Pollack 1994). With λ = 0 and weights constant up to
    the step before, β δ Tag is −β ∇ ½(r + γ q_a(t) − q_a(t−1))² through the unrolled memory sum,
    target held fixed.

    Args:
      randomness: what ``choose`` draws from; a random key for ``config.policy``.
      config: sizes and parameters.
      state: from ``init`` or the previous step.
      observation: float[inputs], x(t).
      reward: float[], r(t), brought by the previous action.
      ended: bool[], whether that action ended the trial; the state is then ready for the next one.
      plastic: bool[], False freezes the network: β = ε = 0.
      choose: called with ``(randomness, q_values, epsilon)``, all networks' at once: float[actions,
        networks] and float[networks] where there is that axis; None for ``config.policy``.

    Returns:
      ``(state, activity)``.

    Raises:
      TypeError: ``config`` is no ``AugmentConfig``, ``state`` no ``AugmentState``, ``choose`` no
        function that can be compiled, the reward no number, ``ended`` or ``plastic`` no truth
        value, ``randomness`` no random key without ``choose``.
      ValueError: ``observation`` is not [inputs] (or [inputs, networks]); the reward is not finite,
        or ``choose`` returns no action's number, where they are known (compiled: δ is NaN); a state
        of other sizes, another feedback or another kind of leak than ``config``; a reward, an end
        or a parameter of ``config`` that is neither one value nor one for each network.

    Two steps of a trial; the second brings a reward of 1, so that δ = 1 + γ q_a(t) − q_a(t−1):

    >>> config = AugmentConfig(inputs=2)
    >>> state, one_step = jax.jit(init)(jax.random.key(0), config), jax.jit(step)
    >>> keys = jax.random.split(jax.random.key(1))
    >>> before, _ = one_step(keys[0], config, state, jnp.array([1.0, 0.0]), 0.0, False)
    >>> after, activity = one_step(keys[1], config, before, jnp.array([0.0, 1.0]), 1.0, False)
    >>> bool(jnp.allclose(activity.rpe, 1 + 0.9 * after.q_previous - before.q_previous))
    True
    """
    synapses.check_step(config, AugmentConfig, state, AugmentState, choose)
    reward, plastic = synapses.checked_signals(state, reward, ended, plastic)
    weights = state.weights
    observation = synapses.checked_observation(
        config,
        state,
        observation,
        (
            (weights.input_regular, (1 + config.inputs, config.regular)),
            (weights.memory_q, (config.memory, config.actions)),
        ),
    )
    _check_trace(config, state)
    change = observation - state.observation
    transients = jnp.concatenate([jnp.maximum(change, 0), jnp.maximum(-change, 0)])
    inputs = with_bias(observation, config.bias)
    kept = _leak(config, state.memory) * state.memory
    summed = kept + project(weights.input_memory, transients)
    regular = _sigmoid(project(weights.input_regular, inputs), config.threshold)
    memory = _sigmoid(summed, config.threshold)
    hidden = with_bias(regular, config.bias)
    q_values = project(weights.regular_q, hidden) + project(weights.memory_q, memory)

    networks = q_values.shape[1:]
    ended = jnp.broadcast_to(jnp.asarray(ended), networks)
    epsilon = jnp.broadcast_to(jnp.where(plastic, config.exploration, 0.0), networks)
    action = synapses.chooser(config.policy, choose)(randomness, q_values, epsilon)
    chosen, none = synapses.chosen_unit(action, q_values)
    # Once the trial has ended no unit is chosen: q_a is 0 and nothing is tagged.
    chosen = chosen * (1 - ended.astype(q_values.dtype))[None]
    q_chosen = (q_values * chosen).sum(0)

    rpe = reward + config.discount * q_chosen - state.q_previous
    rpe = jnp.where(none & ~ended, jnp.nan, rpe)

    weights, feedback = _changed(config, state, rpe, plastic)
    tied = Feedback(weights.regular_q[1:], weights.memory_q)
    attention = tied if feedback is None else feedback
    keep = 1 - ended.astype(q_values.dtype)
    trace = _traced(config, state.trace, transients)
    trace = trace * keep[(None,) * (trace.ndim - keep.ndim)]
    to_regular = regular * (1 - regular) * (attention.regular * chosen[None]).sum(1)
    to_memory = memory * (1 - memory) * (attention.memory * chosen[None]).sum(1)
    fresh = Weights(
        outer(inputs, to_regular),
        trace * to_memory[None] if isinstance(config.leak, tuple) else outer(trace, to_memory),
        outer(hidden, chosen),
        outer(memory, chosen),
    )
    decay = (config.tag_decay * config.discount * keep)[None, None]
    tags = Weights(*(decay * tag + new for tag, new in zip(state.tags, fresh, strict=True)))
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


def _changed(
    config: AugmentConfig, state: AugmentState, rpe: chex.Array, plastic: chex.Array
) -> tuple[Weights, Feedback | None]:
    """Return weights and feedback after Δw = β δ Tag, with the tags of the step before."""
    rate = jnp.where(plastic, config.learning_rate * rpe, 0)[None, None]
    tags, feedback = state.tags, state.feedback
    changed = Weights(*(w + rate * tag for w, tag in zip(state.weights, tags, strict=True)))
    if feedback is None:
        return changed, None
    return changed, Feedback(
        feedback.regular + rate * tags.regular_q[1:], feedback.memory + rate * tags.memory_q
    )


def _check_trace(config: AugmentConfig, state: AugmentState) -> None:
    """Refuse a trace of the other kind of leak: one for each synapse, or one for each input."""
    per_unit = (config.memory,) if isinstance(config.leak, tuple) else ()
    expected = (2 * config.inputs, *per_unit, *state.q_previous.shape)
    if state.trace.shape != expected:
        raise ValueError(
            "state must be of config.leak, as init makes it: one number for all memory units, or a "
            f"tuple of one for each: expected a trace {expected}, got {state.trace.shape}"
        )


def _sigmoid(drive: chex.Array, threshold: chex.Numeric) -> chex.Array:
    return jax.nn.sigmoid(drive - along(threshold, drive))


def _leak(config: AugmentConfig, array: chex.Array) -> chex.Numeric:
    """Return the leak of the units, or of the networks, that ``array`` [units, ...] is of."""
    if isinstance(config.leak, tuple):
        return per_unit(config.leak, array.ndim)
    return along(config.leak, array)


def _traced(config: AugmentConfig, trace: chex.Array, transients: chex.Array) -> chex.Array:
    """Return leak·sTrace + x', for every memory unit its own where their leaks differ."""
    if not isinstance(config.leak, tuple):
        return along(config.leak, trace) * trace + transients
    return per_unit(config.leak, trace.ndim - 1)[None] * trace + transients[:, None]
