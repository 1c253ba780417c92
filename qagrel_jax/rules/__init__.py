"""Learning rules, one a file; ``base`` holds what the one-step rules share."""

from qagrel_jax.rules import augment
from qagrel_jax.rules.agrel import agrel
from qagrel_jax.rules.backprop import backprop
from qagrel_jax.rules.base import Decision, Rule, one_step_rule
from qagrel_jax.rules.q_agrel import q_agrel, reward_prediction_error

__all__ = [
    "Decision",
    "Rule",
    "agrel",
    "augment",
    "backprop",
    "one_step_rule",
    "q_agrel",
    "reward_prediction_error",
]
