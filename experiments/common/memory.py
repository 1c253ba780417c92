"""Whether a run fits the memory: asked before hours are spent, or the system ends the process."""

import contextlib
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.common.cli import UserError


def size(make: Callable[..., Any], *arguments: Any) -> int:
    """Return the bytes of the arrays that ``make(*arguments)`` would return."""
    import jax

    arrays = jax.tree.leaves(jax.eval_shape(make, *arguments))
    return sum(math.prod(array.shape) * array.dtype.itemsize for array in arrays)


def check(needed: int, what: str, options: str) -> None:
    """Raise ``UserError`` if ``needed`` bytes are more than there is on all devices together.

    Args:
      needed: the least number of bytes.
      what: takes them.
      options: what to lower.
    """
    there = available()
    if there is not None and needed > there:
        raise UserError(
            f"{what} take at least {needed / 2**30:,.1f} GiB, and there are "
            f"{there / 2**30:,.1f} GiB of memory: lower {options}"
        )


def available() -> int | None:
    """Return the bytes of memory of all devices, of the machine for a CPU; None if unknown."""
    import jax

    if jax.default_backend() != "cpu":
        # Only a process's own devices tell it; the other processes' are taken to be alike.
        own = jax.local_devices()
        limits = [(device.memory_stats() or {}).get("bytes_limit") for device in own]
        known = [limit for limit in limits if limit is not None]
        processes = jax.device_count() // jax.local_device_count()
        return sum(known) * processes if len(known) == len(limits) else None
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not Unix
        return None
    with contextlib.suppress(OSError, ValueError):  # no limit of a container
        machine = min(machine, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return machine
