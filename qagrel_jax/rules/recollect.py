"""RECOLLECT: gated memory that learns what to keep, and when to forget.

``init`` draws a network's weights, ``step`` is one step and has the equations. Shapes below are for
one network; as in ``augment``, every array but the random key may carry one more axis at its end,
over networks.

Reference:
  van den Berg, Roelfsema & Bohte (2024), Biologically plausible gated recurrent neural networks for
  working memory and learning-to-learn, PLoS ONE 19(12): e0316453.
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

SLOPES = ("published", "corrected")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RecollectConfig:
    """Sizes and parameters of RECOLLECT; the defaults are those of the authors' code.

    A pytree, as ``AugmentConfig`` is: what follows ``weight_range`` are leaves.

    Attributes:
      inputs: number of sensory units, the end-of-trial input not counted.
      memory: number of memory units, each with a gate and a candidate.
      actions: number of Q units.
      feedback: "tied" (Wᵀ) or "kolen_pollack"; "separate" and "reciprocal" mean the latter.
      slope: of the sigmoid's derivative, "published" (left out) or "corrected".
      policy: "epsilon_greedy", which explores uniformly, or "max_boltzmann".
      end_input: whether an input tells the network that a trial has ended.
      weight_range: initial weights are uniform in [−weight_range, weight_range].
      learning_rate: β.
      gate_rate: β_g / β.
      tag_decay: λ; a tag keeps the fraction λγ of itself each step.
      discount: γ.
      exploration: ε of the policy.
      threshold: θ of the sigmoid.
      steepness: s of the sigmoid.

    Raises:
      ValueError: a size below 1, a parameter out of range, an unknown option.
      TypeError: a value of another type.

    >>> RecollectConfig(inputs=4, feedback="reciprocal").feedback
    'kolen_pollack'
    """

    inputs: int = settings.static()
    memory: int = settings.static(7)
    actions: int = settings.static(3)
    feedback: str = settings.static("tied")
    slope: str = settings.static("published")
    policy: str = settings.static("epsilon_greedy")
    end_input: bool = settings.static(False)
    weight_range: float = settings.static(0.25)
    learning_rate: chex.Numeric = 0.1
    gate_rate: chex.Numeric = 0.6
    tag_decay: chex.Numeric = 0.4
    discount: chex.Numeric = 0.9
    exploration: chex.Numeric = 0.025
    threshold: chex.Numeric = 0.0
    steepness: chex.Numeric = 2.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "feedback", canonical(self.feedback))
        settings.at_least(self, 1, "inputs", "memory", "actions")
        settings.one_of(self, "feedback", FEEDBACK)
        settings.one_of(self, "slope", SLOPES)
        settings.one_of(self, "policy", tuple(POLICIES))
        checks.flag("end_input", self.end_input)
        infinity = float("inf")
        settings.within(self, 0, infinity, "weight_range", "learning_rate", "gate_rate")
        settings.within(self, -infinity, infinity, "threshold")
        settings.within(self, 0, infinity, "steepness")
        settings.within(self, 0, 1, "tag_decay", "discount", "exploration")


class Weights(NamedTuple):
    """One number per forward synapse: the weights themselves, or their tags; row 0 is the bias."""

    gate: chex.Array  # float[1 + inputs, memory]; the last row is the end-of-trial input, if any
    candidate: chex.Array  # float[1 + inputs, memory]
    q: chex.Array  # float[1 + memory, actions]


class Traces(NamedTuple):
    """How each synapse's past input still acts on its memory unit."""

    gate: chex.Array  # float[1 + inputs, memory], e_g
    candidate: chex.Array  # float[1 + inputs, memory], e_c


class RecollectState(NamedTuple):
    """Everything one network carries from step to step, and from trial to trial."""

    weights: Weights  # the forward weights
    feedback: chex.Array | None  # float[memory, actions]; None where feedback is tied
    tags: Weights  # Tag of each forward weight
    traces: Traces  # e_c and e_g of each input synapse
    memory: chex.Array  # float[memory], y(t−1)
    q_previous: chex.Array  # float[], q_a(t−1)


class Activity(NamedTuple):
    """What one step brought about."""

    action: chex.Array  # int32[]; nothing happens on it once the trial has ended
    q_values: chex.Array  # float[actions], q
    gate: chex.Array  # float[memory], g: 1 keeps, 0 takes the candidate
    candidate: chex.Array  # float[memory], c
    memory: chex.Array  # float[memory], y
    rpe: chex.Array  # float[], δ


