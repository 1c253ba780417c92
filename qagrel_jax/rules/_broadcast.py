"""Q-AGREL without attention: every hidden unit receives the reward-prediction error alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from qagrel_jax import checks
from qagrel_jax.layers.interception import Layer, each_layer
from qagrel_jax.policies import Policy, at_least_float32, max_boltzmann
from qagrel_jax.rules._q_agrel import q_agrel
from qagrel_jax.rules.base import (
    Decision,
    Forward,
    Rule,
    batch_of,
    check_act,
    check_decision,
    choose,
    outputs_and_aux,
    run_forward,
)


class BroadcastDecision(NamedTuple):
    """A ``rules.Decision`` whose pathway takes Q-AGREL's output errors alone."""

    action: chex.Array  # int32[batch], the chosen action s
    outputs: chex.Array  # float[batch, actions], Q values
    aux: Any  # what ``forward`` returned beside the outputs; None if nothing
    pathway: Callable[[chex.Array], chex.ArrayTree]  # output errors [batch, actions] -> params-like


def broadcast(policy: Policy = max_boltzmann, strength: float = 1.0) -> Rule:
    r"""Q-AGREL without attention: every hidden unit receives the same constant feedback.

    Wherever a hidden unit of Q-AGREL would receive attention feedback FB from the chosen action,
    here each receives the same constant c:

        δ = r − q_s,        ΔW_l = α δ x_l c g_l,        ΔW[:, s] = α δ x_L in the output layer L,

    with x_l the presynaptic activity and g = f'(a). It is a three-factor Hebbian rule: presynaptic
    × postsynaptic × reward. (What lies between two layers belongs to the pathway, too: c is what
    the outputs of BatchNorm, pooling and dropout receive.) Each layer of ``qagrel_jax.layers``
    sends c to the units it reads: one that several layers read, as beside a residual connection,
    receives c from each. The output layer is unchanged: it knows which of its units was chosen.
    With c = 0 the hidden layers do not learn, and only an output layer on random features does. A
    rule must exceed that accuracy to show that its hidden layers learn anything of use.

    Args:
      policy: ``(key, q_values [actions]) -> action``.
      strength: c, what every hidden unit receives in place of attention feedback.

    Returns:
      A ``Rule`` whose ``update`` takes rewards float[batch] and returns ``(grads, δ [batch])``.
      ``act`` needs a network made of ``qagrel_jax.layers``. Their kernels and biases learn, and
      what lies between two of them; other parameters get no change.

    Raises:
      TypeError: ``policy`` is no function, ``strength`` no number.
      ValueError: ``strength`` not finite; from ``act``, a network without a known layer.

    >>> import jax, jax.numpy as jnp
    >>> from qagrel_jax.networks import DenseNet
    >>> network, inputs = DenseNet(num_actions=2, hidden=(3,)), jnp.ones((1, 4))
    >>> params = network.init(jax.random.key(0), inputs)["params"]
    >>> forward = lambda params, x: network.apply({"params": params}, x)
    >>> rule = broadcast()
    >>> decision = rule.act(jax.random.key(1), forward, params, inputs)
    >>> grads, rpe = rule.update(decision, jnp.ones(1))
    """
    checks.number("strength", strength)
    attentive = q_agrel(policy)

    def act(
        key: chex.PRNGKey,
        forward: Forward,
        params: chex.ArrayTree,
        inputs: chex.Array,
        has_aux: bool = False,
    ) -> BroadcastDecision:
        check_act(key, forward, params)

        def cut(params: chex.ArrayTree, inputs: chex.Array) -> tuple[tuple, Any]:
            received = jnp.zeros(batch_of(inputs))

            def without_feedback(index: int, layer: Layer, x: chex.Array) -> chex.Array:
                nonlocal received
                if index:
                    # Its derivative by each unit of the layer below is c.
                    units = at_least_float32(x).reshape(len(x), -1)
                    received = received + strength * units.sum(1)
                return layer(jax.lax.stop_gradient(x))

            with each_layer(without_feedback) as layers_run:
                result = run_forward(forward, params, inputs)
            if not layers_run():
                raise ValueError("broadcast needs a network made of qagrel_jax.layers, found none")
            outputs, aux = outputs_and_aux(result, has_aux)
            return (outputs, received.astype(outputs.dtype)), aux

        (outputs, _), pathway, aux = jax.vjp(lambda p: cut(p, inputs), params, has_aux=True)
        action = choose(policy, key, outputs)

        return BroadcastDecision(action, outputs, aux, jax.tree_util.Partial(_down, pathway))

    def update(
        decision: BroadcastDecision, outcome: chex.Array
    ) -> tuple[chex.ArrayTree, chex.Array]:
        check_decision(decision, BroadcastDecision)
        return attentive.update(Decision(*decision), outcome)

    return Rule("broadcast", "reward", act, update)


def _down(pathway: Callable[[Any], tuple], errors: chex.Array) -> chex.ArrayTree:
    # Q-AGREL's output errors are −δ at the chosen unit: their sum is what is broadcast.
    return pathway((errors, errors.sum(1)))[0]
