"""Measures of learning: angles between weights, or between updates."""

import chex
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict

from qagrel_jax.layers.feedback import feedback_kernels


def angle_degrees(a: chex.Array, b: chex.Array) -> chex.Array:
    """Angle between two arrays seen as vectors: arccos(a·b / |a||b|), in degrees.

    Args:
      a: float[...].
      b: float of the same shape.

    Returns:
      float[], in [0, 180]; NaN where one of them is zero.

    >>> import jax.numpy as jnp
    >>> round(float(angle_degrees(jnp.array([1.0, 0.0]), jnp.array([1.0, 1.0]))), 3)
    45.0
    """
    chex.assert_equal_shape([a, b])
    a, b = a.ravel(), b.ravel()
    cosine = a @ b / (jnp.linalg.norm(a) * jnp.linalg.norm(b))
    return jnp.degrees(jnp.arccos(jnp.clip(cosine, -1, 1)))


def feedback_angles(
    params: chex.ArrayTree, model_state: chex.ArrayTree, feedback: str
) -> dict[str, chex.Array]:
    """Angle between each layer's forward and feedback weights, for every seed.

    Args:
      params: parameters of one network, or of several with a leading axis of seeds.
      model_state: the other collections, likewise.
      feedback: the kind of pathway, one of ``qagrel_jax.layers.FEEDBACKS``.

    Returns:
      ``{layer: float[] or float[seeds], in degrees}`` of every layer with a kernel, as they are
      named; a layer within a module is ``module/layer``. Empty for ``direct`` feedback, whose
      weights have no forward partners.

    Raises:
      ValueError: an unknown ``feedback``.

    >>> import jax.numpy as jnp
    >>> params = {"out": {"kernel": jnp.eye(2), "feedback_kernel": jnp.ones((2, 2))}}
    >>> round(float(feedback_angles(params, {}, "kolen_pollack")["out"]), 3)
    45.0
    """
    weights, angles = flatten_dict(params), {}
    for layer, down in feedback_kernels(params, model_state, feedback).items():
        kernel = weights[*layer, "kernel"]
        # A kernel has 2, 4 or 6 axes (dense, convolutional, locally connected); one more: seeds.
        angle = jax.vmap(angle_degrees) if kernel.ndim % 2 else angle_degrees
        angles["/".join(layer)] = angle(kernel, down)
    return angles


def layer_angles(a: chex.ArrayTree, b: chex.ArrayTree) -> dict[str, chex.Array]:
    """Angle, layer by layer, between two updates of one network's kernels.

    Args:
      a: shaped like the parameters, ``{layer: {"kernel": ..., ...}}``; modules may be nested.
      b: likewise.

    Returns:
      ``{layer: float[] in degrees}`` for every layer with a kernel; NaN where one update is zero.

    >>> import jax.numpy as jnp
    >>> a, b = {"out": {"kernel": jnp.eye(2)}}, {"out": {"kernel": jnp.ones((2, 2))}}
    >>> round(float(layer_angles(a, b)["out"]), 3)
    45.0
    """
    others = flatten_dict(b)
    return {
        "/".join(layer): angle_degrees(kernel, others[*layer, name])
        for (*layer, name), kernel in flatten_dict(a).items()
        if name == "kernel"
    }