def init(key: chex.PRNGKey, config: RecollectConfig) -> RecollectState:
    """Draw one network's weights, uniform in ±``weight_range``; its memory is empty.

    Args:
      key: a random key.
      config: sizes and parameters.

    Returns:
      The state, shapes as in ``RecollectState``.

    Raises:
      TypeError: ``key`` is no random key, ``config`` no ``RecollectConfig``.
    """
    checks.random_key("key", key)
    checks.instance("config", config, RecollectConfig)
    memory, actions = config.memory, config.actions
    rows = 1 + config.inputs + config.end_input
    shapes = ((rows, memory), (rows, memory), (1 + memory, actions), (memory, actions))
    *forward, independent = synapses.uniform(key, shapes, config.weight_range)
    weights = Weights(*forward)
    return RecollectState(
        weights=weights,
        feedback=independent if config.feedback == "kolen_pollack" else None,
        tags=jax.tree.map(jnp.zeros_like, weights),
        traces=Traces(jnp.zeros((rows, memory)), jnp.zeros((rows, memory))),
        memory=jnp.zeros(memory),
        q_previous=jnp.zeros(()),
    )


def tie_feedback(state: RecollectState, tied: chex.Array) -> RecollectState:
    """Let feedback weights start, and so stay, as the forward ones where ``tied``.

    Args:
      state: from ``init``.
      tied: bool[], or of networks along a last axis one for each.

    Returns:
      The state with these feedback weights; as it is where feedback is tied by ``config``.

    Raises:
      TypeError: ``state`` is no ``RecollectState``, ``tied`` no truth value.
    """
    checks.instance("state", state, RecollectState, "init gives one")
    return synapses.with_feedback(state, tied, state.weights.q[1:])


def at_rest(state: RecollectState) -> RecollectState:
    """Return the network with its weights and what it remembers, all else 0.

    Raises:
      TypeError: ``state`` is no ``RecollectState``.
    """
    checks.instance("state", state, RecollectState, "init gives one")
    cleared = jax.tree.map(jnp.zeros_like, state)
    return cleared._replace(weights=state.weights, feedback=state.feedback, memory=state.memory)


