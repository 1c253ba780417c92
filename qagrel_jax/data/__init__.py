"""Image classification sets as arrays, in memory or on disk.

``load("mnist")`` reads a set prepared by TensorFlow Datasets, decodes it once into a cache of uint8
arrays, and from then on takes a fraction of a second. A set that is not prepared yet is downloaded
and prepared. ``load("digits")`` needs neither network nor TFDS, ``load("birds.npz")`` reads arrays
of one's own (``npz``).
"""

from qagrel_jax.data import npz
from qagrel_jax.data.dataset import DataError, Dataset, Progress, validate
from qagrel_jax.data.loading import load
from qagrel_jax.data.streaming import HostImages, limit_bytes
from qagrel_jax.data.tfds import WELL_KNOWN

__all__ = [
    "WELL_KNOWN",
    "DataError",
    "Dataset",
    "HostImages",
    "Progress",
    "limit_bytes",
    "load",
    "npz",
    "validate",
]
