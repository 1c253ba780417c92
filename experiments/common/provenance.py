"""What produced a result: device, versions, commit, command."""

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

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


def environment(mesh: Any = None) -> dict[str, object]:
    """Return device, versions, commit and command as one JSON-ready dictionary."""
    return {
        "device": device(mesh),
        "versions": versions(),
        "commit": commit(),
        "command": shlex.join(["python", "-m", *_module_and_arguments()]),
    }


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
