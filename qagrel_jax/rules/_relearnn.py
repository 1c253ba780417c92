"""RELEARNN: Q-AGREL at the fixed point of a recurrent network."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from qagrel_jax import checks
from qagrel_jax.policies import Policy, at_least_float32, max_boltzmann
from qagrel_jax.recurrent import Recurrent
from qagrel_jax.rules._q_agrel import RewardPredictionError, q_agrel, reward_prediction_error
from qagrel_jax.rules.base import Decision, Rule, batch_of, checked_rewards, choose

TAKES = {
    "start": ("inputs",),
    "step": ("params", "state", "inputs"),
    "read_out": ("params", "state"),
}
"""With what the functions of a ``Recurrent`` network are called."""


class Settled(NamedTuple):
    """How far both phases came: ``Decision.aux`` of this rule.

    A residual is the largest change of any unit in the last step. Above the tolerance the phase has
    not reached its fixed point, and the weight change is only near the gradient.
    """

    state: chex.ArrayTree  # h*, arrays [batch, ...]
    steps: chex.Array  # int32[batch], of phase 1
    residual: chex.Array  # float[batch], of the activity, float32 or wider
    attention: chex.ArrayTree  # z, as ``state``
    sweeps: chex.Array  # int32[batch], of phase 2
    attention_residual: chex.Array  # float[batch], of the attention


def relearnn(
    policy: Policy = max_boltzmann,
    rpe: RewardPredictionError = reward_prediction_error,
    *,
    steps: int = 50,
    sweeps: int = 7,
    tolerance: float = 0.0,
    clip: float | None = None,
    scale: Callable[[chex.ArrayTree], chex.ArrayTree] | None = None,
) -> Rule:
    r"""RELEARNN: Q-AGREL at the fixed point of a recurrent network.

    A recurrent network with weights W sees an input x. Its activity h settles at h* = F(h*, W, x),
    from which the output layer computes the values q(h*, W). One trial has three phases.

    1. The activity settles, in at most ``steps`` steps h ← F(h, W, x). A policy chooses action a.

    2. Attention z settles in an accessory network, the linearized recurrent network run backwards.
    It starts at the chosen output and runs down through the feedback weights, ``sweeps`` times:

        z ← (∂F/∂h)ᵀ z + ∂q_a/∂h.

    3. The environment answers with reward r. Each synapse changes by the reward-prediction error
    and by its trace, presynaptic activity × the gated attention z at its target:

        δ = r − q_a,        ΔW = α δ [(∂F/∂W)ᵀ z + ∂q_a/∂W].

    With both phases settled and tied feedback ΔW = −α ∇ ½(r − q_a)² through the fixed point:
    recurrent backpropagation (Almeida 1987, Pineda 1987) of the one chosen output.

    The transposes are those of the layers: ``qagrel_jax.layers`` carry attention through feedback
    weights of their own, tied or independent.

    ``act`` and ``update`` can be compiled apart, with an environment in Python between them:
    ``jax.jit(rule.act, static_argnames="network")`` and ``jax.jit(rule.update)``. Choice and error
    are computed in float32 or wider, activity and attention in the network's own dtype.

    Settings of the published simulations: at most 50 steps and 7 sweeps, α = 0.02, ε = 0.05, traces
    scaled and clipped at 1.

    Args:
      policy: ``(key, q_values [actions]) -> action``; max-Boltzmann with ε = 0.02 if none is
        given; the paper's is ``make_policy("max_boltzmann", epsilon=0.05)``.
      rpe: ``(q_selected, reward) -> δ``.
      steps: most steps of phase 1, ...
      sweeps: ... most sweeps of phase 2, ...
      tolerance: ... or, for each example, once no unit changes by more in a step.
      clip: each weight's trace is clipped to [−clip, clip] in each example; None: not at all.
      scale: ``(traces) -> factors``, both like ``params``: what each weight's trace is multiplied
        with before it is clipped, e.g. 1/4 where four synapses share a weight, whose trace is then
        the mean of theirs (``recurrent.relative_rates``); None: 1.

    Returns:
      A ``Rule``. Its ``act(key, network, params, inputs)`` takes a ``Recurrent`` network and inputs
      [batch, ...], an array or a pytree, and gives a ``Decision`` whose ``aux`` is a ``Settled``;
      its ``update`` takes rewards float[batch] and returns ``(grads, δ [batch])``.

    Raises:
      ValueError: ``steps`` or ``sweeps`` below 1, a negative ``tolerance``, ``clip`` not positive;
        from ``act``, a network whose state has no batch, or another shape after a step; from
        ``update``, an action that is not the one that ``act`` chose (compiled: gradients of NaN),
        traces and factors of different structure.
      TypeError: an argument of another type; from ``act``, a network that is not ``Recurrent``.

    Reference:
      Mollard, Bohté & Roelfsema (2024), Recurrent neural networks that learn multi-step visual
      routines with reinforcement learning, PLoS Comput Biol 20(4): e1012030.

    One unit with h* = w h*/2 + x: at w = 1 h* = 2x.

    >>> import jax, jax.numpy as jnp
    >>> network = Recurrent(
    ...     start=jnp.zeros_like,
    ...     step=lambda w, h, x: 0.5 * w * h + x,
    ...     read_out=lambda w, h: h,
    ... )
    >>> decision = relearnn(sweeps=50).act(jax.random.key(0), network, 1.0, jnp.ones((1, 1)))
    >>> round(float(decision.outputs[0, 0]), 4), float(decision.aux.residual[0]) < 1e-6
    (2.0, True)
    """
    checks.whole("steps", steps)
    checks.whole("sweeps", sweeps)
    checks.number("tolerance", tolerance, 0)
    if clip is not None:
        checks.number("clip", clip, 0, above=True)
    if scale is not None:
        checks.function("scale", scale, takes=("traces",))

    def act(
        key: chex.PRNGKey,
        network: Recurrent,
        params: chex.ArrayTree,
        inputs: chex.Array,
        has_aux: bool = False,
    ) -> Decision:
        del has_aux  # of other rules; here ``aux`` tells how the activity settled
        checks.random_key("key", key)
        start = _first_state(network, params, inputs)
        state, taken, residual = _settle(
            lambda h: _step(network, params, h, inputs), start, steps, tolerance
        )
        outputs, down = jax.vjp(lambda h: at_least_float32(network.read_out(params, h)), state)
        checks.shape("outputs", outputs, "batch", "actions")
        action = choose(policy, key, outputs)
        chosen = jax.nn.one_hot(action, outputs.shape[1], dtype=outputs.dtype)

        (source,) = down(chosen)
        _, linearized = jax.vjp(lambda h: _step(network, params, h, inputs), state)
        attention, swept, attention_residual = _settle(
            lambda z: jax.tree.map(jnp.add, linearized(z)[0], source), source, sweeps, tolerance
        )
        aux = Settled(state, taken, residual, attention, swept, attention_residual)
        pathway = jax.tree_util.Partial(_Pathway(network, clip, scale), params, inputs, aux, chosen)
        return Decision(action, outputs, aux, pathway)

    return Rule("relearnn", "reward", act, functools.partial(_update, q_agrel(policy, rpe).update))


def _update(
    update: Callable[..., tuple], decision: Decision, outcome: chex.Array
) -> tuple[chex.ArrayTree, chex.Array]:
    """Update, if the action is the one from which attention ran down."""
    pathway: Any = decision.pathway
    *_, chosen = pathway.args
    replaced = decision.action != chosen.argmax(1)
    if checks.known(replaced) and replaced.any():
        raise ValueError(
            "decision.action was replaced, but attention ran down from the action that act chose: "
            "let the policy choose what is to be chosen"
        )
    rewards = checked_rewards(outcome, len(decision.outputs))
    # Compiled code cannot raise it.
    return update(decision, jnp.where(replaced, jnp.nan, rewards))


@dataclasses.dataclass(frozen=True)
class _Pathway:
    """From output errors to weight changes; equal for equal networks, so compiled only once."""

    network: Recurrent
    clip: float | None
    scale: Callable[[chex.ArrayTree], chex.ArrayTree] | None

    def __call__(
        self,
        params: chex.ArrayTree,
        inputs: chex.Array,
        settled: Settled,
        chosen: chex.Array,
        output_errors: chex.Array,
    ) -> chex.ArrayTree:
        # Attention came from the chosen outputs alone, so errors of the others reach nothing.
        error = (output_errors * chosen).sum(1)
        if self.clip is None and self.scale is None:
            return _traces(self.network, params, inputs, settled, chosen, error)
        clip = jnp.inf if self.clip is None else self.clip
        one = jax.vmap(
            lambda *example: self._scaled(_traces_of_one(self.network, params, *example))
        )
        traces = one(inputs, settled.state, settled.attention, chosen)
        return jax.tree.map(
            lambda t: jnp.tensordot(error, jnp.clip(t, -clip, clip), axes=1).astype(t.dtype), traces
        )

    def _scaled(self, traces: chex.ArrayTree) -> chex.ArrayTree:
        if self.scale is None:
            return traces
        factors = self.scale(traces)
        if jax.tree.structure(factors) != jax.tree.structure(traces):  # type: ignore[operator]
            raise ValueError(
                f"scale must return factors like the traces, {jax.tree.structure(traces)}, got "
                f"{jax.tree.structure(factors)}"
            )
        return jax.tree.map(jnp.multiply, traces, factors)


def converged(settled: Settled, tolerance: float) -> chex.Array:
    """Say for each example whether both phases reached their fixed point.

    Args:
      settled: ``Decision.aux`` of ``relearnn``.
      tolerance: the largest change in the last step, of any unit, that counts as none.

    Returns:
      bool[batch]; False where activity is not finite.

    Raises:
      ValueError: a negative ``tolerance``.
      TypeError: ``settled`` is no ``Settled``, ``tolerance`` no number.
    """
    checks.instance("settled", settled, Settled, "Decision.aux of relearnn is one")
    checks.number("tolerance", tolerance, 0)
    return (settled.residual <= tolerance) & (settled.attention_residual <= tolerance)


def _first_state(network: Recurrent, params: chex.ArrayTree, inputs: chex.Array) -> Any:
    """Return the state before the first step, in the dtype that a step computes in."""
    if not isinstance(network, Recurrent):
        raise TypeError(f"relearnn needs a Recurrent network, got {type(network).__name__}")
    for name, function in zip(network._fields, network, strict=True):
        checks.function(f"network.{name}", function, takes=TAKES[name])
    start = jax.tree.map(jnp.asarray, network.start(inputs))
    batch = batch_of(jax.tree.map(jnp.asarray, inputs))
    if not _is_batch(start, batch):
        raise ValueError(
            f"network.start must give arrays [batch, ...] of {batch} examples, got {_shapes(start)}"
        )
    after = jax.eval_shape(network.step, params, start, inputs)
    if _shapes(after) != _shapes(start):
        raise ValueError(
            f"network.step must keep the state's shapes, {_shapes(start)}, got {_shapes(after)}"
        )
    return jax.tree.map(lambda h, f: h.astype(jnp.promote_types(h.dtype, f.dtype)), start, after)


def _step(network: Recurrent, params: chex.ArrayTree, state: Any, inputs: chex.Array) -> Any:
    """Take a step; the state keeps its dtype whatever the network computes in."""
    return jax.tree.map(lambda f, h: f.astype(h.dtype), network.step(params, state, inputs), state)


def _is_batch(state: Any, batch: int) -> bool:
    leaves = jax.tree.leaves(state)
    return bool(leaves) and all(leaf.shape[:1] == (batch,) for leaf in leaves)


def _shapes(state: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.shape, state)


def _settle(
    advance: Callable[[Any], Any], start: chex.ArrayTree, limit: int, tolerance: float
) -> tuple[chex.ArrayTree, chex.Array, chex.Array]:
    """Repeat ``advance``; return the state, the steps and the last change of each example."""
    batch = jax.tree.leaves(start)[0].shape[0]

    def unsettled(carry: tuple) -> chex.Array:
        _, steps, change = carry
        return _more(steps, change).any()

    def _more(steps: chex.Array, change: chex.Array) -> chex.Array:
        return (steps < limit) & (change > tolerance)

    def body(carry: tuple) -> tuple:
        state, steps, change = carry
        more = _more(steps, change)
        following = advance(state)
        changes = jax.tree.map(_largest_change, following, state)
        largest = jnp.stack(jax.tree.leaves(changes)).max(0)
        # An example that has settled stays as it is, whatever the others of its batch do.
        state = jax.tree.map(lambda new, old: _where(more, new, old), following, state)
        return state, steps + more.astype(jnp.int32), jnp.where(more, largest, change)

    dtype = jnp.result_type(jnp.float32, *jax.tree.leaves(start))
    first = (start, jnp.zeros(batch, jnp.int32), jnp.full(batch, jnp.inf, dtype))
    return jax.lax.while_loop(unsettled, body, first)


def _largest_change(new: chex.Array, old: chex.Array) -> chex.Array:
    return at_least_float32(jnp.abs(new - old)).max(tuple(range(1, new.ndim)))


def _where(which: chex.Array, new: chex.Array, old: chex.Array) -> chex.Array:
    return jnp.where(which.reshape(-1, *(1,) * (new.ndim - 1)), new, old)


def _traces(
    network: Recurrent,
    params: chex.ArrayTree,
    inputs: chex.Array,
    settled: Settled,
    chosen: chex.Array,
    weights: chex.Array,
) -> chex.ArrayTree:
    """Return Σ_b weights_b · [(∂F/∂W)ᵀ z + ∂q_a/∂W]_b, shaped like ``params``."""
    _, recurrent = jax.vjp(lambda p: _step(network, p, settled.state, inputs), params)
    _, output = jax.vjp(lambda p: at_least_float32(network.read_out(p, settled.state)), params)
    scaled = jax.tree.map(
        lambda z: (z * weights.reshape(-1, *(1,) * (z.ndim - 1))).astype(z.dtype), settled.attention
    )
    return jax.tree.map(jnp.add, recurrent(scaled)[0], output(chosen * weights[:, None])[0])


def _traces_of_one(
    network: Recurrent,
    params: chex.ArrayTree,
    inputs: chex.Array,
    state: chex.ArrayTree,
    attention: chex.ArrayTree,
    chosen: chex.Array,
) -> chex.ArrayTree:
    """Return one example's traces; its arrays come without the batch's axis."""
    inputs, state, attention, chosen = jax.tree.map(
        lambda x: x[None], (inputs, state, attention, chosen)
    )
    nothing = jnp.zeros(1, chosen.dtype)
    settled = Settled(state, nothing, nothing, attention, nothing, nothing)
    return _traces(network, params, inputs, settled, chosen, jnp.ones(1, chosen.dtype))
