"""Images that outgrow the device: they stay on the host and are copied to the device in chunks.

Images up to a limit are *in memory*: put on the device once, as uint8. Larger
sets stay where they are, in the host's memory or mapped from a file, and while the device learns
from one chunk of batches a thread reads the next. The batches, their order and every number are the
same either way; only the place that they come from differs.

The limit is 4 GiB for each split, or $QAGREL_JAX_RESIDENT_GIB (0: stream everything).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from qagrel_jax.sharding import BATCH, SEEDS

LIMIT_VARIABLE = "QAGREL_JAX_RESIDENT_GIB"
DEFAULT_LIMIT_GIB = 4.0
CHUNK_BYTES = 2**26
"""About how many bytes of images to bring over at once; up to three chunks are held at a time."""


def limit_bytes() -> float:
    """Return the size above which the images of a split are streamed.

    Raises:
      ValueError: $QAGREL_JAX_RESIDENT_GIB is not a number of at least 0.
    """
    text = os.environ.get(LIMIT_VARIABLE, "")
    try:
        gib = float(text or DEFAULT_LIMIT_GIB)
    except ValueError:
        gib = -1.0
    if not gib >= 0:
        raise ValueError(f"${LIMIT_VARIABLE} must be a number of at least 0 (GiB), got {text!r}")
    return gib * 2**30


class HostImages:
    """Rows of an array of images that stays on the host; nothing is read before it is asked for.

    Attributes:
      shape: (rows, height, width, channels).
      dtype: of the numbers.
      nbytes: of these rows.

    >>> import numpy as np
    >>> images = HostImages(np.arange(12, dtype=np.uint8).reshape(3, 2, 2, 1))
    >>> images.rows([2, 0]).read([0]).ravel()
    array([ 8,  9, 10, 11], dtype=uint8)
    """

    def __init__(self, array: np.ndarray, rows: np.ndarray | None = None) -> None:
        self._array = array
        self._rows = np.arange(len(array)) if rows is None else rows
        self.shape, self.dtype = (len(self._rows), *array.shape[1:]), array.dtype
        self.nbytes = int(np.prod(self.shape)) * array.dtype.itemsize

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self, chosen: np.ndarray | Sequence[int]) -> HostImages:
        """Return a view of the ``chosen`` rows int[m]."""
        return HostImages(self._array, self._rows[chosen])

    def read(self, rows: np.ndarray | Sequence[int]) -> np.ndarray:
        """Read images uint8[*rows.shape, height, width, channels]."""
        return np.asarray(np.take(self._array, self._rows[rows], axis=0))


def steps_at_once(images: HostImages, examples_a_step: int) -> int:
    """Return the number of steps of a chunk, at least one."""
    example_bytes = max(1, images.nbytes // max(1, len(images)))
    return max(1, CHUNK_BYTES // (example_bytes * examples_a_step))


def read_batches(
    images: HostImages, labels: np.ndarray, order: np.ndarray, mesh: Mesh | None
) -> tuple[jax.Array, jax.Array]:
    """Bring batches over; on a mesh, each process reads what its own devices learn from.

    Args:
      images: n images.
      labels: int32[n].
      order: int[S, steps, batch], the examples of each seed's batches.
      mesh: the devices; None for one.

    Returns:
      ``(uint8[S, steps, batch, height, width, channels], int32[S, steps, batch])``.
    """
    if mesh is None:
        return jnp.asarray(images.read(order)), jnp.asarray(labels[order])
    over = BATCH if order.shape[2] % mesh.shape[BATCH] == 0 else None
    divided = NamedSharding(mesh, PartitionSpec(SEEDS, None, over))
    shape = (*order.shape, *images.shape[1:])
    return (
        jax.make_array_from_callback(
            shape,
            divided,
            lambda i: images.read(order[i[:3]]),  # type: ignore[index]
        ),
        jax.make_array_from_callback(order.shape, divided, lambda i: labels[order[i]]),
    )


def prefetch(makers: Iterable[Callable[[], Any]]) -> Iterator[Any]:
    """Yield what each of ``makers`` makes, the next one being made in a thread meanwhile."""
    with ThreadPoolExecutor(max_workers=1) as reader:
        pending = None
        for make in makers:
            following = reader.submit(make)
            if pending is not None:
                yield pending.result()
            pending = following
        if pending is not None:
            yield pending.result()
