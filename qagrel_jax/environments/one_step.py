"""A one-step rule, such as Q-AGREL, plays episodes that are one action long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from qagrel_jax import checks
from qagrel_jax.environments.environment import Environment, check
from qagrel_jax.rules.base import Rule


class Outcome(NamedTuple):
    """What a batch of one-step episodes brought."""

    action: chex.Array  # int32[batch], the chosen action
    reward: chex.Array  # float[batch], what it brought
    rpe: chex.Array  # float[batch], δ; NaN where the episode did not end
    ended: chex.Array  # bool[batch]; False: this environment is not for a one-step rule
    aux: Any = None  # what ``forward`` returned beside the outputs; None if nothing


def trial(
    key: chex.PRNGKey,
    rule: Rule,
    forward: Callable[..., Any],
    params: chex.ArrayTree,
    environment: Environment,
    batch: int = 1,
    has_aux: bool = False,
) -> tuple[chex.ArrayTree, Outcome]:
    """Let a one-step rule play one-step episodes: see, act, be rewarded; the gradients.

    Args:
      key: a random key.
      rule: one that takes rewards, such as ``qagrel_jax.q_agrel()``.
      forward: ``(params, inputs float[batch, inputs]) -> outputs float[batch, actions]``.
      params: of the network.
      environment: its episodes end with the first action.
      batch: episodes at once.
      has_aux: whether ``forward`` returns ``(outputs, aux)``; it becomes ``outcome.aux``.

    Returns:
      ``(grads, outcome)``, grads as from ``rule.update``: into any optax optimizer.

    Raises:
      ValueError: a rule that needs labels, or a recurrent network; ``batch`` below 1; an
        environment whose functions do not return what they must, or whose episodes are longer than
        one action (compiled: gradients and errors are NaN); a network with another number of
        outputs than it has actions.
      TypeError: an argument of another type.

    One of two inputs is active, and the action of its number is right:

    >>> import jax.numpy as jnp
    >>> from qagrel_jax import q_agrel
    >>> def reset(key):
    ...     number = jax.random.randint(key, (), 0, 2)
    ...     return number, jax.nn.one_hot(number, 2)
    >>> def step(key, number, action):
    ...     return number, jnp.zeros(2), 1.0 * (action == number), True, False
    >>> world = Environment(inputs=2, actions=2, reset=reset, step=step)
    >>> @jax.jit
    ... def learn(params, key):
    ...     forward = lambda params, inputs: inputs @ params
    ...     grads, outcome = trial(key, q_agrel(), forward, params, world, batch=8)
    ...     return params - 0.5 * grads, outcome.reward.mean()
    >>> params = jnp.zeros((2, 2))
    >>> for key in jax.random.split(jax.random.key(0), 40):
    ...     params, fraction_right = learn(params, key)
    >>> params.argmax(1).tolist(), float(fraction_right)
    ([0, 1], 1.0)
    """
    checks.instance("rule", rule, Rule, "q_agrel() gives one")
    if rule.name == "relearnn":
        raise ValueError("relearnn takes a Recurrent network, and trial does not: call its act")
    checks.forward(forward)
    check(environment)
    checks.whole("batch", batch)
    checks.flag("has_aux", has_aux)
    if rule.supervised:
        raise ValueError(f"an environment gives rewards, but {rule.name} learns from labels")
    checks.random_key("key", key)
    reset_key, act_key, step_key = jax.random.split(key, 3)
    states, inputs = jax.vmap(environment.reset)(jax.random.split(reset_key, batch))
    decision = rule.act(act_key, forward, params, inputs, has_aux=has_aux)
    if decision.outputs.shape[1] != environment.actions:
        raise ValueError(
            f"forward must return [batch, {environment.actions}], an output for each of the "
            f"environment's actions, got {list(decision.outputs.shape)}"
        )
    keys = jax.random.split(step_key, batch)
    _, _, reward, terminated, truncated = jax.vmap(environment.step)(keys, states, decision.action)
    ended = terminated | truncated
    if checks.known(ended) and not ended.all():
        raise ValueError(
            "an episode went on after its first action: a one-step rule would never hear of later "
            "rewards; environments.play is for longer episodes"
        )
    # Compiled code cannot raise it.
    grads, rpe = rule.update(decision, jnp.where(ended, reward, jnp.nan))
    reward = reward.astype(rpe.dtype)
    return grads, Outcome(decision.action, reward, rpe, ended, decision.aux)
