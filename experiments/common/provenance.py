"""What produced a result: device, versions, commit, command, and arrays of one's own."""

import hashlib
import importlib.metadata
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from experiments.common.cli import UserError

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("jax", "jaxlib", "flax", "optax", "chex", "numpy", "tensorflow-datasets", "qagrel_jax")


def commit() -> str | None:
    """Return the checkout's commit (``-dirty`` if tracked files differ); None outside git.

    Results do not count: a run that is resumed changes its own.
    """
    try:
        head = _git("rev-parse", "HEAD")
        code = (".", ":(exclude)experiments/results")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", *code)
        return f"{head}-dirty" if changed else head
    except (OSError, subprocess.CalledProcessError):
        return None


def versions() -> dict[str, str]:
    """Return the version of Python and of every package a result depends on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def device(mesh: Any = None) -> str:
    """Return the devices of ``mesh`` (None: JAX's first) in words, as in ``2 x NVIDIA H100``.

    Of a CPU all cores count, whatever the mesh: ``cpu (2 cores, x86_64)``.
    """
    import jax

    first = jax.devices()[0]
    if first.platform == "cpu":
        return f"cpu ({os.cpu_count()} cores, {platform.machine()})"
    count = 1 if mesh is None else mesh.size
    return first.device_kind if count == 1 else f"{count} x {first.device_kind}"


def processor() -> str:
    """Return the model of the CPU, which times depend on, as the system calls it."""
    try:
        described = Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    models = re.findall(r"^model name\s*: (.+)$", described, re.MULTILINE)
    return models[0].strip() if models else platform.machine()


def environment(mesh: Any = None, dataset: Any = None) -> dict[str, object]:
    """Return device, processor, versions, commit and command as one JSON-ready dictionary.

    With a ``dataset`` of one's own arrays, whose name does not say what they are, also ``arrays``,
    their digest.
    """
    found: dict[str, object] = {
        "device": device(mesh),
        "processor": processor(),
        "versions": versions(),
        "commit": commit(),
        "command": shlex.join(["python", "-m", *_module_and_arguments()]),
    }
    digest = None if dataset is None else _arrays_of(dataset)
    return found if digest is None else found | {"arrays": digest}


def check_arrays(
    environments: Iterable[Mapping[str, Any]], dataset: Any, name: str, folder: Path
) -> None:
    """Raise ``UserError`` if arrays of one's own are not those of a run's earlier sessions.

    Args:
      environments: of these sessions; older ones do not tell.
      dataset: as it is now.
      name: what it was loaded by.
      folder: of the run.
    """
    before = {line["arrays"] for line in environments if "arrays" in line}
    if before and before != {_arrays_of(dataset)}:
        raise UserError(
            f"{name} holds other arrays than when the run in {folder} began: give the earlier "
            "ones, or choose another --out"
        )


def _arrays_of(dataset: Any) -> str | None:
    """Return a digest of arrays of one's own, None for a set whose version tells what it is."""
    if dataset.version != "npz":
        return None
    import numpy as np

    digest = hashlib.sha256()
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        array = getattr(dataset, name)
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def _module_and_arguments() -> list[str]:
    # A package runs as its ``__main__``: ``argv[0]`` does not tell which.
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    module = Path(sys.argv[0]).name if spec is None else spec.name.removesuffix(".__main__")
    return [module, *sys.argv[1:]]


def _git(*arguments: str) -> str:
    result = subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return result.stdout.strip()
