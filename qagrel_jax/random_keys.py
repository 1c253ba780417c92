"""Root keys: one implementation of random numbers, whatever JAX's default is set to.

A run is a function of its seeds alone. ``JAX_DEFAULT_PRNG_IMPL`` would change what a seed draws, so
every root key names its implementation; keys that are split or folded from it keep that. (Still,
``JAX_THREEFRY_PARTITIONABLE=0``, the default of JAX before 0.5, draws other numbers.)
"""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from qagrel_jax import checks

IMPLEMENTATION = "threefry2x32"


def root_key(seed: int | chex.Array) -> chex.PRNGKey:
    """Return the typed key of ``seed`` int[]: ``jax.random.key`` with the implementation pinned.

    Raises:
      ValueError: a seed that is not in [0, 2³²), of which JAX without ``jax_enable_x64`` would drop
        what is too much.
      TypeError: no whole number.

    >>> import jax
    >>> jax.random.key_data(root_key(3)).tolist()
    [0, 3]
    """
    if not isinstance(seed, jax.core.Tracer):
        _check(seed)
    return jax.random.key(seed, impl=IMPLEMENTATION)


def root_keys(seeds: ArrayLike) -> chex.PRNGKey:
    """Return a key for each of ``seeds`` int[S], as ``fitting.start`` takes them.

    Raises:
      ValueError, TypeError: as ``root_key``.

    >>> root_keys([0, 1]).shape
    (2,)
    """
    if checks.known(seeds):
        for seed in np.asarray(seeds).reshape(-1):
            _check(seed)
    # Python's numbers would be int32, too few bits for half of the seeds.
    array = seeds if isinstance(seeds, jax.Array) else np.asarray(seeds)
    return jax.vmap(root_key)(jnp.asarray(array))


def is_key(x: Any) -> bool:
    """Say whether ``x`` is an array of typed random keys."""
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def to_numbers(tree: chex.ArrayTree) -> chex.ArrayTree:
    """Return ``tree`` with the numbers of typed keys in place of these, uint32[..., 2] for [...].

    >>> to_numbers({"key": root_key(3)})["key"].tolist()
    [0, 3]
    """
    return jax.tree.map(lambda x: jax.random.key_data(x) if is_key(x) else x, tree)


def from_numbers(numbers: ArrayLike, like: chex.PRNGKey) -> chex.PRNGKey:
    """Return the keys of ``numbers`` uint32[..., 2], of the implementation of ``like``.

    >>> bool(from_numbers([0, 3], like=root_key(0)) == root_key(3))
    True
    """
    return jax.random.wrap_key_data(
        jnp.asarray(numbers, jnp.uint32), impl=jax.random.key_impl(like)
    )


def _check(seed: int | chex.Array) -> None:
    checks.whole("seed", seed, 0, 2**32 - 1)
