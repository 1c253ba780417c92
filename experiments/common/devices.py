"""Several devices, several processes: the options, and who writes.

    python -m experiments.train --seeds 8 --mesh seeds   # seeds divided over all devices
    python -m experiments.train --seeds 8 --mesh 2x4     # seeds over 2, each batch over 4

Seeds and batch size must divide evenly.

Without an accelerator a mesh of N devices is N threads of the CPU: seeds side by side on cores of
their own get on faster than each in turn on all the cores. So do the parts of a batch where a net
has few weights for its work (``deep``), whose changes the cores add up at every step.

The same command in every process, each with its own ``--process``; JAX joins them (``auto`` asks
SLURM, Open MPI, Kubernetes or a TPU for the rest):

    python -m experiments.train --coordinator HOST:PORT --processes 2 --process 0
    python -m experiments.train --coordinator HOST:PORT --processes 2 --process 1

The first process alone writes into the run's folder. The others get a copy of what is there, in a
temporary folder of their own, so that all decide alike: whether to resume, and from where.
"""

import argparse
import contextlib
import io
import math
import os
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common import cli
from experiments.common.cli import UserError


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the options of this module."""
    group = parser.add_argument_group("several devices, several processes")
    add_mesh_option(group)
    group.add_argument(
        "--coordinator",
        type=_address,
        metavar="HOST:PORT",
        help="where the first process listens, or auto",
    )
    whole = cli.number(int, 0, 10**6)
    group.add_argument("--processes", type=whole, metavar="N", help="how many there are")
    group.add_argument("--process", type=whole, metavar="I", help="which this is, 0 to N - 1")


MOST_CPU_DEVICES = 64
"""Threads that a CPU is taken for, at most, unless it has more cores."""


def add_mesh_option(parser: Any) -> None:
    """Give ``parser`` the option ``--mesh``, alone."""
    parser.add_argument(
        "--mesh",
        type=_mesh_shape,
        metavar="SHAPE",
        help="devices to divide seeds and batches over: seeds (all of them), batch (all of them), "
        "or SEEDSxBATCH, e.g. 2x4 (default: one device; with several processes: seeds); on a CPU "
        "2x1 trains two seeds at a time, each on a core of its own, and 1x2 halves each batch",
    )


def join(arguments: argparse.Namespace) -> Any:
    """Join the other processes, if there are any, and arrange the devices of all.

    Returns:
      A ``Mesh`` (see ``qagrel_jax.sharding``), or None for one device.

    Raises:
      UserError: the processes do not find each other, or the mesh does not fit the devices.
    """
    several = arguments.coordinator is not None
    if not several and (arguments.processes is not None or arguments.process is not None):
        raise UserError("--processes and --process go with --coordinator HOST:PORT")
    if not several:
        return arrange(arguments.mesh)
    if arguments.coordinator != "auto" and None in (arguments.processes, arguments.process):
        raise UserError("--coordinator HOST:PORT needs --processes N and --process I")
    if arguments.processes is not None and (arguments.process or 0) >= arguments.processes:
        raise UserError(
            f"--process must be below --processes {arguments.processes}, got {arguments.process}"
        )

    import jax

    try:
        auto = arguments.coordinator == "auto"
        jax.distributed.initialize(
            None if auto else arguments.coordinator, arguments.processes, arguments.process
        )
        return _mesh(arguments.mesh or "seeds")
    except (ValueError, RuntimeError) as error:
        raise UserError(str(error)) from None


def arrange(shape: str | tuple[int, int] | None) -> Any:
    """Arrange the devices of this process alone, as ``--mesh`` says: a ``Mesh``; None for None.

    Raises:
      UserError: the mesh does not fit the devices.
    """
    if shape is None:
        return None
    if isinstance(shape, tuple) and math.prod(shape) <= max(MOST_CPU_DEVICES, os.cpu_count() or 1):
        make_cpu_devices(math.prod(shape))
    try:
        return _mesh(shape)
    except ValueError as error:
        raise UserError(str(error)) from None


def _mesh(shape: str | tuple[int, int]) -> Any:
    import jax

    from qagrel_jax import sharding

    everything = {"seeds": (jax.device_count(), 1), "batch": (1, jax.device_count())}
    return sharding.make_mesh(*(everything[shape] if isinstance(shape, str) else shape))


def make_cpu_devices(number: int) -> None:
    """Let JAX take the CPU for so many devices, unless XLA_FLAGS says how many or JAX is awake."""
    import jax

    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    with contextlib.suppress(RuntimeError):  # too late: the mesh will say what it lacks
        jax.config.update("jax_num_cpu_devices", number)


def check(mesh: Any, seeds: int, batch_size: int) -> None:
    """Raise ``UserError`` unless seeds and batches divide evenly over the ``mesh`` or its shape."""
    if mesh is None or isinstance(mesh, str):
        return
    parts = mesh if isinstance(mesh, tuple) else (mesh.shape["seeds"], mesh.shape["batch"])
    sizes = (("--seeds", seeds), ("--batch-size", batch_size))
    for (option, size), number in zip(sizes, parts, strict=True):
        if size % number:
            raise UserError(
                f"{option} {size} does not divide evenly over {number} devices: choose "
                "another, or another --mesh"
            )


@contextlib.contextmanager
def own_folder(folder: Path | None, mesh: Any) -> Iterator[Path | None]:
    """Give the first process ``folder``, any other a temporary copy of it, and no standard output.

    Args:
      folder: of the run; None if it is yet to be named.
      mesh: from ``join``.
    """
    if mesh is None or len({device.process_index for device in mesh.devices.flat}) == 1:
        yield folder
        return

    import jax

    content = _of_first_process(_pack(folder) if jax.process_index() == 0 else b"")
    if jax.process_index() == 0:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="qagrel_jax_") as copy:
        _unpack(content, Path(copy))
        with contextlib.redirect_stdout(io.StringIO()):
            yield Path(copy)


@contextlib.contextmanager
def together(mesh: Any) -> Iterator[None]:
    """End every process when the first one alone cannot continue, rather than leave them waiting.

    Raises:
      UserError: what the first process met with; in the others, that it did.
    """
    from qagrel_jax import sharding

    met = None
    try:
        yield
    except UserError as error:
        met = error
    if mesh is not None and not sharding.agree(met is None) and met is None:
        raise UserError("the first process cannot continue; its own message says why")
    if met is not None:
        raise met


def _pack(folder: Path | None) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        if folder is not None and folder.is_dir():
            for path in sorted(folder.iterdir()):
                if path.is_file() and not path.name.startswith("."):
                    archive.add(path, path.name)
    return packed.getvalue()


def _unpack(packed: bytes, folder: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")


def _of_first_process(content: bytes) -> bytes:
    from jax.experimental.multihost_utils import broadcast_one_to_all

    digits = np.frombuffer(len(content).to_bytes(8, "little"), np.uint8)
    size = int.from_bytes(broadcast_one_to_all(digits).tobytes(), "little")
    buffer = np.zeros(size, np.uint8)
    buffer[: len(content)] = np.frombuffer(content, np.uint8)
    return broadcast_one_to_all(buffer).tobytes()


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if text != "auto" and not (host and port.isdecimal() and 0 < int(port) < 2**16):
        raise argparse.ArgumentTypeError(f"must be HOST:PORT or auto, got {text!r}")
    return text


def _mesh_shape(text: str) -> str | tuple[int, int]:
    if text in ("seeds", "batch"):
        return text
    seeds, x, batch = text.partition("x")
    if not (x and seeds.isdigit() and batch.isdigit() and int(seeds) and int(batch)):
        raise argparse.ArgumentTypeError(
            f"must be seeds, batch, or SEEDSxBATCH such as 2x4, got {text!r}"
        )
    return int(seeds), int(batch)
