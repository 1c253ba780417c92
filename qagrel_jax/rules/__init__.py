"""Learning rules, one a file; ``base`` holds what the one-step rules share.

One-step rules, which ``make_rule`` finds by name, are ``q_agrel``, ``agrel`` and ``relearnn``
(Q-AGREL at the fixed point of a recurrent network), the supervised control ``backprop``, and
controls that take something away: ``broadcast`` the attention feedback, ``node_perturbation`` and
``stochastic_units`` all structured feedback; ``reinforce`` learns a policy instead of values.

Rules with memory are modules with ``init`` and ``step``, in the table ``memory.RULES``:
``augment``, ``recollect`` and ``workmate``. ``augment_continuous`` is AuGMEnT in finer time steps,
a variant; ``synapses`` holds what they share.
"""

from qagrel_jax.rules import augment, augment_continuous, memory, recollect, synapses, workmate
from qagrel_jax.rules._agrel import agrel
from qagrel_jax.rules._backprop import backprop
from qagrel_jax.rules._broadcast import broadcast
from qagrel_jax.rules._node_perturbation import node_perturbation
from qagrel_jax.rules._q_agrel import amplified_prediction_error, q_agrel, reward_prediction_error
from qagrel_jax.rules._reinforce import reinforce
from qagrel_jax.rules._relearnn import Settled, converged, relearnn
from qagrel_jax.rules._stochastic_units import stochastic_units
from qagrel_jax.rules._table import RULES, make_rule
from qagrel_jax.rules.base import Decision, Rule, one_step_rule

__all__ = [
    "RULES",
    "Decision",
    "Rule",
    "Settled",
    "agrel",
    "amplified_prediction_error",
    "augment",
    "augment_continuous",
    "backprop",
    "broadcast",
    "converged",
    "make_rule",
    "memory",
    "node_perturbation",
    "one_step_rule",
    "q_agrel",
    "recollect",
    "reinforce",
    "relearnn",
    "reward_prediction_error",
    "stochastic_units",
    "synapses",
    "workmate",
]
