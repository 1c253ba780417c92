"""The one-step rules by name."""

import inspect
from typing import Any

from qagrel_jax import checks
from qagrel_jax.rules._agrel import agrel
from qagrel_jax.rules._backprop import backprop
from qagrel_jax.rules._broadcast import broadcast
from qagrel_jax.rules._node_perturbation import node_perturbation
from qagrel_jax.rules._q_agrel import q_agrel
from qagrel_jax.rules._reinforce import reinforce
from qagrel_jax.rules._relearnn import relearnn
from qagrel_jax.rules._stochastic_units import stochastic_units
from qagrel_jax.rules.base import Rule

RULES = {
    "q_agrel": q_agrel,
    "backprop": backprop,
    "agrel": agrel,
    "broadcast": broadcast,
    "node_perturbation": node_perturbation,
    "reinforce": reinforce,
    "stochastic_units": stochastic_units,
    "relearnn": relearnn,
}
"""What makes each one-step rule; those with a memory are in ``rules.memory``."""


def make_rule(name: str, **options: Any) -> Rule:
    """Look a one-step rule up by name.

    Args:
      name: a key of ``RULES``.
      **options: of that rule, such as ``policy`` or ``noise_sd``; see its own docstring.

    Returns:
      The rule. That of ``relearnn`` takes a ``Recurrent`` in place of ``forward``.

    Raises:
      ValueError: an unknown name, or an option out of range.
      TypeError: an option that the rule does not have, or a value of another type.

    >>> make_rule("node_perturbation", noise_sd=0.1).outcome
    'reward'
    """
    checks.option("rule", name, RULES)
    known = inspect.signature(RULES[name]).parameters
    for option in options:
        if option not in known:
            valid = ", ".join(known) or "none"
            raise TypeError(f"{name} has no option {option!r}; valid: {valid}")
    return RULES[name](**options)
