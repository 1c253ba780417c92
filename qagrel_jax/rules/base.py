"""What every one-step learning rule shares: act, receive the outcome, learn through feedback.

A rule is a pair of pure functions::

    decision      = rule.act(key, forward, params, inputs)    # forward pass and choice
    reward        = ...                                       # the task answers decision.action
    grads, errors = rule.update(decision, reward)             # one global signal, gated by feedback

Between the two stands the task: a reward-based rule receives activities, its own action and a
reward, and nothing else. No label reaches it. A ``Decision`` is a pytree, so the two halves can be
compiled apart, with an environment in Python between them::

    act = jax.jit(rule.act, static_argnames=("forward", "has_aux"))
    update = jax.jit(rule.update)

Compile both or neither: each call of ``act`` that is not compiled makes a new ``pathway``, for
which a compiled ``update`` is compiled again.

Whatever dtype the network computes in, the choice, the error and the teaching signal are computed
in float32 or wider, and the errors on the outputs go back in the network's own dtype.

What tells one rule from another is its *teaching signal*, the error placed on the output units of
one example. Below the output all are the same: the error runs down the layers' feedback pathways
(``qagrel_jax.layers``), gated at each unit by the derivative of its activation function, and each
synapse changes by presynaptic activity × the gated feedback it meets. For the whole batch that is
one vector–Jacobian product.

**The sign, said once.** ``grads`` is a pseudo-gradient: shaped like ``params``, pointing uphill in
error, the mean over the batch. ``params - learning_rate * grads`` is the published weight change
averaged over the batch, so ``grads`` goes into any ``optax.GradientTransformation`` unchanged.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import TraceContextError

from qagrel_jax import checks, sharding
from qagrel_jax.layers import output_error
from qagrel_jax.policies import Policy, at_least_float32, check_q_values, none_chosen

Forward = Callable[[chex.ArrayTree, chex.Array], Any]
"""``(params, inputs [batch, ...]) -> outputs [batch, actions]``, or ``-> (outputs, aux)``."""

TeachingSignal = Callable[[chex.Array, chex.Array, chex.Array], tuple[chex.Array, chex.Array]]
"""``(outputs [actions], action [], outcome []) -> (output error [actions], scalar error [])``.

For one example. The output error is the derivative of the error with respect to the outputs
(uphill); the scalar is what one would plot: the reward-prediction error, or the loss.
"""


class Decision(NamedTuple):
    """What a network did with a batch, and the pathway along which it can learn from it."""

    action: chex.Array  # int32[batch], the chosen action s
    outputs: chex.Array  # float[batch, actions]: Q values (or logits), float32 or wider
    aux: Any  # what ``forward`` returned beside the outputs; None if nothing
    pathway: Callable[[chex.Array], chex.ArrayTree]
    # output errors [batch, actions], uphill -> params-like, summed over the batch; a pytree, as
    # ``jax.tree_util.Partial`` is. The perturbation rules' takes global scalars [batch] instead


class Rule(NamedTuple):
    """A one-step learning rule; see the module's docstring for the contract."""

    name: str  # as ``experiments.train --rule`` knows it
    outcome: str  # what ``update`` must be told: "reward" or "label"
    act: Callable[..., Any]
    # (key, forward, params, inputs, has_aux=False) -> Decision, or what the rule's own ``update``
    # takes
    update: Callable[[Any, chex.Array], tuple[chex.ArrayTree, chex.Array]]
    # (decision, outcome [batch]) -> (grads, errors [batch])
    estimates: str = "values"  # what the outputs become: "values" of actions, or "probabilities"

    @property
    def supervised(self) -> bool:
        """Whether ``update`` is told labels, not rewards."""
        return self.outcome == "label"

    def mean_error(self, errors: chex.Array) -> chex.Array:
        """Return the mean of δ² over a batch, of a supervised rule that of the loss.

        Args:
          errors: float[batch], from ``update``.

        Returns:
          float[].
        """
        return errors.mean() if self.supervised else jnp.square(errors).mean()


def run_forward(forward: Forward, params: chex.ArrayTree, inputs: chex.Array) -> Any:
    """Return ``forward(params, inputs)``; ``act`` has checked it (``check_act``).

    Raises:
      ValueError: a flax.nnx model that ``forward`` changes in place.
      TypeError: a ``forward`` that cannot be compiled.
    """
    try:
        return checks.compiled("forward", forward, params, inputs)
    except TraceContextError as error:
        raise ValueError(
            "forward changes a flax.nnx model in place: merge it with nnx.merge(..., copy=True) "
            f"and return what changed, as (outputs, rest), with has_aux=True ({error})"
        ) from None


def check_act(key: chex.PRNGKey, forward: Forward, params: chex.ArrayTree) -> None:
    """Check what a rule's ``act`` is given first, before JAX meets it.

    Raises:
      TypeError: no random key, no function of parameters and inputs, parameters that are no floats.
    """
    checks.random_key("key", key)
    checks.forward(forward)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                f"params{jax.tree_util.keystr(path)} must be floats, which learning can change, "
                f"got {dtype}"
            )


