"""Parameters as plain files, and weights that others trained."""

from qagrel_jax.weights.files import FORMAT, load, load_network, optional_package, save
from qagrel_jax.weights.keras import load_keras

__all__ = [
    "FORMAT",
    "load",
    "load_keras",
    "load_network",
    "optional_package",
    "save",
]
