"""Environments of gymnax (Lange 2022). It is imported nowhere but in ``mnist_bandit``."""

import math
from typing import Any

import chex
import jax.nn as nn
import jax.numpy as jnp
import numpy as np

from qagrel_jax import checks
from qagrel_jax.environments.environment import Environment

_INSTALL = "pip install 'qagrel_jax[gymnax]'"


def from_gymnax(environment: Any, params: Any = None, on_off: bool = False) -> Environment:
    """Make an ``Environment`` of a gymnax environment with a discrete set of actions.

    AuGMEnT's memory adds up changes of its inputs. An input that goes from 0 to 1 and back leaves
    the same trace as one that goes from 0 to −1 and back, so signs cannot be remembered. ``on_off``
    gives each sign an input of its own, as ON and OFF cells do.

    Args:
      environment: with gymnax's functional API: ``reset(key, params)``, and ``step(key, state,
        action, params)`` that returns (observation, state, reward, terminated, truncated, info),
        the observation an episode ended with in ``info["final_observation"]``.
      params: of the environment; None for its ``default_params``.
      on_off: make two inputs of each number x of the observation, max(x, 0) and max(−x, 0).

    Returns:
      The ``Environment``. The observation that ends an episode is its own last one; gymnax's state
      is by then that of a new episode.

    Raises:
      ValueError: actions are not a discrete set, or ``step`` is that of gymnax before 1.0.
      TypeError: ``environment`` lacks a part of gymnax's API; ``on_off`` is not True or False.
    """
    for part in ("default_params", "action_space", "observation_space", "reset", "step"):
        if not hasattr(environment, part):
            raise TypeError(
                f"environment must be one of gymnax's, got {environment!r} without {part}"
            )
    checks.flag("on_off", on_off)
    params = environment.default_params if params is None else params
    actions = getattr(environment.action_space(params), "n", None)
    if actions is None:
        raise ValueError(f"{environment.name} has no discrete set of actions to choose from")
    inputs = math.prod(environment.observation_space(params).shape) * (2 if on_off else 1)

    def seen(observation: Any) -> chex.Array:
        flat = jnp.asarray(observation, jnp.float32).reshape(-1)
        return jnp.concatenate([nn.relu(flat), nn.relu(-flat)]) if on_off else flat

    def reset(key: chex.PRNGKey) -> tuple[Any, chex.Array]:
        observation, state = environment.reset(key, params)
        return state, seen(observation)

    def step(key: chex.PRNGKey, state: Any, action: chex.Array) -> tuple:
        answer = environment.step(key, state, action, params)
        if len(answer) != 6 or "final_observation" not in answer[-1]:
            raise ValueError(
                f"the step of {environment.name} does not tell terminated from truncated: it needs "
                "gymnax 1.0 or later"
            )
        _, state, reward, terminated, truncated, info = answer
        reward = jnp.asarray(reward, jnp.float32)
        return state, seen(info["final_observation"]), reward, terminated, truncated

    return Environment(inputs, int(actions), reset, step)


def mnist_bandit(images: Any, labels: Any) -> Any:
    """Make gymnax's ``MNISTBandit-bsuite`` of images at hand; its own downloads MNIST.

    Args:
      images: uint8[count, height, width] or [count, height, width, 1], from 0 to 255.
      labels: int[count], from 0 to 9.

    Returns:
      The gymnax environment, for ``from_gymnax``.

    Raises:
      ImportError: gymnax is not installed.
      ValueError: shapes, pixels or labels that do not fit.
      TypeError: images that are no numbers, labels that are no whole numbers.
    """
    try:
        from gymnax.environments.bsuite.mnist import MNISTBandit
    except ImportError:
        raise ImportError(f"mnist_bandit needs gymnax: {_INSTALL}") from None
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    if images.ndim != 3 or labels.shape != images.shape[:1] or not len(labels):
        raise ValueError(
            "images must be [count, height, width] with a label each, got shapes "
            f"{images.shape} and {labels.shape}"
        )
    checks.labels("label", labels, 10)
    checks.finite("images", images)
    if images.min() < 0 or images.max() > 255:
        raise ValueError(f"images must be 0 to 255, got {images.min()} to {images.max()}")

    class AtHand(MNISTBandit):
        def __init__(self) -> None:  # not super's, which downloads
            self.num_data, self.image_shape = len(labels), images.shape[1:]
            self.images, self.labels = jnp.asarray(images), jnp.asarray(labels, jnp.int32)

    return AtHand()