def step(
    randomness: Any,
    config: RecollectConfig,
    state: RecollectState,
    observation: chex.Array,
    reward: chex.Array,
    ended: chex.Array,
    plastic: chex.Array | bool = True,
    choose: Chooser | None = None,
) -> tuple[RecollectState, Activity]:
    r"""One step t of RECOLLECT: observe, choose, compute the RPE, learn, tag.

    AuGMEnT's memory adds up its input perfectly and is reset from outside at a trial's end. Here
    every memory unit has a gate that says how much it keeps, and nothing is ever reset. With input
    x, gate g, candidate c, memory y and linear Q units q:

        g = σ(W_gᵀ [1; x]),        c = σ(W_cᵀ [1; x]),        σ(u) = 1/(1 + e^{θ − s·u}),
        y = g ∘ y(t−1) + (1 − g) ∘ c,        q = W_qᵀ [1; y].

    The policy picks action a. The reward r, which the previous action brought, gives the SARSA
    reward-prediction error. **A trial's end changes nothing in it**: the value of the next trial is
    part of the value of the last one, and the network has to learn to clear its memory between
    them.

        δ = r + γ q_a(t) − q_a(t−1).

    Every synapse changes by δ and by the tag it carried *before* this step, gates with
    β_g = ``gate_rate`` β (published: 0.6 β):

        Δw = β δ Tag.

    Then the synaptic traces follow the memory, tags decay, and the synapses that took part in the
    choice of a are tagged, through the feedback weights w' just changed:

        e_c ← g ∘ e_c + (1 − g) ∘ x c',        e_g ← g ∘ e_g + (y(t−1) − c) ∘ x g',
        Tag ← λγ Tag + [1; y]        onto Q unit a (the other Q units: nothing),
        Tag ← λγ Tag + e_c w'_am     onto candidate m,
        Tag ← λγ Tag + e_g w'_am     onto gate m.

    The sigmoid's derivative is c' = s c(1 − c), g' = s g(1 − g). The authors' published code leaves
    the slope s = 2 out. ``slope="published"`` leaves it out, too, and is the default: the published
    parameters were chosen with it. ``slope="corrected"`` has the true derivative, which doubles
    what gates and candidates learn; then, with λ = 0 and w' = Wᵀ, β δ Tag is
    −β ∇ ½(r + γ q_a(t) − q_a(t−1))² through all earlier steps, target held fixed (gates: β_g), as
    long as all weights are constant up to the step before.

    Feedback is ``tied`` (w' = Wᵀ) or ``kolen_pollack``: drawn independently, then given the same
    changes as the forward weights. With ``end_input`` the network has one more input, which is 1 in
    the step in which a trial has ended and 0 in all others.

    Args:
      randomness: what ``choose`` draws from; a random key for ``config.policy``.
      config: sizes and parameters.
      state: from ``init`` or the previous step.
      observation: float[inputs], x(t).
      reward: float[], r(t), brought by the previous action.
      ended: bool[], whether that action ended the trial; the end-of-trial input shows it, and
        nothing else depends on it.
      plastic: bool[], False freezes the network: β = ε = 0, for gates and feedback, too.
      choose: called with ``(randomness, q_values, epsilon)``, all networks' at once; None for
        ``config.policy``.

    Returns:
      ``(state, activity)``.

    Raises:
      ValueError: ``observation`` is not [inputs] (or [inputs, networks]); the reward is not finite,
        or ``choose`` returns no action's number, where they are known (compiled: δ is NaN); a state
        of other sizes or another feedback than ``config``; a reward, an end or a parameter of
        ``config`` that is neither one value nor one for each network.
      TypeError: ``config`` is no ``RecollectConfig``, ``state`` no ``RecollectState``, ``choose``
        no function that can be compiled, the reward no number, ``ended`` or ``plastic`` no truth
        value, ``randomness`` no random key without ``choose``.

    >>> config = RecollectConfig(inputs=4)
    >>> state = init(jax.random.key(0), config)
    >>> state, activity = step(jax.random.key(1), config, state, jnp.ones(4), 0.0, False)
    >>> activity.gate.shape, state.tags.q.shape
    ((7,), (8, 3))
    """
    synapses.check_step(config, RecollectConfig, state, RecollectState, choose)
    reward, plastic = synapses.checked_signals(state, reward, ended, plastic)
    weights = state.weights
    observation = synapses.checked_observation(
        config,
        state,
        observation,
        (
            (weights.gate, (1 + config.inputs + config.end_input, config.memory)),
            (weights.q, (1 + config.memory, config.actions)),
        ),
    )
    inputs = with_bias(observation)
    if config.end_input:
        end = jnp.broadcast_to(jnp.asarray(ended, inputs.dtype), inputs.shape[1:])
        inputs = jnp.concatenate([inputs, end[None]])

    gate = _sigmoid(config, project(weights.gate, inputs))
    candidate = _sigmoid(config, project(weights.candidate, inputs))
    memory = gate * state.memory + (1 - gate) * candidate
    hidden = with_bias(memory)
    q_values = project(weights.q, hidden)

    networks = q_values.shape[1:]
    epsilon = jnp.broadcast_to(jnp.where(plastic, config.exploration, 0.0), networks)
    action = synapses.chooser(config.policy, choose)(randomness, q_values, epsilon)
    chosen, none = synapses.chosen_unit(action, q_values)
    q_chosen = (q_values * chosen).sum(0)
    rpe = reward + config.discount * q_chosen - state.q_previous
    rpe = jnp.where(none, jnp.nan, rpe)

    weights, feedback = _changed(config, state, rpe, plastic)
    traces = _traced(config, state, inputs, gate, candidate)
    attention = weights.q[1:] if feedback is None else feedback
    to_memory = (attention * chosen[None]).sum(1)[None]
    decay = along(config.tag_decay * config.discount, state.tags.q)
    tags = Weights(
        gate=decay * state.tags.gate + traces.gate * to_memory,
        candidate=decay * state.tags.candidate + traces.candidate * to_memory,
        q=decay * state.tags.q + outer(hidden, chosen),
    )
    state = RecollectState(weights, feedback, tags, traces, memory, q_chosen)
    return state, Activity(action, q_values, gate, candidate, memory, rpe)


def _changed(
    config: RecollectConfig, state: RecollectState, rpe: chex.Array, plastic: chex.Array
) -> tuple[Weights, chex.Array | None]:
    """Return weights and feedback after Δw = β δ Tag, with the tags of the step before."""
    rate = jnp.where(plastic, config.learning_rate * rpe, 0)[None, None]
    weights, tags = state.weights, state.tags
    changed = Weights(
        gate=weights.gate + along(config.gate_rate, tags.gate) * rate * tags.gate,
        candidate=weights.candidate + rate * tags.candidate,
        q=weights.q + rate * tags.q,
    )
    if state.feedback is None:
        return changed, None
    return changed, state.feedback + rate * tags.q[1:]


def _traced(
    config: RecollectConfig,
    state: RecollectState,
    inputs: chex.Array,
    gate: chex.Array,
    candidate: chex.Array,
) -> Traces:
    """Return the traces after this step: ∂y/∂W_g and ∂y/∂W_c, with the slope that is asked for."""
    slope = along(config.steepness, gate) if config.slope == "corrected" else 1.0
    to_gate = (state.memory - candidate) * slope * gate * (1 - gate)
    to_candidate = (1 - gate) * slope * candidate * (1 - candidate)
    return Traces(
        gate=gate[None] * state.traces.gate + outer(inputs, to_gate),
        candidate=gate[None] * state.traces.candidate + outer(inputs, to_candidate),
    )


def _sigmoid(config: RecollectConfig, drive: chex.Array) -> chex.Array:
    return jax.nn.sigmoid(along(config.steepness, drive) * drive - along(config.threshold, drive))
