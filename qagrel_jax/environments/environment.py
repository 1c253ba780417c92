"""What answers actions: two pure functions and two sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from qagrel_jax import checks


class Environment(NamedTuple):
    """What answers actions; see ``qagrel_jax.environments``."""

    inputs: int  # numbers in an observation
    actions: int  # number of actions
    reset: Callable[..., tuple[Any, chex.Array]]  # (key) -> (state, observation)
    step: Callable[..., tuple]
    # (key, state, action) -> (state, observation, reward, terminated, truncated)


def check(environment: Environment) -> None:
    """Check that ``environment`` is one: that its functions return what they must.

    Raises:
      ValueError: they do not.
      TypeError: it is none, or a part of it is of another type.
    """
    checks.instance("environment", environment, Environment, "from_gymnax gives one")
    checks.whole("environment.inputs", environment.inputs)
    checks.whole("environment.actions", environment.actions)
    checks.function("environment.reset", environment.reset, takes=("key",))
    checks.function("environment.step", environment.step, takes=("key", "state", "action"))
    begun = jax.eval_shape(environment.reset, jax.random.key(0))
    if not (isinstance(begun, tuple) and len(begun) == 2):
        raise ValueError(f"environment.reset must return (state, observation), got {_told(begun)}")
    state, observation = begun
    if getattr(observation, "size", None) != environment.inputs:
        raise ValueError(
            "environment.reset must return (state, observation), the latter of "
            f"{environment.inputs} numbers, got {_told(observation)}"
        )
    action = jax.ShapeDtypeStruct((), jnp.int32)
    after = jax.eval_shape(environment.step, jax.random.key(0), state, action)
    if not (isinstance(after, tuple) and len(after) == 5):
        raise ValueError(
            "environment.step must return (state, observation, reward, terminated, truncated), got "
            f"{_told(after)}"
        )
    kinds = [jax.tree.map(lambda x: (x.shape, x.dtype), s) for s in (state, after[0])]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"environment.step must return a state like that of reset, {_told(state)}, got "
            f"{_told(after[0])}"
        )


def _told(shapes: Any) -> str:
    return str(jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}", shapes))
