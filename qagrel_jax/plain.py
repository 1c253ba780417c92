"""States as plain arrays, for whatever saves them: flax.serialization, orbax, NumPy, safetensors.

Typed random keys are the one kind of leaf that such libraries refuse. ``to_plain`` puts their
numbers in place of them, ``from_plain`` makes keys of those again; structures stay as they are::

    content = flax.serialization.to_bytes(to_plain(run))
    run = from_plain(flax.serialization.from_bytes(to_plain(run), content), like=run)
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from qagrel_jax import checks, random_keys, sharding


def to_plain(tree: chex.ArrayTree) -> chex.ArrayTree:
    """Copy a pytree's arrays to NumPy, keys as their numbers.

    Args:
      tree: arrays, numbers and random keys: a ``Fit``, a ``Population``, parameters.

    Returns:
      The same structure with ``np.ndarray`` leaves; a key [...] is uint32[..., 2] (threefry2x32).

    Raises:
      ValueError: a tree that another call has consumed.

    >>> to_plain({"key": jax.random.key(3, impl="threefry2x32")})["key"].tolist()
    [0, 3]
    """
    checks.not_consumed("what is to be copied", tree)
    return jax.tree.map(np.array, sharding.fetch(random_keys.to_numbers(tree)))


def from_plain(plain: chex.ArrayTree, like: chex.ArrayTree) -> chex.ArrayTree:
    """Make of plain arrays what ``like`` is: keys where it has keys, arrays of its dtypes.

    Args:
      plain: from ``to_plain``, saved and loaded again.
      like: of the same structure and shapes, such as a run just started.

    Returns:
      A pytree of JAX arrays; of NumPy arrays where ``like`` has those, or numbers.

    Raises:
      ValueError: another structure, shape or dtype.
    """
    if jax.tree.structure(plain) != jax.tree.structure(like):  # type: ignore[operator]
        raise ValueError("plain must have the structure of like: it belongs to something else")
    return jax.tree_util.tree_map_with_path(_as_before, like, plain)


def _as_before(path: Any, like: Any, plain: Any) -> Any:
    kept = like if isinstance(like, jax.Array) else np.asarray(like)
    wanted = random_keys.to_numbers(kept)
    found = np.asarray(plain)
    if (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
        raise ValueError(
            f"{jax.tree_util.keystr(path)} must be {wanted.dtype}{wanted.shape}, "
            f"got {found.dtype}{found.shape}"
        )
    if random_keys.is_key(like):
        return random_keys.from_numbers(found, like)
    return jnp.asarray(found) if isinstance(like, jax.Array) else found
