"""Image classification as a direct-reward task: name the image, get a reward or none.

One step a trial: an image is shown, the network chooses one of n actions, and is rewarded if the
action is the image's class. The label stays with the task; only the reward leaves it.
"""

from __future__ import annotations

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from qagrel_jax import checks


def correct(labels: chex.Array, actions: chex.Array) -> chex.Array:
    """Say which choices are the class of the image.

    Args:
      labels: int[batch], what is shown.
      actions: int[batch], what was chosen.

    Returns:
      bool[batch].

    >>> import jax.numpy as jnp
    >>> correct(jnp.array([3, 1]), jnp.array([3, 2])).tolist()
    [True, False]
    """
    checks.shape("actions", actions, *jnp.shape(labels))
    return labels == actions


def reward(key: chex.PRNGKey, labels: chex.Array, actions: chex.Array) -> chex.Array:
    """Reward each correct choice with 1, any other with 0.

    Args:
      key: unused; rewards of other tasks may be drawn.
      labels: int[batch], what is shown.
      actions: int[batch], what was chosen.

    Returns:
      float32[batch].

    >>> import jax, jax.numpy as jnp
    >>> reward(jax.random.key(0), jnp.array([3, 1]), jnp.array([3, 2])).tolist()
    [1.0, 0.0]
    """
    del key
    return correct(labels, actions).astype(jnp.float32)


def make_reward(
    right: float = 1.0, wrong: float = 0.0
) -> Callable[[chex.PRNGKey, chex.Array, chex.Array], chex.Array]:
    """Make a ``reward`` that gives ``right`` for each correct choice and ``wrong`` for any other.

    Args:
      right: the reward of a correct choice.
      wrong: of any other.

    Returns:
      A function with the arguments and the value of ``reward``.

    Raises:
      ValueError: a reward that is not finite.
      TypeError: one that is no number.

    >>> import jax, jax.numpy as jnp
    >>> make_reward(1.0, -1.0)(jax.random.key(0), jnp.array([3, 1]), jnp.array([3, 2])).tolist()
    [1.0, -1.0]
    """
    checks.number("right", right)
    checks.number("wrong", wrong)

    def scaled(key: chex.PRNGKey, labels: chex.Array, actions: chex.Array) -> chex.Array:
        return wrong + (right - wrong) * reward(key, labels, actions)

    return scaled


def shuffled_reward(key: chex.PRNGKey, labels: chex.Array, actions: chex.Array) -> chex.Array:
    """Give each choice the reward of another: as many rewards in the batch, none of them earned.

    All move on by the same random number of places, so that no choice keeps its own. A control:
    nothing can be learned from it. Arguments and value as in ``reward``.

    Raises:
      ValueError: a batch of one, which has no other.
    """
    batch = labels.shape[0]
    if batch < 2:
        raise ValueError(f"rewards of a batch of {batch} cannot be shuffled")
    places = jax.random.randint(key, (), 1, batch)
    return jnp.roll(reward(key, labels, actions), places)


def constant_reward(key: chex.PRNGKey, labels: chex.Array, actions: chex.Array) -> chex.Array:
    """Reward every choice with 1: attention still gates learning, but the reward says nothing.

    A control. Arguments and value as in ``reward``.
    """
    return jnp.ones_like(reward(key, labels, actions))


def normalize(images: chex.Array) -> chex.Array:
    """Scale uint8 pixels to float32 in [0, 1], as the papers do: divide by 255.

    Args:
      images: uint8[batch, height, width, channels]; floats stay as they are.

    Returns:
      Of the same shape, float32 or the dtype of the floats.

    >>> normalize(jnp.array([0, 255], jnp.uint8)).tolist(), normalize(jnp.array([0.5])).tolist()
    ([0.0, 1.0], [0.5])
    """
    if jnp.issubdtype(images.dtype, jnp.floating):
        return jnp.asarray(images)
    checks.pixels("images", images)
    return images.astype(jnp.float32) / 255
