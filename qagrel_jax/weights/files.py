"""Trained parameters as a plain file that other programs can read.

The file holds every array of a network's variables under its path, ``params/Dense_0/kernel``, and
one JSON text of metadata. Two formats, told apart by the name's ending:

``.npz``          NumPy's; the metadata are the 0-d string array ``__metadata__``
``.safetensors``  the metadata are the header's entry ``qagrel_jax``; needs ``pip install
                  safetensors``; alone of the two it holds bfloat16

Kernels are stored as the layers use them: dense [inputs, units], convolutions [rows, columns,
channels, features], locally connected [out_height, out_width, rows, columns, channels, features].
"""

from __future__ import annotations

import importlib
import io
import json
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import chex
import flax.linen as nn
import flax.serialization
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from qagrel_jax import atomic, checks
from qagrel_jax.layers.kernels import feedback_kernels
from qagrel_jax.networks import make_network
from qagrel_jax.plain import from_plain, to_plain
from qagrel_jax.random_keys import root_key

FORMAT = "qagrel_jax 1"
"""Stands in the metadata of every file; another number means another layout."""

_METADATA = "__metadata__"


def save(
    path: str | os.PathLike, variables: chex.ArrayTree, metadata: dict[str, Any] | None = None
) -> None:
    """Write variables, or any state, to a ``.npz`` or ``.safetensors`` file, whole or not at all.

    Args:
      path: its ending decides the format.
      variables: nested dictionaries of arrays, ``{"params": ..., "batch_stats": ...}``, or a
        NamedTuple: its fields are names (``weights/memory_q`` of an ``AugmentState``), and a
        random key is stored as its numbers.
      metadata: JSON-ready metadata. ``network``, the arguments of ``make_network``, lets
        ``load_network`` rebuild the network. ``format`` and ``shapes`` are added.

    Raises:
      ValueError: another ending, no arrays, a name with "/" in it, an array of numbers that the
        format has not, metadata that hold NaN or infinity, arrays that another call has consumed.
      TypeError: metadata that are no dictionary, or hold what JSON cannot.
      ImportError: a ``.safetensors`` file without the package.
      OSError: the file cannot be written.

    NumPy alone reads a ``.npz`` file. ``load`` and ``load_network`` have examples of their own.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "net.npz"
    >>> save(path, {"params": {"Dense_0": {"kernel": np.ones((2, 3))}}})
    >>> with np.load(path) as file:
    ...     file["params/Dense_0/kernel"].shape
    (2, 3)
    """
    path = Path(path)
    suffix = _suffix(path)
    try:
        checks.not_consumed("what is to be saved", variables)
    except ValueError as error:
        if "sorting" not in str(error):
            raise
        raise ValueError("names of arrays must be text: some are and some are not") from None
    arrays = {name: np.asarray(array, order="C") for name, array in _flat(variables).items()}
    if not arrays:
        raise ValueError("no arrays to save")
    for name, array in arrays.items():
        plain = array.dtype.kind in "fiub" and array.dtype.itemsize <= 8
        if plain or (array.dtype == jnp.bfloat16 and suffix != ".npz"):
            continue
        other = "save a .safetensors file, or " if array.dtype == jnp.bfloat16 else ""
        raise ValueError(
            f"{name} holds {array.dtype}, which a {suffix} file cannot: {other}cast it first"
        )
    shapes = {name: list(array.shape) for name, array in arrays.items()}
    text = _json({} if metadata is None else metadata, shapes)
    if suffix == ".npz":
        content = _npz(arrays | {_METADATA: np.asarray(text)})
    else:
        content = optional_package("safetensors.numpy").save(arrays, metadata={"qagrel_jax": text})
    with atomic.replacing(path) as file:
        file.write(content)


