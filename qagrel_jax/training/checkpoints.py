"""A run, or any pytree of arrays and random keys, as one file: whole or absent, and checked.

A file is three lines of text, then the arrays as msgpack:

    qagrel_jax checkpoint 1
    the SHA-256 of all that follows
    metadata, as JSON

A byte changed anywhere is found. Files of msgpack alone, as the first ones were, load as well; in
them only a wrong structure, shape or kind of number is found.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import chex
import flax.serialization
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from qagrel_jax import atomic, checks, random_keys, sharding
from qagrel_jax.training.fitting import Fit

MAGIC = b"qagrel_jax checkpoint 1\n"
Tree = TypeVar("Tree", bound=chex.ArrayTree)


class CheckpointError(ValueError):
    """A checkpoint that is damaged, or of something else; the message is one line."""


def save(
    path: str | os.PathLike, tree: chex.ArrayTree, metadata: Mapping[str, Any] | None = None
) -> None:
    """Write ``tree`` to ``path``, whole or not at all.

    Args:
      path: of the file.
      tree: arrays and random keys, on any devices; a ``Fit``, for instance. With several processes
        all call this, each with a path of its own.
      metadata: what a file is of (rule, configuration), JSON-ready.

    Raises:
      OSError: it cannot be written.
      ValueError, TypeError: metadata that JSON does not know, or a number that is not finite;
        a tree that another call has consumed.

    A file that has been read and saved again is the same to the byte:

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "run.msgpack"
    >>> save(path, {"weights": jnp.ones(2)})
    >>> before = path.read_bytes()
    >>> save(path, load(path, {"weights": jnp.zeros(2)}))
    >>> path.read_bytes() == before
    True
    """
    checks.not_consumed("what is to be saved", tree)
    write(path, flax.serialization.to_bytes(sharding.fetch(random_keys.to_numbers(tree))), metadata)


def load(
    path: str | os.PathLike, template: Tree, metadata: Mapping[str, Any] | None = None
) -> Tree:
    """Read what ``save`` wrote.

    Args:
      path: of the file.
      template: a tree of the structure, shapes and dtypes to be read, from ``start`` for a ``Fit``.
      metadata: entries that the file must have, unless it is of the first format, without any.

    Returns:
      A tree like ``template``.

    Raises:
      OSError: the file cannot be read.
      CheckpointError: it is damaged, or of another structure, shape or metadata.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "run.msgpack"
    >>> save(path, {"weights": jnp.ones(2)}, {"rule": "q_agrel"})
    >>> load(path, {"weights": jnp.zeros(2)}, {"rule": "q_agrel"})["weights"].tolist()
    [1.0, 1.0]
    >>> load(path, {"weights": jnp.zeros(2)}, {"rule": "backprop"})
    Traceback (most recent call last):
        ...
    qagrel_jax.training.checkpoints.CheckpointError: rule is 'q_agrel' there, 'backprop' here
    """
    content, found = read(path)
    if found is not None and metadata is not None:
        check_metadata(found, metadata)
    wanted = random_keys.to_numbers(template)
    try:
        raw = flax.serialization.from_state_dict(wanted, _matching(wanted, content))
        jax.tree_util.tree_map_with_path(_check_alike, wanted, raw)
    except Exception as error:  # whatever msgpack makes of bytes that are not its own
        what = "damaged, or" if found is None else "of another network, optimizer or seeds, or"
        raise CheckpointError(f"{what} of another version: {_line(error)}") from None
    tree = jax.tree.map(_like, template, raw)
    if isinstance(tree, Fit):
        _check_epochs(tree)
    return tree


def write(
    path: str | os.PathLike, content: bytes, metadata: Mapping[str, Any] | None = None
) -> None:
    """Write ``content`` with its checksum and ``metadata``, whole or not at all."""
    described = json.dumps(dict(metadata or {}), allow_nan=False).encode() + b"\n"
    with atomic.replacing(path) as file:
        file.write(MAGIC + _checksum(described, content) + described)
        file.write(content)


def read(path: str | os.PathLike) -> tuple[bytes, dict[str, Any] | None]:
    """Read what ``write`` wrote: the content and the metadata, None for an older file.

    Raises:
      OSError: the file cannot be read.
      CheckpointError: a byte of it has changed, or it was cut off.
    """
    whole = Path(path).read_bytes()
    if not whole.startswith(MAGIC):
        try:
            flax.serialization.msgpack_restore(whole)
        except Exception as error:  # whatever msgpack makes of bytes that are not its own
            raise CheckpointError(f"damaged: {_line(error)}") from None
        return whole, None
    checksum = whole[len(MAGIC) : len(MAGIC) + 65]
    described, newline, content = whole[len(MAGIC) + 65 :].partition(b"\n")
    if not newline or checksum != _checksum(described + newline, content):
        raise CheckpointError("damaged: its checksum is another")
    return content, json.loads(described)


def _checksum(*parts: bytes) -> bytes:
    total = hashlib.sha256()
    for part in parts:
        total.update(part)
    return total.hexdigest().encode() + b"\n"


def check_metadata(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Check what a file says it is of; settings that came after its version are let pass.

    Raises:
      CheckpointError: an entry that is missing, or of another value.
    """
    for name, value in wanted.items():
        there = found.get(name)
        if isinstance(value, Mapping) and isinstance(there, Mapping):
            # Not the settings that came after the file's version.
            check_metadata(there, {k: v for k, v in value.items() if k in there})
        elif there != json.loads(json.dumps(value)):
            raise CheckpointError(f"{name} is {there!r} there, {value!r} here")


