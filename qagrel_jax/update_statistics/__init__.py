r"""Bias and variance of one update: how well a single weight change points down a gradient.

A learning rule changes the weights by a random update u: random in the images of its batch, in the
action chosen for each, in the noise of its units. With ū = E[u] and g the gradient of an objective,

    bias       ū − g:  the angle between ū and g, |ū|/|g|, and |ū − g|/|g|,
    variance   V = E|u − ū|², summed over weights, relative to |ū|².

By the law of total variance V has two parts, that of the images, which error-backpropagation has,
too, and that of actions and noise, the price of not being told the answer:

    V = Var_batch(E[u | batch]) + E_batch[Var(u | batch)].

What one update is worth combines the two. The *alignment*, the cosine of u with g in the
mean-square sense, is 1 only where nothing is random and nothing biased:

    alignment = g·ū / (|g| √E|u|²) = cos(ū, g) / √(1 + V/|ū|²).

``exact_moments``    enumerates every action of every image: small networks, rules without noise.
``sampled_moments``  draws batches, and two independent choices for each: any network, any rule.

Every figure is that of a layer's kernel or, under ``ALL``, of all kernels as one vector.

Reference:
  Richards et al. (2019), A deep learning framework for neuroscience, Nature Neuroscience 22: where
  learning rules stand by bias and variance, as a conjecture.
"""

from qagrel_jax.layers.kernels import kernels
from qagrel_jax.update_statistics.bias import (
    ALL,
    Statistics,
    exact_gradient,
    jackknife,
    statistics,
)
from qagrel_jax.update_statistics.gradients import objective_gradients
from qagrel_jax.update_statistics.moments import (
    Moments,
    exact_moments,
    of_batch,
    pool,
    sampled_moments,
)

__all__ = [
    "ALL",
    "Moments",
    "Statistics",
    "exact_gradient",
    "exact_moments",
    "jackknife",
    "kernels",
    "objective_gradients",
    "of_batch",
    "pool",
    "sampled_moments",
    "statistics",
]
