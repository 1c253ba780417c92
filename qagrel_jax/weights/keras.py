"""Weights that Keras saved as HDF5, for this package's networks.

The authors' published code of Q-AGREL / BrainProp is written in Keras. A Keras weights file
(``model.save_weights("net.h5")``, or ``model.save("net.h5")``, where the same stands in the group
``model_weights``) lists its layers in the attribute ``layer_names``; each layer's group lists its
arrays in ``weight_names``. Of the layers that have arrays, the k-th of a kind is ours of that kind:

===================  =============================================  =============================
Keras layer          its arrays                                     here
===================  =============================================  =============================
Dense                kernel [inputs, units]                         ``Dense_k``, as it is
Conv2D               kernel [rows, columns, channels, features]     ``Conv_k``, as it is
LocallyConnected2D   kernel [out_rows·out_columns,                  ``LocallyConnected_k``, cut
                     rows·columns·channels, features]               into its six axes
BatchNormalization   gamma, beta, moving_mean, moving_variance      ``BatchNorm_k``: scale, bias,
                                                                    mean, var
===================  =============================================  =============================

Keras (channels last) and this package flatten images and patches in the same order: rows, then
columns, then channels. The published networks have no biases.

Reference:
  Pozzi, Bohté & Roelfsema (2020), NeurIPS 33.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from qagrel_jax import checks
from qagrel_jax.random_keys import root_key
from qagrel_jax.weights.files import optional_package

_KINDS = {2: "Dense", 3: "LocallyConnected", 4: "Conv"}  # by the kernel's axes
_BATCH_NORM = {
    "gamma": ("params", "scale"),
    "beta": ("params", "bias"),
    "moving_mean": ("batch_stats", "mean"),
    "moving_variance": ("batch_stats", "var"),
}


def load_keras(
    path: str | os.PathLike, network: nn.Module, image_shape: tuple[int, ...]
) -> dict[str, Any]:
    """Read a Keras HDF5 file of weights into the variables of one of the papers' networks.

    Args:
      path: the ``.h5`` file.
      network: from ``make_network``, with feedback that needs no weights of its own ("tied" or
        "sign"): Keras files hold none.
      image_shape: (height, width, channels) of the images it is for.

    Returns:
      ``{"params": ..., "batch_stats": ...}`` for ``network.apply``, float32.

    Raises:
      ValueError: a file that is not of this kind, layers or shapes that are not the network's; one
        line that names the layer.
      TypeError: ``network`` is no Linen module, ``image_shape`` no whole numbers.
      ImportError: without the package h5py.
      OSError: no such file.
    """
    checks.instance("network", network, nn.Module, "make_network gives one by its name")
    checks.wholes("image_shape", image_shape, length=3)
    expected = jax.eval_shape(network.init, root_key(0), jnp.zeros((1, *image_shape)))
    expected = flax.traverse_util.flatten_dict(expected, sep="/")
    found: dict[str, tuple[str, np.ndarray]] = {}
    seen: Counter[str] = Counter()
    for layer, arrays in _read(path):
        if "kernel" in arrays:
            kind = _KINDS.get(arrays["kernel"].ndim, "unknown layer")
            targets = {"kernel": ("params", "kernel")}
        else:
            kind, targets = "BatchNorm", _BATCH_NORM
        name = f"{kind}_{seen[kind]}"
        seen[kind] += 1
        for weight, array in arrays.items():
            collection, ours = targets.get(weight, ("params", weight))
            found[f"{collection}/{name}/{ours}"] = layer, array
    variables = {}
    for name, shape in expected.items():
        if name not in found:
            raise ValueError(f"{path} has nothing for {name}; its layers: {_listed(found)}")
        layer, array = found.pop(name)
        if array.shape == _flat(shape.shape):
            array = array.reshape(shape.shape)
        if array.shape != shape.shape:
            raise ValueError(
                f"{path}: layer {layer!r} has shape {array.shape}, {name} needs {shape.shape}"
            )
        variables[name] = jnp.asarray(array, jnp.float32)
    if found:
        raise ValueError(f"{path} has arrays that the network has not: {_listed(found)}")
    return flax.traverse_util.unflatten_dict(variables, sep="/")


def _read(path: str | os.PathLike) -> list[tuple[str, dict[str, np.ndarray]]]:
    """Return every layer that has weights, in the model's order: ``(name, {weight: array})``."""
    h5py = optional_package("h5py")
    try:
        file = h5py.File(path, "r")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{path} is no HDF5 file ({error})") from None
    with file:
        root = file.get("model_weights", file)
        try:
            layers = [
                (layer, _arrays(path, root, layer)) for layer in _strings(root, "layer_names")
            ]
        except KeyError as error:
            raise ValueError(
                f"{path} lists layers or weights that it has not ({error.args[0]})"
            ) from None
    layers = [(layer, arrays) for layer, arrays in layers if arrays]
    if not layers:
        raise ValueError(f"{path} has no attribute layer_names, or no weights: no Keras HDF5 file")
    return layers


def _arrays(path: str | os.PathLike, root: Any, layer: str) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for name in _strings(root[layer], "weight_names"):
        weight = name.rsplit("/", 1)[-1].split(":")[0]
        if weight in arrays:
            raise ValueError(
                f"{path}: layer {layer!r} has several arrays {weight!r}: it is a model within the "
                "model, save its layers one by one"
            )
        arrays[weight] = np.asarray(root[layer][name])
    return arrays


def _strings(group: Any, name: str) -> list[str]:
    """Read a list of names; a long one is split over the attributes name0, name1, ..."""
    numbered = (f"{name}{number}" for number in itertools.count())
    parts = (
        [name]
        if name in group.attrs
        else list(itertools.takewhile(group.attrs.__contains__, numbered))
    )
    values = [value for part in parts for value in group.attrs[part]]
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _flat(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in which Keras stores a locally connected kernel of six axes."""
    if len(shape) != 6:
        return shape
    height, width, rows, columns, channels, features = shape
    return height * width, rows * columns * channels, features


def _listed(found: dict[str, tuple[str, np.ndarray]]) -> str:
    return ", ".join(f"{layer} {array.shape}" for layer, array in found.values()) or "none"
