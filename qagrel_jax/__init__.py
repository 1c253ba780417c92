"""qagrel_jax: deep learning the way a brain could do it, in pure JAX.

A network sees an input, chooses an action, gets a reward or none, and learns from that alone: one
global reward-prediction error, gated by attention feedback from the chosen unit::

    rule = qagrel_jax.q_agrel()
    decision = rule.act(key, forward, params, inputs)  # forward(params, inputs): [batch, actions]
    grads, rpe = rule.update(decision, reward)  # grads: for any optax optimizer

What is where::

    rules, policies         what learns, and what chooses
    layers, networks        feedback pathways, and the papers' networks
    training, curriculum    epochs, seeds and early stopping; few classes at first
    environments            your own task, for Q-AGREL and for AuGMEnT
    tasks, population       the papers' tasks; many memory networks at once
    attention, analysis     feedback at each unit; angles, the tangent kernel
    update_statistics       bias and variance of one update
    data, weights, plain    image sets; networks as files; states as plain arrays
    recurrent, sharding     RELEARNN's network; several devices
"""

import importlib
from typing import Any

from qagrel_jax import (
    analysis,
    attention,
    curriculum,
    data,
    environments,
    fields,
    layers,
    networks,
    plain,
    policies,
    population,
    random_keys,
    recurrent,
    rules,
    sharding,
    tasks,
    training,
    update_statistics,
    weights,
)
from qagrel_jax.attention import attend
from qagrel_jax.layers import Conv, Dense, LocallyConnected
from qagrel_jax.networks import make_network
from qagrel_jax.policies import (
    epsilon_greedy,
    greedy,
    make_policy,
    max_boltzmann,
    softmax,
)
from qagrel_jax.rules import (
    agrel,
    augment,
    backprop,
    make_rule,
    q_agrel,
    recollect,
    relearnn,
    workmate,
)
from qagrel_jax.tasks import make_task
from qagrel_jax.training import make_trainer
from qagrel_jax.weights import load_network

__version__ = "0.1.0"

__all__ = [
    "Conv",
    "Dense",
    "LocallyConnected",
    "agrel",
    "analysis",
    "attend",
    "attention",
    "augment",
    "backprop",
    "curriculum",
    "data",
    "environments",
    "epsilon_greedy",
    "greedy",
    "layers",
    "load_network",
    "make_network",
    "make_policy",
    "make_rule",
    "make_task",
    "make_trainer",
    "max_boltzmann",
    "networks",
    "plain",
    "policies",
    "population",
    "q_agrel",
    "random_keys",
    "recollect",
    "recurrent",
    "relearnn",
    "rules",
    "sharding",
    "softmax",
    "tasks",
    "training",
    "update_statistics",
    "weights",
    "workmate",
]

_MOVED = {
    "array_cache": "data.cache",
    "convolution": "layers.convolution",
    "fitting": "training.fitting",
    "interception": "layers.interception",
    "interchange": "weights.files",
    "keras_weights": "weights.keras",
    "packing": "population.packing",
    "precision": "layers.precision",
    "recording": "population.recording",
    "streaming": "data.streaming",
}
"""Modules by the names they once had here."""


fields.document(__name__)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _MOVED:
        return importlib.import_module(f"qagrel_jax.{_MOVED[name]}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
