"""WorkMATe: memory in blocks that the network itself chooses to overwrite.

``init`` draws a network's weights, ``step`` is one step and has the equations. Shapes below are for
one network; as in ``augment``, every array but the random key may carry one more axis at its end,
over networks.

Reference:
  Kruijne, Bohte, Roelfsema & Olivers (2021), Flexible working memory through selective gating and
  attentional tagging, Neural Comput 33(1): 1-40.
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
from qagrel_jax.rules.synapses import FEEDBACK, POLICIES, Chooser, along, outer, project, with_bias

TIME_TUNING = (1.0, 0.5, 0.25, 0.1)
"""Activity of a time cell that prefers the present step, or one that is 1, 2 or 3 steps away."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class WorkmateConfig:
    """Sizes and parameters of WorkMATe; the defaults are those of the authors' code.

    A pytree, as ``AugmentConfig`` is: what follows ``projection_range`` are leaves.

    Attributes:
      inputs: number of sensory units, time cells not counted.
      regular: number of regular units.
      memory: number of memory units, of all blocks together.
      blocks: number of memory blocks, all of one size.
      actions: number of external actions, each with a Q unit.
      time_cells: number of inputs that tell which step of the trial it is; 0 for none.
      feedback: "tied" (Wᵀ) or "kolen_pollack"; "separate" and "reciprocal" mean the latter.
      policy: "max_boltzmann", or "epsilon_greedy", which explores uniformly.
      weight_range: initial weights are uniform in [−weight_range, weight_range].
      projection_range: the same of the fixed weights P, through which inputs are stored.
      learning_rate: β.
      tag_decay: λ; a tag keeps the fraction λγ of itself each step.
      discount: γ.
      exploration: ε of the policy, for the external and the internal action each.
      threshold: θ of the sigmoid.

    Raises:
      ValueError: a size below 1 (time cells: 0), memory units that are no multiple of the blocks, a
        parameter out of range, an unknown option.
      TypeError: a value of another type.

    >>> WorkmateConfig(inputs=7).memory // WorkmateConfig(inputs=7).blocks
    15
    """

    inputs: int = settings.static()
    regular: int = settings.static(15)
    memory: int = settings.static(30)
    blocks: int = settings.static(2)
    actions: int = settings.static(3)
    time_cells: int = settings.static(20)
    feedback: str = settings.static("tied")
    policy: str = settings.static("max_boltzmann")
    weight_range: float = settings.static(0.25)
    projection_range: float = settings.static(0.5)
    learning_rate: chex.Numeric = 0.15
    tag_decay: chex.Numeric = 0.8
    discount: chex.Numeric = 0.9
    exploration: chex.Numeric = 0.025
    threshold: chex.Numeric = 2.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "feedback", canonical(self.feedback))
        settings.at_least(self, 1, "inputs", "regular", "memory", "blocks", "actions")
        settings.at_least(self, 0, "time_cells")
        if self.memory % self.blocks:
            raise ValueError(
                f"memory must be a multiple of the {self.blocks} blocks, got {self.memory}"
            )
        settings.one_of(self, "feedback", FEEDBACK)
        settings.one_of(self, "policy", tuple(POLICIES))
        infinity = float("inf")
        settings.within(self, 0, infinity, "weight_range", "projection_range", "learning_rate")
        settings.within(self, -infinity, infinity, "threshold")
        settings.within(self, 0, 1, "tag_decay", "discount", "exploration")


class Weights(NamedTuple):
    """One number per plastic synapse: the weights themselves, or their tags; biases in row 0."""

    input_regular: chex.Array  # float[1 + inputs + time_cells + blocks, regular]
    memory_regular: chex.Array  # float[memory, regular]; no bias
    q: chex.Array  # float[1 + regular, actions + blocks + 1], external actions first


class WorkmateState(NamedTuple):
    """Everything one network carries from step to step, and from trial to trial."""

    weights: Weights  # the forward weights
    feedback: chex.Array | None  # float[regular, actions + blocks + 1]; None where it is tied
    projection: chex.Array  # float[inputs + time_cells, memory], P; never changes
    tags: Weights  # Tag of each forward weight
    memory: chex.Array  # float[memory], S, block after block
    clock: chex.Array  # int32[], steps since the trial began
    q_previous: chex.Array  # float[], Q(t−1)


