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

``max_boltzmann`` is the policy of AuGMEnT (Rombouts, Bohte & Roelfsema 2015) and of Q-AGREL (Pozzi,
Bohté & Roelfsema 2018).
"""

import functools
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

Policy = Callable[[chex.PRNGKey, chex.Array], chex.Array]
"""``(key, q_values [actions]) -> action []``: how an agent picks one action for one example."""


def greedy_probabilities(q_values: chex.Array) -> chex.Array:
    """Probability of each action under ``greedy``: 1/n for the n best actions, 0 for the others.

    Args:
      q_values: float[actions].

    Returns:
      float[actions], summing to 1.
    """
    chex.assert_rank(q_values, 1)
    best = (q_values == q_values.max()).astype(q_values.dtype)
    return best / best.sum()


def epsilon_greedy_probabilities(q_values: chex.Array, epsilon: float = 0.02) -> chex.Array:
    """Probability of each action under ``epsilon_greedy``: (1 − ε)·greedy + ε/n.

    Args:
      q_values: float[actions].
      epsilon: probability of a uniformly random action, in [0, 1].

    Returns:
      float[actions], summing to 1.

    Raises:
      ValueError: ``epsilon`` outside [0, 1].
    """
    _check_epsilon(epsilon)
    return (1 - epsilon) * greedy_probabilities(q_values) + epsilon / q_values.shape[0]


def softmax_probabilities(q_values: chex.Array, temperature: float = 1.0) -> chex.Array:
    """Probability of each action under ``softmax``: exp(q_a/T) / Σ_b exp(q_b/T).

    Args:
      q_values: float[actions].
      temperature: T > 0, in units of Q.

    Returns:
      float[actions], summing to 1.

    Raises:
      ValueError: ``temperature`` not positive.
    """
    chex.assert_rank(q_values, 1)
    _check_temperature(temperature)
    return jax.nn.softmax(q_values / temperature)


def max_boltzmann_probabilities(
    q_values: chex.Array, epsilon: float = 0.02, temperature: float = 1.0
) -> chex.Array:
    """Probability of each action under ``max_boltzmann``: (1 − ε)·greedy + ε·softmax.

    Args:
      q_values: float[actions].
      epsilon: probability of a draw from ``softmax`` (which may again be the best action).
      temperature: T > 0 of that draw.

    Returns:
      float[actions], summing to 1.

    Raises:
      ValueError: ``epsilon`` outside [0, 1] or ``temperature`` not positive.
    """
    _check_epsilon(epsilon)
    exploration = softmax_probabilities(q_values, temperature)
    return (1 - epsilon) * greedy_probabilities(q_values) + epsilon * exploration


def greedy(key: chex.PRNGKey, q_values: chex.Array) -> chex.Array:
    """Pick the best action; ``key`` only breaks ties.

    Args:
      key: a random key.
      q_values: float[actions].

    Returns:
      int32[], the action's index.

    >>> import jax, jax.numpy as jnp
    >>> int(greedy(jax.random.key(0), jnp.array([0.1, 0.9, 0.3])))
    1
    """
    return _draw(key, greedy_probabilities(q_values))


def epsilon_greedy(key: chex.PRNGKey, q_values: chex.Array, epsilon: float = 0.02) -> chex.Array:
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


def softmax(key: chex.PRNGKey, q_values: chex.Array, temperature: float = 1.0) -> chex.Array:
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
    key: chex.PRNGKey, q_values: chex.Array, epsilon: float = 0.02, temperature: float = 1.0
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


def make_policy(name: str, *, epsilon: float = 0.02, temperature: float = 1.0) -> Policy:
    """Look a policy up by name and fix its parameters; those it does not take are ignored.

    Args:
      name: a key of ``POLICIES``.
      epsilon: probability of exploring, in [0, 1].
      temperature: softmax temperature, > 0.

    Returns:
      ``(key, q_values) -> action``.

    Raises:
      ValueError: an unknown name, or a parameter out of range.

    >>> policy = make_policy("epsilon_greedy", epsilon=0.1)
    """
    if name not in POLICIES:
        raise ValueError(f"unknown policy {name!r}; valid: {', '.join(POLICIES)}")
    _check_epsilon(epsilon)
    _check_temperature(temperature)
    function, parameters = POLICIES[name]
    given = {"epsilon": epsilon, "temperature": temperature}
    return functools.partial(function, **{p: given[p] for p in parameters})


def _draw(key: chex.PRNGKey, probabilities: chex.Array) -> chex.Array:
    return jax.random.categorical(key, jnp.log(probabilities)).astype(jnp.int32)


def _check_epsilon(epsilon: float) -> None:
    # A traced value (an exploration schedule) cannot be looked at here.
    if not isinstance(epsilon, jax.core.Tracer) and not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon must be in [0, 1], got {epsilon}")


def _check_temperature(temperature: float) -> None:
    if not isinstance(temperature, jax.core.Tracer) and not 0 < temperature < float("inf"):
        raise ValueError(f"temperature must be positive and finite, got {temperature}")
