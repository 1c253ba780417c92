"""Image classification as a direct-reward task: name the image, get a reward or none.

One step a trial: an image is shown, the network chooses one of n actions, and is rewarded if the
action is the image's class. The label stays with the task; only the reward leaves it.
"""

import chex
import jax.numpy as jnp


def reward(key: chex.PRNGKey, labels: chex.Array, actions: chex.Array) -> chex.Array:
    """Reward each right choice with 1, any other with 0.

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
    chex.assert_equal_shape([labels, actions])
    return (labels == actions).astype(jnp.float32)


def normalise(images: chex.Array) -> chex.Array:
    """Scale uint8 pixels to float32 in [0, 1], as the papers do: divide by 255.

    Args:
      images: uint8[batch, height, width, channels].

    Returns:
      float32 of the same shape.
    """
    chex.assert_type(images, jnp.uint8)
    return images.astype(jnp.float32) / 255