class Activity(NamedTuple):
    """What one step brought about."""

    action: chex.Array  # int32[], the external one; nothing happens on it once the trial has ended
    q_values: chex.Array  # float[actions], q of the external actions
    gate_q_values: chex.Array  # float[blocks + 1], q of the internal ones; the last is "none"
    gate: chex.Array  # float[blocks], 1 where a block is overwritten after this step
    match: chex.Array  # float[blocks], how like the input is to what a block holds; at most 1
    regular: chex.Array  # float[regular], h
    memory: chex.Array  # float[memory], S, as the regular units saw it
    rpe: chex.Array  # float[], δ


def init(key: chex.PRNGKey, config: WorkmateConfig) -> WorkmateState:
    """Draw one network's weights, uniform; its memory is empty.

    Args:
      key: a random key.
      config: sizes and parameters.

    Returns:
      The state, shapes as in ``WorkmateState``.

    Raises:
      TypeError: ``key`` is no random key, ``config`` no ``WorkmateConfig``.
    """
    checks.random_key("key", key)
    checks.instance("config", config, WorkmateConfig)
    seen, units = config.inputs + config.time_cells, config.actions + config.blocks + 1
    shapes = (
        (1 + seen + config.blocks, config.regular),
        (config.memory, config.regular),
        (1 + config.regular, units),
        (config.regular, units),
        (seen, config.memory),
    )
    *forward, independent, projection = synapses.uniform(key, shapes, 1.0)
    weights = Weights(*(config.weight_range * drawn for drawn in forward))
    own = config.feedback == "kolen_pollack"
    return WorkmateState(
        weights=weights,
        feedback=config.weight_range * independent if own else None,
        projection=config.projection_range * projection,
        tags=jax.tree.map(jnp.zeros_like, weights),
        memory=jnp.zeros(config.memory),
        clock=jnp.int32(0),
        q_previous=jnp.zeros(()),
    )


def tie_feedback(state: WorkmateState, tied: chex.Array) -> WorkmateState:
    """Let feedback weights start, and so stay, as the forward ones where ``tied``.

    Args:
      state: from ``init``.
      tied: bool[], or of networks along a last axis one for each.

    Returns:
      The state with these feedback weights; as it is where feedback is tied by ``config``.

    Raises:
      TypeError: ``state`` is no ``WorkmateState``, ``tied`` no truth value.
    """
    checks.instance("state", state, WorkmateState, "init gives one")
    return synapses.with_feedback(state, tied, state.weights.q[1:])


def at_rest(state: WorkmateState) -> WorkmateState:
    """Return the network as it is between trials: its weights, and all else 0.

    Raises:
      TypeError: ``state`` is no ``WorkmateState``.
    """
    checks.instance("state", state, WorkmateState, "init gives one")
    cleared = jax.tree.map(jnp.zeros_like, state)
    return cleared._replace(
        weights=state.weights, feedback=state.feedback, projection=state.projection
    )


def choices(config: WorkmateConfig) -> tuple[int, ...]:
    """Return the options of each choice that a step makes: external, then internal actions."""
    return config.actions, config.blocks + 1


def time_cells(clock: chex.Array, number: int) -> chex.Array:
    """Return what the time cells say: float[number], or [number, networks].

    Cell j prefers step j of the trial. Its activity is 1 there, 0.5, 0.25 and 0.1 in steps 1, 2 and
    3 before or after, 0 otherwise; so a trial of more than ``number`` + 3 steps goes on without.

    Args:
      clock: int32[], steps since the trial began.
      number: of cells, at least 0.

    Raises:
      ValueError: ``number`` below 0.
      TypeError: ``number`` is no number.

    >>> time_cells(jnp.int32(2), 4).tolist()
    [0.25, 0.5, 1.0, 0.5]
    """
    checks.whole("number", number, 0)
    cell = jax.lax.broadcasted_iota(jnp.int32, (number, *jnp.shape(clock)), 0)
    away = jnp.abs(cell - jnp.asarray(clock)[None])
    return sum(
        (jnp.where(away == steps, rate, 0.0) for steps, rate in enumerate(TIME_TUNING)),
        jnp.zeros(away.shape),
    )