def check_decision(decision: Any, kind: type) -> None:
    """Check that a rule's ``update`` is given what an ``act`` of its kind returned.

    An action of −1, which a compiled policy chooses where there is nothing to choose, is none.

    Raises:
      TypeError: no decision, or one that another rule must learn from; actions that are no whole
        numbers.
      ValueError: actions that are not [batch]; an action's number that is out of range, where it
        is known.
    """
    checks.instance("decision", decision, kind, "act of the same rule gives one")
    batch, actions = decision.outputs.shape
    action = _array(decision.action)
    checks.one_each("decision.action", action, batch)
    known = checks.known(action) and jnp.issubdtype(action.dtype, jnp.integer)
    checks.labels(
        "decision.action", np.where(action == -1, 0, action) if known else action, actions
    )


def batch_of(inputs: chex.ArrayTree) -> int:
    """Return how many examples ``inputs`` [batch, ...] are; a pytree's arrays agree in this."""
    return jax.tree.leaves(inputs)[0].shape[0]


def outputs_and_aux(result: Any, has_aux: bool) -> tuple[chex.Array, Any]:
    """Tell what ``forward`` returned apart: outputs [batch, actions], float32 or wider, and aux.

    Raises:
      TypeError: a tuple without ``has_aux``, or no pair with it.
      ValueError: outputs that are not [batch, actions].
    """
    if has_aux and not (isinstance(result, tuple) and len(result) == 2):
        kind = type(result).__name__
        raise TypeError(f"has_aux=True: forward must return (outputs, aux), got {kind}")
    if not has_aux and isinstance(result, tuple | list | dict):
        raise TypeError(
            f"forward must return outputs [batch, actions], got {type(result).__name__}: where it "
            "returns (outputs, aux), call act with has_aux=True"
        )
    outputs, aux = result if has_aux else (result, None)
    outputs = at_least_float32(outputs)
    if outputs.ndim != 2:
        hint = "inputs need a batch axis" if outputs.ndim < 2 else "flatten before the last layer"
        checks.shape("outputs", outputs, "batch", "actions", instead=hint)
    return outputs, aux


def choose(policy: Policy, key: chex.PRNGKey, outputs: chex.Array) -> chex.Array:
    """Let each example choose by ``policy`` with a key of its own: [batch, actions] -> [batch].

    Raises:
      ValueError: an example whose actions are all masked, or whose Q values are NaN or +∞; a policy
        that returns no action's number.
      TypeError: a policy that returns no whole number, or cannot be compiled.
    """
    check_q_values(outputs)
    batch, actions = outputs.shape
    keys = sharding.divided_as(outputs, jax.random.split(key, batch))
    action = jax.vmap(functools.partial(checks.compiled, "policy", policy))(keys, outputs)
    if action.shape != (batch,):
        raise ValueError(f"policy must return one action, [], got {list(action.shape[1:])}")
    checks.labels("the policy's action", action, actions)
    return action


