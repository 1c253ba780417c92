"""Image classification sets as arrays, in memory or on disk."""

from qagrel_jax.data.streaming import HostImages, limit_bytes
from qagrel_jax.data.tfds import WELL_KNOWN, DataError, Dataset, Progress, load, validate

__all__ = [
    "WELL_KNOWN",
    "DataError",
    "Dataset",
    "HostImages",
    "Progress",
    "limit_bytes",
    "load",
    "validate",
]