def step(
    randomness: Any,
    config: WorkmateConfig,
    state: WorkmateState,
    observation: chex.Array,
    reward: chex.Array,
    ended: chex.Array,
    plastic: chex.Array | bool = True,
    choose: Chooser | None = None,
) -> tuple[WorkmateState, Activity]:
    r"""One step t of WorkMATe: observe, choose twice, compute the RPE, learn, tag, store.

    The memory consists of blocks. Each holds an input of an earlier step, seen through fixed random
    weights P. The network learns, with its actions, when to overwrite which block. The input x is
    the observation and the time cells (``time_cells``). Match units m compare it with what block k
    of n units holds, so that a stimulus never seen before can be recognized all the same:

        m_k = 1 − (1/n) Σ_i |(P_kᵀ x)_i − S_ki|,
        h = σ(W_xᵀ [1; x; m] + W_Sᵀ S),        σ(u) = 1/(1 + e^{θ − u}),
        q = W_qᵀ [1; h].

    The Q units, which are linear, belong to two groups. The policy picks one unit of each: the
    external action a, and the internal one b, which is to overwrite one of the blocks, or none.
    What is predicted is the sum of both. The reward r, which the previous actions brought, gives
    the SARSA reward-prediction error:

        Q(t) = q_a + q_b,        δ = r + γ Q(t) − Q(t−1).

    Once the trial has ended nothing is chosen, Q(t) = 0, and then memory, tags and clock are reset.
    Every synapse changes by δ and the tag it carried *before* this step:

        Δw = β δ Tag.

    Then tags decay, and the synapses that took part in either choice are tagged, through the
    feedback weights w' just changed:

        Tag ← λγ Tag + [1; h]                             onto Q units a and b,
        Tag ← λγ Tag + [1; x; m] h_j (1 − h_j) (w'_aj + w'_bj)    onto regular unit j from inputs,
        Tag ← λγ Tag + S h_j (1 − h_j) (w'_aj + w'_bj)    onto regular unit j from memory.

    Last, if b is a block, it stores the input: S_b ← P_bᵀ x. With λ = 0, w' = Wᵀ and
    weights that were constant up to the step before, β δ Tag is
    −β ∇ ½(r + γ Q(t) − Q(t−1))², target and memory held fixed: what to store is learned by trial
    and error, not through the memory's gradient.

    Feedback is ``tied`` (w' = Wᵀ), as published, or ``kolen_pollack``: drawn independently, then
    given the same changes as the forward weights.

    Args:
      randomness: a random key; or a pair, what ``choose`` draws from for a and for b.
      config: sizes and parameters.
      state: from ``init`` or the previous step.
      observation: float[inputs].
      reward: float[], r(t), brought by the previous actions.
      ended: bool[], whether they ended the trial.
      plastic: bool[], False freezes the network: β = ε = 0, for feedback, too.
      choose: called with ``(randomness, q_values, epsilon)``, all networks' at once, for a and then
        for b; None for ``config.policy``.

    Returns:
      ``(state, activity)``.

    Raises:
      ValueError: ``observation`` is not [inputs] (or [inputs, networks]); the reward is not finite,
        or ``choose`` returns no action's number, where they are known (compiled: δ is NaN); a state
        of other sizes or another feedback than ``config``; a reward, an end or a parameter of
        ``config`` that is neither one value nor one for each network.
      TypeError: ``config`` is no ``WorkmateConfig``, ``state`` no ``WorkmateState``, ``choose`` no
        function that can be compiled, the reward no number, ``ended`` or ``plastic`` no truth
        value, ``randomness`` no random key and no pair.

    A block that has stored the present input would know it again, if time stood still:

    >>> config = WorkmateConfig(inputs=2, time_cells=0)
    >>> first = lambda randomness, q_values, epsilon: jnp.int32(0)
    >>> state = init(jax.random.key(0), config)
    >>> for t in range(2):
    ...     key = jax.random.key(t + 1)
    ...     state, activity = step(key, config, state, jnp.ones(2), 0.0, False, choose=first)
    >>> activity.match.shape, float(activity.match[0])
    ((2,), 1.0)
    """
    synapses.check_step(config, WorkmateConfig, state, WorkmateState, choose)
    for_action, for_gate = _apart(randomness)
    reward, plastic = synapses.checked_signals(state, reward, ended, plastic)
    observation = _checked_observation(config, state, observation)
    weights = state.weights
    now = time_cells(state.clock, config.time_cells).astype(observation.dtype)
    seen = jnp.concatenate([observation, now])
    stored = project(state.projection, seen)
    match = 1 - _blocks(config, jnp.abs(stored - state.memory)).mean(1)
    inputs = with_bias(jnp.concatenate([seen, match]))
    drive = project(weights.input_regular, inputs) + project(weights.memory_regular, state.memory)
    regular = jax.nn.sigmoid(drive - along(config.threshold, drive))
    hidden = with_bias(regular)
    q_values = project(weights.q, hidden)
    external, internal = q_values[: config.actions], q_values[config.actions :]

    networks = q_values.shape[1:]
    ended = jnp.broadcast_to(jnp.asarray(ended), networks)
    epsilon = jnp.broadcast_to(jnp.where(plastic, config.exploration, 0.0), networks)
    choose = synapses.chooser(config.policy, choose)
    action, gate = choose(for_action, external, epsilon), choose(for_gate, internal, epsilon)
    chosen, no_action = synapses.chosen_unit(action, external)
    gated, no_gate = synapses.chosen_unit(gate, internal, "internal action")
    # Once the trial has ended no unit is chosen: Q is 0, and nothing is tagged or stored.
    keep = 1 - ended.astype(q_values.dtype)
    both = jnp.concatenate([chosen, gated]) * keep[None]
    q_chosen = (q_values * both).sum(0)
    rpe = reward + config.discount * q_chosen - state.q_previous
    rpe = jnp.where((no_action | no_gate) & ~ended, jnp.nan, rpe)

    weights, feedback = _changed(config, state, rpe, plastic)
    attention = weights.q[1:] if feedback is None else feedback
    to_regular = regular * (1 - regular) * (attention * both[None]).sum(1)
    fresh = Weights(outer(inputs, to_regular), outer(state.memory, to_regular), outer(hidden, both))
    decay = (config.tag_decay * config.discount * keep)[None, None]
    tags = Weights(*(decay * tag + new for tag, new in zip(state.tags, fresh, strict=True)))

    overwritten = both[config.actions : -1]
    each = jnp.repeat(overwritten, config.memory // config.blocks, axis=0)
    memory = jnp.where(each > 0, stored, state.memory) * keep[None]
    clock = jnp.where(ended, 0, state.clock + 1).astype(state.clock.dtype)
    after = WorkmateState(weights, feedback, state.projection, tags, memory, clock, q_chosen)
    return after, Activity(
        action, external, internal, overwritten, match, regular, state.memory, rpe
    )


def _apart(randomness: Any) -> tuple[Any, Any]:
    """Return what the two choices draw from."""
    if isinstance(randomness, tuple | list):
        if len(randomness) != 2:
            raise TypeError(
                "randomness must be a random key, or a pair for the two choices, got "
                f"{len(randomness)} parts"
            )
        return randomness[0], randomness[1]
    checks.random_key("randomness", randomness)
    for_action, for_gate = jax.random.split(randomness)
    return for_action, for_gate


def _checked_observation(
    config: WorkmateConfig, state: WorkmateState, observation: chex.Array
) -> chex.Array:
    """Return the observation as floats, if ``state`` and ``config`` belong together."""
    seen, units = config.inputs + config.time_cells, config.actions + config.blocks + 1
    sizes = (
        (state.weights.input_regular, (1 + seen + config.blocks, config.regular)),
        (state.weights.memory_regular, (config.memory, config.regular)),
        (state.weights.q, (1 + config.regular, units)),
        (state.projection, (seen, config.memory)),
    )
    return synapses.checked_observation(config, state, observation, sizes)


def _blocks(config: WorkmateConfig, units: chex.Array) -> chex.Array:
    """Return [blocks, units of a block, …] of [memory, …]."""
    return units.reshape(config.blocks, -1, *units.shape[1:])


def _changed(
    config: WorkmateConfig, state: WorkmateState, rpe: chex.Array, plastic: chex.Array
) -> tuple[Weights, chex.Array | None]:
    """Return weights and feedback after Δw = β δ Tag, with the tags of the step before."""
    rate = jnp.where(plastic, config.learning_rate * rpe, 0)[None, None]
    pairs = zip(state.weights, state.tags, strict=True)
    changed = Weights(*(weights + rate * tag for weights, tag in pairs))
    if state.feedback is None:
        return changed, None
    return changed, state.feedback + rate * state.tags.q[1:]
