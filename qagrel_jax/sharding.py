"""More than one device: seeds, and the examples of a batch, divided over a mesh.

The mesh has two axes, ``seeds`` × ``batch``. Learners know nothing of each other, so cutting their
leading axis costs no communication. Cutting a batch leaves every device with the same weights; XLA
adds up the weight changes (and BatchNorm's sums) over the devices at each step.

Several processes, on one machine or many, run the same script: once ``jax.distributed.initialize``
has joined them, a mesh holds the devices of all. The functions here then are collective: every
process calls them, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chex
import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from qagrel_jax import checks, random_keys

SEEDS, BATCH = "seeds", "batch"


def make_mesh(seeds: int = 1, batch: int = 1) -> Mesh:
    """Arrange ``seeds`` × ``batch`` devices: learners divided one way, their batches the other.

    Args:
      seeds: parts that the learners are divided into.
      batch: parts that each batch is divided into.

    Returns:
      A ``Mesh`` with the axes "seeds" and "batch".

    Raises:
      TypeError: a size that is no number.
      ValueError: a size below 1, more parts than devices, or, with several processes, devices left
        over (a process without a part could not take part).

    >>> dict(make_mesh().shape)
    {'seeds': 1, 'batch': 1}
    """
    checks.whole("seeds", seeds)
    checks.whole("batch", batch)
    devices = jax.devices()
    if seeds * batch > len(devices):
        raise ValueError(
            f"a mesh of {seeds} x {batch} (seeds x batch) does not fit {len(devices)} devices"
        )
    if jax.process_count() > 1 and seeds * batch < len(devices):
        raise ValueError(
            f"a mesh of {seeds} x {batch} (seeds x batch) leaves devices of the "
            f"{jax.process_count()} processes idle: use all {len(devices)}"
        )
    return Mesh(np.asarray(devices[: seeds * batch]).reshape(seeds, batch), (SEEDS, BATCH))


def check(mesh: Mesh) -> None:
    """Check that ``mesh`` has the axes of ``make_mesh``, which the compiler may divide over.

    Raises:
      ValueError: it has others, or explicit ones.
      TypeError: no mesh.
    """
    checks.instance("mesh", mesh, Mesh, "sharding.make_mesh gives one")
    automatic = set(mesh.axis_types) == {jax.sharding.AxisType.Auto}
    if set(mesh.axis_names) != {SEEDS, BATCH} or not automatic:
        raise ValueError(
            f"mesh must be one of sharding.make_mesh, with the axes {SEEDS!r} and {BATCH!r}, got "
            f"{', '.join(map(repr, mesh.axis_names))}{'' if automatic else ', not of type Auto'}"
        )


def by_seed(tree: chex.ArrayTree, mesh: Mesh | None) -> chex.ArrayTree:
    """Divide arrays [S, ...] over the mesh's "seeds"; without a mesh, leave them as they are."""
    return jax.tree.map(lambda x: put(x, mesh, SEEDS), tree)


def replicate(tree: chex.ArrayTree, mesh: Mesh | None) -> chex.ArrayTree:
    """Copy arrays to every device of the mesh; without a mesh, leave them as they are."""
    return jax.tree.map(lambda x: put(x, mesh), tree)


def put(array: Any, mesh: Mesh | None, *axes: str | None) -> Any:
    """Place one array, the same on every process, on the mesh.

    Args:
      array: an array on this process, or one that already lies as asked.
      mesh: where to; None leaves ``array`` as it is.
      *axes: the mesh axis each of the array's axes is divided over, None for none.

    Returns:
      A ``jax.Array`` [...], of which each process holds the parts of its own devices.
    """
    # Tracers have no data to move.
    if mesh is None or isinstance(array, jax.core.Tracer):
        return array
    sharding = NamedSharding(mesh, PartitionSpec(*axes))
    if isinstance(array, jax.Array):
        if array.sharding.is_equivalent_to(sharding, array.ndim):
            return array
        if random_keys.is_key(array):
            numbers = put(random_keys.to_numbers(array), mesh, *axes)
            return random_keys.from_numbers(numbers, array)
    host = np.asarray(array)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def constrain_batch(tree: chex.ArrayTree, mesh: Mesh | None) -> chex.ArrayTree:
    """Inside a compiled function: divide arrays [batch, ...] over the mesh's "batch".

    A batch that the mesh does not divide evenly, the incomplete last one of an epoch, stays whole
    on every device.
    """
    batch = jax.tree.leaves(tree)[0].shape[0]
    if mesh is None or mesh.shape[BATCH] == 1 or batch % mesh.shape[BATCH]:
        return tree
    # Not ``mesh``: where each device has its own seeds, the mesh in use knows it.
    here = NamedSharding(jax.sharding.get_abstract_mesh(), PartitionSpec(BATCH))
    return jax.lax.with_sharding_constraint(tree, here)


def divided_as(array: chex.Array, tree: chex.ArrayTree) -> chex.ArrayTree:
    """Divide arrays [batch, ...] as ``array`` [batch, ...] is, where a mesh's axes are explicit.

    On such a mesh, JAX's default, ``vmap`` takes no arrays together that are divided otherwise.
    """
    layout = jax.typeof(array).sharding
    if not layout.mesh.explicit_axes:
        return tree
    alike = NamedSharding(layout.mesh, PartitionSpec(*layout.spec[:1]))
    return jax.tree.map(lambda x: jax.sharding.reshard(x, alike), tree)


def part_by_part(
    linear: Callable[[chex.Array, chex.Array], chex.Array], inputs: chex.Array
) -> Callable[[chex.Array, chex.Array], chex.Array]:
    """Let each device apply ``linear(inputs [batch, ...], kernel)`` to its own part of the batch.

    So that this is not left to the compiler, which for some of a convolution's derivatives collects
    the whole batch on every device, or does not know how to divide them where the mesh's axes are
    explicit. What the kernel receives is added up over the devices.

    Args:
      linear: acts on each example by itself.
      inputs: [batch, ...], or of one example.

    Returns:
      The same function; ``linear`` itself unless the mesh in use divides its batch.
    """
    axis = _axis_of_batch(inputs)
    if axis is None:
        return linear
    examples, everyone = PartitionSpec(axis), PartitionSpec()
    return jax.shard_map(
        linear,
        in_specs=(examples, everyone),
        out_specs=examples,
        axis_names=set(axis) if isinstance(axis, tuple) else {axis},
        check_vma=False,
    )


def _axis_of_batch(inputs: chex.Array) -> Any:
    """Return the axis of the mesh in use that divides ``inputs`` [batch, ...], if any."""
    mesh = jax.sharding.get_abstract_mesh()
    if inputs.ndim > 2 and mesh.explicit_axes:  # without a window the compiler knows how
        (axis,) = jax.typeof(inputs).sharding.spec[:1] or (None,)
        return axis
    if BATCH not in mesh.auto_axes or mesh.shape[BATCH] == 1 or inputs.ndim < 2:
        return None
    return None if inputs.shape[0] % mesh.shape[BATCH] else BATCH


def fetch(tree: chex.ArrayTree) -> chex.ArrayTree:
    """Copy arrays to this process's memory, wherever their parts lie. Waits for them."""

    def whole(x: Any) -> np.ndarray:
        if isinstance(x, jax.Array) and not (x.is_fully_addressable or x.is_fully_replicated):
            return multihost_utils.process_allgather(x, tiled=True)
        return np.asarray(x)

    return jax.tree.map(whole, tree)


def agree(flag: bool) -> bool:
    """Return the first process's ``flag``, on every process: what a clock says, all do alike."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.broadcast_one_to_all(np.bool_(flag)))