def _matching(wanted: Any, content: bytes) -> Any:
    """Return what ``content`` holds; fields that are None and came after its version are added.

    Raises:
      ValueError: it has other arrays than ``wanted``, of which Flax would leave out the further
        ones in silence.
    """

    def complete(template: Any, found: Any) -> Any:
        if not isinstance(template, dict) or not isinstance(found, dict):
            return found
        missing = {k: None for k, v in template.items() if v is None and k not in found}
        return missing | {k: complete(template.get(k), v) for k, v in found.items()}

    template = flax.serialization.to_state_dict(wanted)
    found = complete(template, flax.serialization.msgpack_restore(content))
    if isinstance(template, dict) and isinstance(found, dict):
        ours, theirs = (
            flax.traverse_util.flatten_dict(tree, sep="/") for tree in (template, found)
        )
        for names, problem in ((ours.keys() - theirs, "lacks"), (theirs.keys() - ours, "also has")):
            if names:
                first, *others = sorted(names)
                more = f" and {len(others)} more" if others else ""
                raise ValueError(f"it {problem} {first}{more}")
    return found


def _check_alike(path: Any, wanted: Any, found: Any) -> None:
    # Without x64 JAX would cut wider ones in silence.
    arrays = isinstance(wanted, jax.Array | np.ndarray) and isinstance(found, np.ndarray)
    wider = arrays and found.dtype.itemsize > wanted.dtype.itemsize
    for what, ours, theirs in (
        ("shape", jnp.shape(wanted), jnp.shape(found)),
        ("numbers of", jnp.result_type(wanted), jnp.result_type(found)),
        *([("numbers of", wanted.dtype, found.dtype)] if wider else []),
    ):
        if ours != theirs:
            place = jax.tree_util.keystr(path).lstrip(".")
            raise ValueError(f"{place}: expected {what} {ours}, got {theirs}".lstrip(": "))


def _check_epochs(run: Fit) -> None:
    """Raise if a run says what none can."""
    for name in ("epoch", "best_epoch", "reference_epoch"):
        epochs, done = np.asarray(getattr(run, name)), int(run.epoch)
        if (epochs < 0).any() or (epochs > done).any():
            raise CheckpointError(f"damaged: {name} is {epochs.tolist()}, epochs done {done}")


def _like(template: Any, raw: Any) -> Any:
    if random_keys.is_key(template):
        return random_keys.from_numbers(raw, template)
    return jnp.asarray(raw) if isinstance(template, jax.Array) else np.asarray(raw)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
