"""Bias and variance from moments: angles, norms, signal to noise, and their standard errors."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from qagrel_jax import checks
from qagrel_jax.layers.kernels import kernels
from qagrel_jax.update_statistics.moments import Moments, check_groups, pool, square

ALL = "all layers"
"""The name under which all kernels count as one vector."""


class Statistics(NamedTuple):
    """Bias and variance of one update with respect to one gradient; float[] each, or NaN."""

    angle: chex.Array  # between ū and g, in degrees
    norm_ratio: chex.Array  # |ū| / |g|
    bias: chex.Array  # |ū − g| / |g|
    variance: chex.Array  # V / |ū|²
    image_variance: chex.Array  # the images' part of it
    choice_variance: chex.Array  # the part of actions and noise
    alignment: chex.Array  # cosine of a single update with g, in the mean-square sense


def exact_gradient(gradient: chex.ArrayTree) -> Moments:
    """Return a gradient that is known, as a reference for ``statistics``: nothing varies."""
    mean = kernels(gradient)
    zeros = {name: jnp.zeros((), u.dtype) for name, u in mean.items()}
    return Moments(mean, zeros, zeros, jnp.array(jnp.inf))


def statistics(moments: Moments, reference: Moments) -> dict[str, Statistics]:
    """Bias and variance by layer, and under ``ALL`` of all layers together.

    Squared norms of estimated means are too large by the variance of the mean, which is taken off:
    the estimates of |ū|², |g|² and |ū − g|² are unbiased if both are independent. It is (V_images +
    V_choices/2)/count, for each of the ``count`` batches has two independent choices.

    Args:
      moments: of the update.
      reference: of the gradient g: ``exact_gradient``, or sampled independently.

    Returns:
      ``{layer: Statistics}``; NaN where ū or g is zero, or too small for the samples taken.

    Raises:
      ValueError: moments and reference of different layers.
      TypeError: an argument that is no ``Moments``.
    """
    checks.instance("moments", moments, Moments)
    checks.instance("reference", reference, Moments, "exact_gradient gives one")
    if moments.mean.keys() != reference.mean.keys():
        raise ValueError(
            f"reference must be of the layers {list(moments.mean)}, got {list(reference.mean)}"
        )
    own, other = _noise(moments), _noise(reference)
    layers = {
        name: jnp.stack(
            [
                square(mean) - own[name],
                square(reference.mean[name]) - other[name],
                jnp.vdot(mean, reference.mean[name]),
                moments.images[name],
                moments.choices[name],
            ]
        )
        for name, mean in moments.mean.items()
    }
    return {
        name: _statistics(sums) for name, sums in (layers | {ALL: sum(layers.values())}).items()
    }


def jackknife(groups: Moments, reference: Moments) -> dict[str, Statistics]:
    """Standard errors of the ``statistics`` of ``pool(groups)``, by leaving out each group in turn.

    Args:
      groups: ``Moments`` whose arrays have a leading axis [groups], at least 2.
      reference: as in ``statistics``; its own error is not counted.

    Returns:
      ``{layer: Statistics}`` of standard errors, in the units of the statistics.

    Raises:
      ValueError: fewer than 2 groups, or no such axis.
      TypeError: an argument that is no ``Moments``.
    """
    check_groups(groups)
    number = groups.count.shape[0]
    if number < 2:
        raise ValueError(f"a standard error needs at least 2 groups, got {number}")
    others = np.stack([np.delete(np.arange(number), group) for group in range(number)])
    without = jax.lax.map(
        lambda rows: statistics(pool(jax.tree.map(lambda x: x[rows], groups)), reference), others
    )
    return jax.tree.map(lambda values: jnp.sqrt((number - 1) * values.var(0)), without)


def _noise(moments: Moments) -> dict[str, chex.Array]:
    """Variance of the estimated mean, summed over weights."""
    return {
        name: (moments.images[name] + moments.choices[name] / 2) / moments.count
        for name in moments.mean
    }


def _statistics(sums: chex.Array) -> Statistics:
    own2, true2, dot, images, choices = sums
    own2, true2 = (jnp.where(norm2 > 0, norm2, jnp.nan) for norm2 in (own2, true2))
    cosine = dot / jnp.sqrt(own2 * true2)
    return Statistics(
        angle=jnp.degrees(jnp.arccos(jnp.clip(cosine, -1, 1))),
        norm_ratio=jnp.sqrt(own2 / true2),
        bias=jnp.sqrt(jnp.maximum(own2 - 2 * dot + true2, 0) / true2),
        variance=(images + choices) / own2,
        image_variance=images / own2,
        choice_variance=choices / own2,
        alignment=dot / jnp.sqrt(true2 * (own2 + images + choices)),
    )
