"""Root keys: one implementation of random numbers, whatever JAX's default is set to.

A run is a function of its seeds alone. ``JAX_DEFAULT_PRNG_IMPL`` would change what a seed draws, so
every root key names its implementation; keys that are split or folded from it keep that.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

IMPLEMENTATION = "threefry2x32"


def root_key(seed: int | chex.Array) -> chex.PRNGKey:
    """Return the typed key of ``seed`` int[]: ``jax.random.key`` with the implementation pinned.

    >>> import jax
    >>> jax.random.key_data(root_key(3)).tolist()
    [0, 3]
    """
    return jax.random.key(seed, impl=IMPLEMENTATION)


def root_keys(seeds: ArrayLike) -> chex.PRNGKey:
    """Return a key for each of ``seeds`` int[S], as ``fitting.start`` takes them.

    >>> root_keys([0, 1]).shape
    (2,)
    """
    return jax.vmap(root_key)(jnp.asarray(seeds))
