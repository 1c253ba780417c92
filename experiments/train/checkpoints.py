"""A pytree of arrays and random keys as one file that is whole or absent."""

from pathlib import Path
from typing import Any

import flax.serialization
import jax
import jax.numpy as jnp

from experiments.common import files
from experiments.common.cli import UserError
from qagrel_jax import sharding


def save(path: Path, tree: Any) -> None:
    """Write a pytree of arrays and keys to ``path``, whole or not at all."""
    files.write_bytes(path, flax.serialization.to_bytes(sharding.fetch(_raw_keys(tree))))


def load(path: Path, template: Any) -> Any | None:
    """Read what ``save`` wrote into the shape of ``template``; None if there is none.

    Raises:
      UserError: the file cannot be read, or is damaged or of another shape.
    """
    if not path.is_file():
        return None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    wanted = _raw_keys(template)
    try:
        raw = flax.serialization.from_state_dict(wanted, _completed(wanted, content))
        jax.tree.map(_check_alike, wanted, raw)
    except Exception as error:
        raise UserError(
            f"{path} is damaged, or of another version ({error}): move it away to start this rule "
            "anew"
        ) from None
    return jax.tree.map(_like, template, raw)


def _completed(wanted: Any, content: bytes) -> Any:
    """Return what ``content`` holds; fields that are None and came after its version are added."""

    def complete(template: Any, found: Any) -> Any:
        if not isinstance(template, dict) or not isinstance(found, dict):
            return found
        missing = {k: None for k, v in template.items() if v is None and k not in found}
        return missing | {k: complete(template.get(k), v) for k, v in found.items()}

    template = flax.serialization.to_state_dict(wanted)
    return complete(template, flax.serialization.msgpack_restore(content))


def _check_alike(wanted: Any, found: Any) -> None:
    if jnp.shape(wanted) != jnp.shape(found):
        raise ValueError(f"expected shape {jnp.shape(wanted)}, got {jnp.shape(found)}")


def _raw_keys(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, tree)


def _like(template: Any, raw: Any) -> Any:
    if not _is_key(template):
        return jnp.asarray(raw)
    return jax.random.wrap_key_data(jnp.asarray(raw), impl=jax.random.key_impl(template))


def _is_key(x: Any) -> bool:
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
