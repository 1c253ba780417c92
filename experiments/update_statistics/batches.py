"""Batches that are drawn, and the network and the policy as they are in training."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from experiments.config import Config
from experiments.update_statistics.stages import Problem
from qagrel_jax import policies, training
from qagrel_jax.networks import make_network
from qagrel_jax.tasks import classification
from qagrel_jax.update_statistics import Moments

DETERMINISTIC = ("dense",)
"""Architectures without BatchNorm and dropout."""


def forward_of(config: Config, problem: Problem, feedback: str) -> Callable:
    """Return ``(state, key) -> forward`` of the network as it is in training."""
    options = {} if config.hidden is None else {"hidden": config.hidden}
    network = make_network(
        config.architecture,
        problem.dataset.num_classes,
        feedback=feedback,
        initialization=config.initialization,
        feedback_init=config.feedback_init,
        feedback_scale=1.0 if feedback == "tied" else config.feedback_scale,
        **options,
    )

    def make(state: training.TrainState, key: Any) -> Callable:
        fixed = state.model_state

        def forward(params: Any, inputs: Any) -> Any:
            variables = {"params": params, **fixed}
            if config.architecture in DETERMINISTIC:
                return network.apply(variables, inputs)
            rngs = {"dropout": key}
            return network.apply(variables, inputs, train=True, rngs=rngs, mutable=list(fixed))[0]

        return forward

    return make


def draw(key: Any, images: Any, labels: Any, batch_size: int) -> tuple[Any, Any, Any]:
    """Draw a batch: inputs, labels and the key of dropout."""
    rows_key, dropout_key = jax.random.split(key)
    rows = jax.random.randint(rows_key, (batch_size,), 0, len(labels))
    return classification.normalize(images[rows]), labels[rows], dropout_key


def policy_probabilities(config: Config) -> Callable:
    """Return the exact probabilities of the configuration's policy."""
    function = getattr(policies, f"{config.policy}_probabilities")
    given = {"epsilon": config.epsilon, "temperature": config.temperature}
    taken = {name: given[name] for name in policies.POLICIES[config.policy][1]}
    return functools.partial(function, **taken)


def stack(each: list[Moments]) -> Moments:
    """Stack groups of batches along a new first axis."""
    return jax.tree.map(lambda *arrays: jnp.stack(arrays), *each)
