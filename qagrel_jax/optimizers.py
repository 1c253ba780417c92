"""Optimizers from optax, as learning rules use them."""

from __future__ import annotations

import re
from typing import Any

import chex
import optax

from qagrel_jax import checks


def checked(optimizer: Any) -> optax.GradientTransformation:
    """Return ``optimizer`` as what training calls; ``optax.MultiSteps`` becomes one.

    Raises:
      TypeError: it is no optimizer.
    """
    if isinstance(optimizer, optax.MultiSteps):
        optimizer = optimizer.gradient_transformation()
    checks.instance("optimizer", optimizer, optax.GradientTransformation, "optax.sgd(0.1) is one")
    return optimizer


def update(
    optimizer: optax.GradientTransformation,
    grads: chex.ArrayTree,
    state: optax.OptState,
    params: chex.ArrayTree,
    error: chex.Array,
) -> tuple[chex.ArrayTree, optax.OptState]:
    """Return the optimizer's updates and its next state.

    Args:
      optimizer: one that wants a ``value`` is given ``error``.
      grads: of a rule's ``update``.
      state: of the optimizer.
      params: the parameters.
      error: float[], the step's mean of δ² or of the loss.

    Raises:
      TypeError: the optimizer wants more.
    """
    told = optax.with_extra_args_support(optimizer).update
    try:
        return told(grads, state, params, value=error, grad=grads)
    except TypeError as refused:
        if not re.search(r"missing \d+ required .*argument", str(refused)):
            raise
        raise TypeError(
            "optimizer wants more than gradients and a value, which is all that a learning "
            f"rule has ({refused}): use another, or one without a line search"
        ) from refused
