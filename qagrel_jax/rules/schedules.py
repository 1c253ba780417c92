"""Rules that change with time: exploration that falls, as a learning rate does.

Where a rule is asked for, training also takes a function of the step that returns one:

>>> import optax
>>> from qagrel_jax import make_policy, q_agrel
>>> epsilon = optax.linear_schedule(0.5, 0.02, 1000)
>>> def rule(step):
...     return q_agrel(make_policy("epsilon_greedy", epsilon=epsilon(step)))
>>> at_step(rule, jnp.int32(0)).name
'q_agrel'
"""

from __future__ import annotations

from collections.abc import Callable

import chex
import jax.numpy as jnp

from qagrel_jax import checks
from qagrel_jax.rules._table import RULES
from qagrel_jax.rules.base import Rule

RuleOfStep = Callable[[chex.Array], Rule]
"""``(step int32[], from 0) -> Rule``, of one name whatever the step. It is compiled."""


def at_step(rule: Rule | RuleOfStep, step: chex.Array) -> Rule:
    """Return the rule of a step, int32[]."""
    return rule if isinstance(rule, Rule) else rule(step)


def first(rule: Rule | RuleOfStep) -> Rule:
    """Return the rule of the first step, which says what is the same for all.

    Raises:
      TypeError: ``rule`` is neither a rule nor a function of the step that returns one.
    """
    where = "q_agrel() gives one"
    if not callable(rule) or rule in RULES.values():
        checks.instance("rule", rule, Rule, where)
    if not isinstance(rule, Rule):
        checks.function("rule", rule, where, takes=("step",))
    at_first = at_step(rule, jnp.int32(0))
    checks.instance("what rule returns for a step", at_first, Rule, where)
    return at_first
