"""Action selection: from Q values to one action, for one example.

Every policy is *defined* by its exact action probabilities, and acting is a draw from them, so the
two can never disagree. All functions are pure, take one example (``jax.vmap`` them over a batch)
and split ties evenly: two equally good actions are equally likely.

=================  ====================================================================
``greedy``         the best action
``epsilon_greedy`` the best action; with probability ε a uniformly random one
``softmax``        action a with probability exp(q_a/T) / Σ_b exp(q_b/T)  (Boltzmann)
``max_boltzmann``  the best action; with probability ε a draw from ``softmax``
=================  ====================================================================

**Masks.** Q = −∞ marks an action that is not allowed: no policy chooses it, and "any action" means
any of the others. Where none is left, or a Q value is NaN or +∞, there is nothing to choose: a
``ValueError``, as are parameters out of range. Compiled code cannot raise it: there the
probabilities are NaN and the action is −1, which is never right, a rule's error is NaN, and
JAX_DEBUG_NANS=1 stops the program.

Whatever the dtype of the Q values, choices are made in float32 or wider.

``max_boltzmann`` is the policy of AuGMEnT (Rombouts, Bohte & Roelfsema 2015) and of Q-AGREL (Pozzi,
Bohté & Roelfsema 2018).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np

from qagrel_jax import checks

Policy = Callable[[chex.PRNGKey, chex.Array], chex.Array]
"""``(key, q_values [actions]) -> action []``: how an agent picks one action for one example."""


def greedy_probabilities(q_values: chex.Array) -> chex.Array:
    """Probability of each action under ``greedy``: 1/n for the n best actions, 0 for the others.

    Args:
      q_values: float[actions]; −∞ where an action is not allowed.

    Returns:
      float[actions], summing to 1.

    Raises:
      ValueError: no action is allowed, or a Q value is NaN or +∞.

    >>> import jax.numpy as jnp
    >>> greedy_probabilities(jnp.array([2.0, 1.0, 2.0])).tolist()
    [0.5, 0.0, 0.5]
    """
    q_values = _checked(q_values)
    # Said outright: compiled, a maximum passes over NaN and 0/0 of truth values is 0.
    return jnp.where(nothing_to_choose(q_values), jnp.nan, _greedy(q_values))


def epsilon_greedy_probabilities(q_values: chex.Array, epsilon: chex.Numeric = 0.02) -> chex.Array:
    """Probability of each action under ``epsilon_greedy``: (1 − ε)·greedy + ε/n.

    Args:
      q_values: float[actions], n of them allowed; −∞ where an action is not.
      epsilon: probability of a uniformly random action, in [0, 1].

    Returns:
      float[actions], summing to 1.

    Raises:
      ValueError: ``epsilon`` outside [0, 1], or Q values as in ``greedy_probabilities``.
      TypeError: ``epsilon`` is no number.

    >>> import jax.numpy as jnp
    >>> epsilon_greedy_probabilities(jnp.array([1.0, 0.0, -jnp.inf]), epsilon=0.5).tolist()
    [0.75, 0.25, 0.0]
    """
    _check_epsilon(epsilon)
    q_values = _checked(q_values)
    allowed = _allowed(q_values).astype(q_values.dtype)
    best = (1 - epsilon) * greedy_probabilities(q_values)
    return _valid(best + epsilon * allowed / allowed.sum(), epsilon=epsilon)


def softmax_probabilities(q_values: chex.Array, temperature: chex.Numeric = 1.0) -> chex.Array:
    """Probability of each action under ``softmax``: exp(q_a/T) / Σ_b exp(q_b/T).

    Args:
      q_values: float[actions]; −∞ where an action is not allowed.
      temperature: T > 0, in units of Q.

    Returns:
      float[actions], summing to 1.

    Raises:
      ValueError: ``temperature`` not positive, or Q values as in ``greedy_probabilities``.
      TypeError: ``temperature`` is no number.
    """
    _check_temperature(temperature)
    return _valid(_softmax(_checked(q_values), temperature), temperature=temperature)


def max_boltzmann_probabilities(
    q_values: chex.Array, epsilon: chex.Numeric = 0.02, temperature: chex.Numeric = 1.0
) -> chex.Array:
    """Probability of each action under ``max_boltzmann``: (1 − ε)·greedy + ε·softmax.

    Args:
      q_values: float[actions]; −∞ where an action is not allowed.
      epsilon: probability of a draw from ``softmax`` (which may again be the best action).
      temperature: T > 0 of that draw.

    Returns:
      float[actions], summing to 1.

    Raises:
      ValueError: ``epsilon`` outside [0, 1] or ``temperature`` not positive, or Q values as in
        ``greedy_probabilities``.
      TypeError: one of the two is no number.
    """
    _check_epsilon(epsilon)
    _check_temperature(temperature)
    q_values = _checked(q_values)
    exploration = _softmax(q_values, temperature)
    probabilities = (1 - epsilon) * _greedy(q_values) + epsilon * exploration
    return _valid(probabilities, epsilon, temperature)


def greedy(key: chex.PRNGKey, q_values: chex.Array) -> chex.Array:
    """Pick the best action; ``key`` only breaks ties.

    Args:
      key: a random key.
      q_values: float[actions].

    Returns:
      int32[], the action's index.

    Raises:
      ValueError: Q values as in ``greedy_probabilities``.

    >>> import jax, jax.numpy as jnp
    >>> int(greedy(jax.random.key(0), jnp.array([0.1, 0.9, 0.3])))
    1
    """
    return _draw(key, greedy_probabilities(q_values))


def epsilon_greedy(
    key: chex.PRNGKey, q_values: chex.Array, epsilon: chex.Numeric = 0.02
) -> chex.Array:
    """Pick the best action; with probability ε pick any action, all equally likely.

        P(a) = (1 − ε) · greedy(a) + ε/n.

    Args:
      key: a random key.
      q_values: float[actions].
      epsilon: ε in [0, 1].

    Returns:
      int32[], the action's index.

    Raises:
      ValueError: ``epsilon`` outside [0, 1].

    >>> import jax, jax.numpy as jnp
    >>> int(epsilon_greedy(jax.random.key(0), jnp.array([0.1, 0.9, 0.3]), epsilon=0.0))
    1
    """
    return _draw(key, epsilon_greedy_probabilities(q_values, epsilon))


def softmax(key: chex.PRNGKey, q_values: chex.Array, temperature: chex.Numeric = 1.0) -> chex.Array:
    """Draw an action from the Boltzmann distribution.

        P(a) = exp(q_a/T) / Σ_b exp(q_b/T).

    Args:
      key: a random key.
      q_values: float[actions].
      temperature: T > 0, in units of Q.

    Returns:
      int32[], the action's index.

    Raises:
      ValueError: ``temperature`` not positive.

    >>> import jax, jax.numpy as jnp
    >>> int(softmax(jax.random.key(0), jnp.array([0.1, 0.9, 0.3]), temperature=0.01))
    1
    """
    return _draw(key, softmax_probabilities(q_values, temperature))


def max_boltzmann(
    key: chex.PRNGKey,
    q_values: chex.Array,
    epsilon: chex.Numeric = 0.02,
    temperature: chex.Numeric = 1.0,
) -> chex.Array:
    """Pick the best action; with probability ε draw one from the Boltzmann distribution.

        P(a) = (1 − ε) · greedy(a) + ε · exp(q_a/T) / Σ_b exp(q_b/T).

    Args:
      key: a random key.
      q_values: float[actions].
      epsilon: ε in [0, 1]; the draw may again be the best action.
      temperature: T > 0 of that draw, in units of Q.

    Returns:
      int32[], the action's index.

    Raises:
      ValueError: ``epsilon`` outside [0, 1] or ``temperature`` not positive.

    >>> import jax, jax.numpy as jnp
    >>> int(max_boltzmann(jax.random.key(0), jnp.array([0.1, 0.9, 0.3]), epsilon=0.0))
    1
    """
    return _draw(key, max_boltzmann_probabilities(q_values, epsilon, temperature))


POLICIES: dict[str, tuple[Policy, tuple[str, ...]]] = {
    "greedy": (greedy, ()),
    "epsilon_greedy": (epsilon_greedy, ("epsilon",)),
    "softmax": (softmax, ("temperature",)),
    "max_boltzmann": (max_boltzmann, ("epsilon", "temperature")),
}
"""Every policy by name, with the parameters it takes."""


def make_policy(
    name: str, *, epsilon: chex.Numeric = 0.02, temperature: chex.Numeric = 1.0
) -> Policy:
    """Look a policy up by name and fix its parameters; those it does not take are ignored.

    Args:
      name: a key of ``POLICIES``.
      epsilon: probability of exploring, in [0, 1].
      temperature: softmax temperature, > 0.

    Returns:
      ``(key, q_values) -> action``. Within a compiled function both numbers may be traced, for a
      schedule: ``q_agrel(make_policy("max_boltzmann", epsilon=schedule(step)))``. Out of range they
      leave nothing to choose, and the reward-prediction error is NaN.

    Raises:
      ValueError: an unknown name, or a parameter out of range.
      TypeError: a name or a parameter of another type.

    >>> policy = make_policy("epsilon_greedy", epsilon=0.1)
    """
    checks.option("policy", name, POLICIES)
    _check_epsilon(epsilon)
    _check_temperature(temperature)
    function, parameters = POLICIES[name]
    given = {"epsilon": epsilon, "temperature": temperature}
    return functools.partial(function, **{p: given[p] for p in parameters})


def at_least_float32(values: chex.Array) -> chex.Array:
    """Return ``values`` in float32, or in their own dtype if that is wider."""
    values = jnp.asarray(values)
    wide = jnp.issubdtype(values.dtype, jnp.floating) and jnp.finfo(values.dtype).bits > 32
    return values if wide else values.astype(jnp.float32)


def nothing_to_choose(q_values: chex.Array) -> chex.Array:
    """Say of each row whether a Q value is NaN or +∞, or no action is allowed.

    Args:
      q_values: float[..., actions].

    Returns:
      bool[...].

    >>> import jax.numpy as jnp
    >>> nothing_to_choose(jnp.array([[1.0, jnp.nan], [1.0, -jnp.inf]])).tolist()
    [True, False]
    """
    wrong = jnp.isnan(q_values) | jnp.isposinf(q_values)
    return wrong.any(-1) | ~_allowed(q_values).any(-1)


def none_chosen(action: chex.Array, actions: int) -> chex.Array:
    """Say of each ``action`` whether it is none of the ``actions``, as −1 is.

    >>> import jax.numpy as jnp
    >>> none_chosen(jnp.array([-1, 0, 2]), 2).tolist()
    [True, False, True]
    """
    return (action < 0) | (action >= actions)


def check_q_values(q_values: chex.Array) -> None:
    """Check that each row of Q values leaves something to choose, where they are known.

    Args:
      q_values: float[..., actions].

    Raises:
      ValueError: no actions, a NaN or +∞, or a row that is all −∞.
    """
    if not q_values.shape[-1]:
        raise ValueError(f"there must be at least one action, got shape {q_values.shape}")
    if not checks.known(q_values):
        return
    values = np.asarray(q_values)
    if np.isnan(values).any() or np.isposinf(values).any():
        raise ValueError("Q values must be numbers, or −inf where masked, got nan or +inf")
    if np.isneginf(values).all(-1).any():
        raise ValueError("every action is masked: at least one Q value must not be −inf")


def _checked(q_values: chex.Array) -> chex.Array:
    q_values = at_least_float32(q_values)
    checks.shape("q_values", q_values, "actions")
    check_q_values(q_values)
    return q_values


def _softmax(q_values: chex.Array, temperature: chex.Numeric) -> chex.Array:
    # Of differences, and within the normal numbers: q/T overflows where T is tiny, and compiled
    # code divides by multiplying with 1/T, which is 0 where T is huge.
    tiny = float(jnp.finfo(q_values.dtype).tiny)
    clip = np.clip if checks.known(temperature) else jnp.clip
    return jax.nn.softmax((q_values - q_values.max()) / clip(temperature, tiny, 0.25 / tiny))


def _allowed(q_values: chex.Array) -> chex.Array:
    return q_values > -jnp.inf


def _valid(
    probabilities: chex.Array, epsilon: chex.Numeric = 0.0, temperature: chex.Numeric = 1.0
) -> chex.Array:
    """Return NaN where a traced parameter, of which no check knows the value, is out of range."""
    if not checks.known(epsilon):
        probabilities = jnp.where((epsilon >= 0) & (epsilon <= 1), probabilities, jnp.nan)
    if not checks.known(temperature):
        probabilities = jnp.where(temperature > 0, probabilities, jnp.nan)
    return probabilities


def _greedy(q_values: chex.Array) -> chex.Array:
    best = ((q_values == q_values.max()) & _allowed(q_values)).astype(q_values.dtype)
    return best / best.sum()


def _draw(key: chex.PRNGKey, probabilities: chex.Array) -> chex.Array:
    action = jax.random.categorical(key, jnp.log(probabilities)).astype(jnp.int32)
    return jnp.where(jnp.isnan(probabilities).any(), -1, action)


def _check_epsilon(epsilon: chex.Numeric) -> None:
    checks.number("epsilon", epsilon, 0, 1)


def _check_temperature(temperature: chex.Numeric) -> None:
    checks.number("temperature", temperature, 0, above=True)