def load(path: str | os.PathLike, like: Any = None) -> tuple[Any, dict[str, Any]]:
    """Read what ``save`` wrote.

    Args:
      path: a ``.npz`` or ``.safetensors`` file.
      like: of the structure, shapes and dtypes that were saved, such as a state just initialized,
        or what ``jax.eval_shape`` tells of it; None for dictionaries.

    Returns:
      ``(variables, metadata)``: nested dictionaries of NumPy arrays, or JAX arrays in the structure
      of ``like``, and the metadata.

    Raises:
      ValueError: a file that is damaged, or not of this kind, or not like ``like``; one line.
      ImportError: a ``.safetensors`` file without the package.
      OSError: no such file.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "net.npz"
    >>> save(path, {"params": {"Dense_0": {"kernel": np.ones((2, 3))}}}, {"rule": "q_agrel"})
    >>> variables, metadata = load(path)
    >>> variables["params"]["Dense_0"]["kernel"].shape, metadata["rule"]
    ((2, 3), 'q_agrel')
    """
    path = Path(path)
    suffix = _suffix(path)
    content = path.read_bytes()
    try:
        if suffix == ".npz":
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            text = str(arrays.pop(_METADATA))
        else:
            found = optional_package("safetensors").deserialize(content)
            arrays = {name: _array(**entry) for name, entry in found}
            # Not safe_open(path).metadata(): it would open the file again, by then maybe another.
            length = int.from_bytes(content[:8], "little")  # of the JSON header that follows
            text = json.loads(content[8 : 8 + length])["__metadata__"]["qagrel_jax"]
        metadata = json.loads(text)
        if not isinstance(metadata, dict):
            raise ValueError("its metadata are no dictionary")
    except ImportError:
        raise
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged, or not a file of parameters ({error})") from None
    except Exception as error:  # safetensors raises a class of its own
        raise ValueError(f"{path} is damaged ({error})") from None
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} has format {metadata.get('format')!r}, expected {FORMAT!r}")
    if like is None:
        return flax.traverse_util.unflatten_dict(arrays, sep="/"), metadata
    like = jax.tree.map(_concrete, like)
    if missing := _flat(like).keys() ^ arrays.keys():
        raise ValueError(f"{path} and like differ in {', '.join(sorted(missing))}")
    try:
        return _structured(arrays, like), metadata
    except ValueError as error:
        raise ValueError(f"{path} does not fit: {error}") from None


def load_network(path: str | os.PathLike) -> tuple[nn.Module, dict[str, Any], dict[str, Any]]:
    """Read a file and rebuild the network it belongs to.

    Args:
      path: as for ``load``; its metadata must have ``network``.

    Returns:
      ``(network, variables, metadata)``; ``network.apply(variables, images)`` gives Q values of
      images float[batch, height, width, channels] in [0, 1] (``tasks.classification.normalize``).

    Raises:
      ValueError: as ``load``; no ``network`` in the metadata, or one of other layers or another
        feedback pathway; no ``params`` among the variables.
      ImportError, OSError: as ``load``.

    The network that is read gives the Q values of the one that was saved:

    >>> import jax, tempfile
    >>> options = {"architecture": "dense", "num_actions": 2, "hidden": (3,)}
    >>> network, images = make_network(**options), jnp.ones((4, 2, 2, 1))
    >>> q_values, variables = jax.jit(network.init_with_output)(jax.random.key(0), images)
    >>> path = Path(tempfile.mkdtemp()) / "net.npz"
    >>> save(path, variables, {"network": options})
    >>> network, variables, metadata = load_network(path)
    >>> bool(jnp.allclose(network.apply(variables, images), q_values))
    True
    """
    variables, metadata = load(path)
    if "network" not in metadata:
        raise ValueError(f"{path} does not say which network it belongs to: use load")
    if not isinstance(metadata["network"], dict) or "architecture" not in metadata["network"]:
        raise ValueError(
            f"{path}: its metadata's network must be the arguments of make_network, got "
            f"{metadata['network']!r}: for a network of your own use load"
        )
    options = dict(metadata["network"])
    if "initialisation" in options:  # of an earlier version
        options["initialization"] = options.pop("initialisation")
    if options.get("hidden") is not None:
        options["hidden"] = tuple(options["hidden"])
    try:
        network = make_network(**options)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: its metadata's network is not what make_network takes ({error})"
        ) from None
    if "params" not in variables:
        raise ValueError(f"{path} has no 'params', got {', '.join(variables)}: save all variables")
    others = {name: value for name, value in variables.items() if name != "params"}
    try:
        feedback_kernels(variables["params"], others, network.feedback)
        if network.feedback == "direct" and "feedback" not in others:
            raise KeyError("there are no direct feedback weights")
    except KeyError as error:
        raise ValueError(
            f"{path}: its metadata must say its feedback, network = {{..., 'feedback': ...}}: "
            f"{error.args[0]}"
        ) from None
    _check_layers(path, network, variables["params"])
    return network, variables, metadata


