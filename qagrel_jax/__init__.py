"""qagrel_jax: deep learning the way a brain could do it, in pure JAX.

A network sees an input, chooses an action, gets a reward or none, and learns from that alone: one
global reward-prediction error, gated by attention feedback from the chosen unit.
"""

from qagrel_jax import policies, rules
from qagrel_jax.networks import make_network
from qagrel_jax.policies import (
    epsilon_greedy,
    greedy,
    make_policy,
    max_boltzmann,
    softmax,
)
from qagrel_jax.rules import agrel, augment, backprop, q_agrel

__version__ = "0.1.0"

__all__ = [
    "agrel",
    "augment",
    "backprop",
    "epsilon_greedy",
    "greedy",
    "make_network",
    "make_policy",
    "max_boltzmann",
    "policies",
    "q_agrel",
    "rules",
    "softmax",
]
