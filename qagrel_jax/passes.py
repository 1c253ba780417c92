"""How a Flax network is run in training, with random streams and collections that change.

A network may take ``train`` (Dropout, BatchNorm), draw from the streams "dropout" and "feedback",
and keep collections beside its parameters, such as BatchNorm's statistics.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import chex
import flax.linen as nn
import jax

from qagrel_jax import checks


def mode(network: nn.Module, train: bool) -> dict[str, Any]:
    """Return ``train`` as an argument of the network's, nothing where it takes none."""
    return {"train": train} if "train" in inspect.signature(network.__call__).parameters else {}


def check_mode(network: nn.Module) -> None:
    """Raise ``ValueError`` if the network has another name for ``train``: it would go unset."""
    parameters = inspect.signature(network.__call__).parameters
    for name in ("training", "is_training", "deterministic", "use_running_average"):
        if name in parameters and "train" not in parameters:
            raise ValueError(
                f"network must call the argument that is True in training train, got {name}: "
                "__call__(self, images, train)"
            )


def in_training(
    network: nn.Module, model_state: Mapping[str, Any], rngs: Mapping[str, chex.PRNGKey]
) -> Callable[[chex.ArrayTree, chex.Array], tuple[chex.Array, Any]]:
    """Return the network as a function ``(params, inputs) -> (outputs, changed collections)``.

    Args:
      network: maps inputs [batch, ...] to outputs [batch, actions].
      model_state: its collections beside the parameters.
      rngs: keys of the streams "dropout" and "feedback".
    """
    apply = functools.partial(
        network.apply, **mode(network, True), rngs=dict(rngs), mutable=list(model_state)
    )

    def forward(params: chex.ArrayTree, inputs: chex.Array) -> tuple[chex.Array, Any]:
        variables = {"params": params, **model_state}
        return checks.compiled("network", apply, variables, inputs)

    return forward


def changed(model_state: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the collections after a pass, in the dtypes they had before: Flax has the widest.

    Args:
      model_state: before.
      new: those that the pass changed.

    Raises:
      ValueError: a collection has other arrays than before.
    """
    return {**model_state, **{n: _as_before(n, value, model_state[n]) for n, value in new.items()}}


def _as_before(name: str, new: chex.ArrayTree, old: chex.ArrayTree) -> chex.ArrayTree:
    before, after = (jax.tree_util.tree_leaves_with_path(collection) for collection in (old, new))
    if [path for path, _ in before] != [path for path, _ in after]:
        raise ValueError(
            f"the network's collection {name!r} has other arrays after each pass, as where one "
            "sows into it: sow into 'intermediates', which training leaves out"
        )
    return jax.tree.map(lambda new, old: new.astype(old.dtype), new, old)