def _check_layers(path: str | os.PathLike, network: nn.Module, params: Any) -> None:
    """Raise ``ValueError`` if the kernels are not of as many axes and units as the network's."""

    def shapes(params: Any) -> dict[str, tuple[int, ...]]:
        flat = flax.traverse_util.flatten_dict(params, sep="/")
        return {name: tuple(kernel.shape) for name, kernel in flat.items()}

    # The size of the images is unknown; the units of a layer do not depend on it.
    images = jax.ShapeDtypeStruct((1, 16, 16, 1), jnp.float32)
    wanted = shapes(jax.eval_shape(network.init, jax.random.key(0), images)["params"])
    found = shapes(params)
    for name in (*wanted, *found):
        ours, theirs = wanted.get(name), found.get(name)
        if ours and theirs and len(theirs) == len(ours) + 1:
            raise ValueError(
                f"{path}: params/{name} is {list(theirs)}, of several seeds: save those of one, "
                "training.variables_of(run.best, seed)"
            )
        if not (ours and theirs and (len(ours), ours[-1]) == (len(theirs), theirs[-1])):
            raise ValueError(
                f"{path}: its metadata's network is not that of its arrays: params/{name} has "
                f"{theirs[-1] if theirs else 'no'} units, expected {ours[-1] if ours else 'none'}"
            )


def _concrete(leaf: Any) -> Any:
    """Return an array where only shape and dtype are given."""
    if not isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jnp.broadcast_to(root_key(0), leaf.shape)
    return jnp.zeros(leaf.shape, leaf.dtype)


def _flat(tree: Any) -> dict[str, Any]:
    """Return the arrays of a pytree by their paths."""
    nested = flax.serialization.to_state_dict(to_plain(tree))
    if not isinstance(nested, dict):
        raise TypeError(
            "variables must be a dictionary (of a flax.nnx state nnx.to_pure_dict makes one) or a "
            f"NamedTuple, got {type(tree).__name__}"
        )
    flat = {
        tuple(map(str, path)): array
        for path, array in flax.traverse_util.flatten_dict(nested).items()
    }
    for path in flat:
        if any("/" in name for name in path) or path[0] == _METADATA:
            raise ValueError(
                f"{' in '.join(map(repr, reversed(path)))} cannot be a name in the file: no "
                f"slashes, and not {_METADATA!r}"
            )
    return {"/".join(path): array for path, array in flat.items() if array is not None}


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    """Return what ``np.savez`` writes, which itself can't write an array named ``file``."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    return buffer.getvalue()


def _structured(arrays: dict[str, np.ndarray], like: Any) -> Any:
    nested = flax.serialization.to_state_dict(to_plain(like))
    flat = flax.traverse_util.flatten_dict(nested, sep="/", keep_empty_nodes=True)
    nested = flax.traverse_util.unflatten_dict({**flat, **arrays}, sep="/")
    return from_plain(flax.serialization.from_state_dict(to_plain(like), nested), like)


def _json(metadata: dict[str, Any], shapes: dict[str, list[int]]) -> str:
    checks.instance("metadata", metadata, dict)
    if metadata.get("format", FORMAT) != FORMAT:
        raise ValueError(
            f"metadata's 'format' is that of the file, {FORMAT!r}, got {metadata['format']!r}: "
            "choose another name"
        )
    if metadata.get("shapes", shapes) != shapes:
        raise ValueError("metadata's 'shapes' are those of the file: choose another name")
    try:
        return json.dumps({"format": FORMAT, **metadata, "shapes": shapes}, allow_nan=False)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"metadata must be what JSON can hold ({error}), got {metadata}") from None


def _array(dtype: str, shape: list[int], data: bytes) -> np.ndarray:
    """Return an array of a ``.safetensors`` file; its own reader for NumPy knows no bfloat16."""
    kind, bits = re.fullmatch(r"([A-Z]+)(\d*)", dtype).groups()  # type: ignore[union-attr]
    names = {"F": "float", "BF": "bfloat", "I": "int", "U": "uint", "BOOL": "bool"}
    flat = np.frombuffer(data, np.dtype(names[kind] + bits))
    return flat.reshape(shape).copy()  # writable


def _suffix(path: Path) -> str:
    if path.suffix not in (".npz", ".safetensors"):
        raise ValueError(f"{path.name!r} must end in .npz or .safetensors")
    return path.suffix


def optional_package(name: str) -> Any:
    """Import a package that an extra brings; ``ImportError`` in one line where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.split(".")[0]
        raise ImportError(f"this needs {package}: pip install 'qagrel_jax[interchange]'") from None
