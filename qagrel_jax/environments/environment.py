"""What answers actions: two pure functions and two sizes."""

from __future__ import annotations

import functools
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
    reset: Callable[..., tuple[Any, chex.Array]]
    # (key) -> (state, observation [inputs])
    step: Callable[..., tuple]
    # (key, state, action) -> (state, observation [inputs], reward [], terminated bool[],
    # truncated bool[])


def check(environment: Environment) -> None:
    """Check that ``environment`` is one: that its functions return what they must.

    Raises:
      ValueError: they do not.
      TypeError: it is none, a part of it is of another type, or cannot be compiled.
    """
    checks.instance("environment", environment, Environment, "from_gymnax gives one")
    checks.whole("environment.inputs", environment.inputs)
    checks.whole("environment.actions", environment.actions)
    checks.function("environment.reset", environment.reset, takes=("key",))
    checks.function("environment.step", environment.step, takes=("key", "state", "action"))
    begun = jax.eval_shape(
        functools.partial(checks.compiled, "environment.reset", environment.reset),
        jax.random.key(0),
    )
    if not (isinstance(begun, tuple) and len(begun) == 2):
        raise ValueError(
            f"environment.reset must return (state, observation), got {checks.shapes(begun)}"
        )
    state, observation = begun
    _check_observation("reset", observation, environment.inputs)
    action = jax.ShapeDtypeStruct((), jnp.int32)
    after = jax.eval_shape(
        functools.partial(checks.compiled, "environment.step", environment.step),
        jax.random.key(0),
        state,
        action,
    )
    if not (isinstance(after, tuple) and len(after) == 5):
        raise ValueError(
            "environment.step must return (state, observation, reward, terminated, truncated), got "
            f"{checks.shapes(after)}"
        )
    _, observation, reward, *flags = after
    _check_observation("step", observation, environment.inputs)
    if not checks.is_one(reward, jnp.number, jnp.bool_):
        raise ValueError(
            f"environment.step must return a reward that is one number, got {checks.shapes(reward)}"
        )
    for name, flag in zip(("terminated", "truncated"), flags, strict=True):
        if not checks.is_one(flag, jnp.bool_):
            raise ValueError(
                f"environment.step must return {name} as one truth value, got {checks.shapes(flag)}"
            )
    kinds = [jax.tree.map(lambda x: (x.shape, x.dtype), s) for s in (state, after[0])]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"environment.step must return a state like that of reset, {checks.shapes(state)}, got "
            f"{checks.shapes(after[0])}"
        )


def _check_observation(function: str, observation: Any, inputs: int) -> None:
    if getattr(observation, "shape", None) != (inputs,):
        raise ValueError(
            f"environment.{function} must return an observation [{inputs}], got "
            f"{checks.shapes(observation)}"
        )