def one_step_rule(
    name: str,
    policy: Policy,
    teaching_signal: TeachingSignal,
    outcome: str = "reward",
    estimates: str = "values",
) -> Rule:
    """Build a rule from how it chooses and what it makes of the outcome.

    With e_b the output error of example b and J_b the Jacobian of the outputs through the feedback
    pathways: grads = (1/B) Σ_b J_bᵀ e_b.

    Args:
      name: the rule's name.
      policy: ``(key, outputs [actions]) -> action``, applied to each example with its own key.
      teaching_signal: see ``TeachingSignal``; applied to each example.
      outcome: "reward" if ``update`` takes float rewards [batch], "label" for int labels [batch].
      estimates: "values" if the outputs become Q values or logits, "probabilities" if the rule
        learns how probable a choice is, which a choice that is forced cannot teach.

    Returns:
      A ``Rule``. Its ``act(key, forward, params, inputs, has_aux=False)`` runs ``forward`` once;
      its ``update(decision, outcome)`` returns ``(grads, errors [batch])``.

    Raises:
      ValueError: ``outcome`` is neither "reward" nor "label", or ``estimates`` neither "values" nor
        "probabilities"; from ``act``, outputs that are not [batch, actions] or leave nothing to
        choose; from ``update``, a ``teaching_signal`` that returns something else, rewards that are
        not finite, labels or a decision's actions that are none, outcomes or actions that are not
        [batch]. (Inside a compiled function values are not known: nothing is raised, and the error
        of such a label or action is NaN.)
      TypeError: ``policy`` or ``teaching_signal`` is no function; from ``update``, a decision from
        which another kind of rule must learn, rewards that are no numbers, labels or actions that
        are no integers.

    A rule that knows only whether the reward was more or less than expected, δ = sign(r − q_s):

    >>> from qagrel_jax import greedy
    >>> def signal(outputs, action, reward):
    ...     rpe = jnp.sign(reward - outputs[action])
    ...     return -rpe * jax.nn.one_hot(action, outputs.size), rpe
    >>> rule = one_step_rule("sign", greedy, signal)
    >>> params, inputs = jnp.array([[0.0, 1.0]]), jnp.array([[2.0]])
    >>> decision = rule.act(jax.random.key(0), lambda w, x: x @ w, params, inputs)
    >>> grads, rpe = rule.update(decision, jnp.array([5.0]))
    >>> decision.action.tolist(), rpe.tolist(), float(grads[0, 1])
    ([1], [1.0], -2.0)
    """
    checks.option("outcome", outcome, ("reward", "label"))
    checks.option("estimates", estimates, ("values", "probabilities"))
    checks.function("policy", policy, "make_policy gives one by its name", ("key", "q_values"))
    checks.function("teaching_signal", teaching_signal, takes=("outputs", "action", "outcome"))
    supervised = outcome == "label"

    def act(
        key: chex.PRNGKey,
        forward: Forward,
        params: chex.ArrayTree,
        inputs: chex.Array,
        has_aux: bool = False,
    ) -> Decision:
        """Run the network and choose.

        Args:
          key: a random key; each example chooses with one of its own.
          forward: ``(params, inputs) -> outputs [batch, actions]``, with ``has_aux`` ``-> (outputs,
            aux)``.
          params: of the network.
          inputs: float[batch, ...].
          has_aux: ``forward`` returns ``aux``, too; it becomes ``decision.aux``.

        Returns:
          A ``Decision``: int32[batch] ``action``, float[batch, actions] ``outputs``.
        """
        check_act(key, forward, params)

        def run(params: chex.ArrayTree) -> tuple[chex.Array, Any]:
            return outputs_and_aux(run_forward(forward, params, inputs), has_aux)

        with output_error.delivered():
            outputs, pathway, aux = jax.vjp(run, params, has_aux=True)
        action = choose(policy, key, outputs)
        return Decision(action, outputs, aux, jax.tree_util.Partial(_onto_params, pathway))

    def update(decision: Decision, outcome: chex.Array) -> tuple[chex.ArrayTree, chex.Array]:
        """Compute the pseudo-gradient of what was chosen, given what it brought.

        Args:
          decision: from ``act``.
          outcome: float[batch] rewards, or int[batch] labels for a rule that is told these.

        Returns:
          ``(grads, errors)``: shaped like ``params``, the mean over the batch, for any optax
          optimizer; and float[batch], the reward-prediction error or the loss of each example.
        """
        check_decision(decision, Decision)
        batch, actions = decision.outputs.shape
        if supervised:
            outcome = _array(outcome)
            checks.one_each("labels", outcome, batch)
            checks.labels("label", outcome, actions)
            outcome = jnp.asarray(outcome)
        else:
            outcome = checked_rewards(outcome, batch)
        outcome = sharding.divided_as(decision.outputs, outcome)
        signals = jax.vmap(functools.partial(checks.compiled, "teaching_signal", teaching_signal))(
            decision.outputs, decision.action, outcome
        )
        output_errors, errors = _checked_signals(signals, decision.outputs.shape)
        output_errors = (output_errors / batch).astype(decision.outputs.dtype)
        if supervised:
            errors = jnp.where((outcome >= 0) & (outcome < actions), errors, jnp.nan)
        else:  # a loss of outputs that are not finite is none itself
            errors = known_errors(decision.action, errors, actions)
        return decision.pathway(output_errors), errors

    return Rule(name, outcome, act, update, estimates)


def _checked_signals(signals: Any, shape: tuple[int, ...]) -> tuple[chex.Array, chex.Array]:
    """Return what a teaching signal returns for a batch, if it is what it should be."""
    pair = isinstance(signals, tuple | list) and len(signals) == 2
    if not pair or [getattr(signal, "shape", None) for signal in signals] != [shape, shape[:1]]:
        told = [
            list(signal.shape[1:]) if hasattr(signal, "shape") else type(signal).__name__
            for signal in signals
        ]
        got = " and ".join(map(str, told)) if pair else type(signals).__name__
        raise ValueError(
            f"teaching_signal must return an output error [{shape[1]}], one for each action, and "
            f"one scalar error [], got {got}"
        )
    return signals[0], signals[1]


def known_errors(action: chex.Array, errors: chex.Array, actions: int) -> chex.Array:
    """Return ``errors`` [batch], NaN where a compiled policy chose none of the ``actions``."""
    return jnp.where(none_chosen(action, actions), jnp.nan, errors)


def checked_rewards(rewards: chex.Array, batch: int) -> chex.Array:
    """Return rewards as float32 or wider.

    Raises:
      ValueError: rewards that are not [batch]; one that is not finite, where they are known.
      TypeError: no numbers.
    """
    rewards = _array(rewards)
    checks.one_each("rewards", rewards, batch)
    checks.finite("reward", rewards)
    return at_least_float32(rewards)


def _array(values: Any) -> Any:
    return values if isinstance(values, jax.Array) else checks.native(np.asarray(values))


def _onto_params(pathway: Callable[[Any], tuple], errors: chex.Array) -> chex.ArrayTree:
    return pathway(errors)[0]
