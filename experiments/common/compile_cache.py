"""Compiled programs kept on disk: a second run of the same network starts without compiling it.

JAX's persistent compilation cache, in ``compiled`` below the folder of the decoded images
(``qagrel_jax.data.cache.default_folder``): $QAGREL_JAX_CACHE, else $XDG_CACHE_HOME/qagrel_jax,
else ~/.cache/qagrel_jax. JAX's own variables go before: $JAX_COMPILATION_CACHE_DIR puts it
elsewhere, JAX_ENABLE_COMPILATION_CACHE=false switches it off.
"""

import os
import sys
from pathlib import Path

SHORTEST_COMPILATION = 0.1
"""Seconds a compilation must take to be kept. JAX's own, 1, leaves out most of a small network."""


def switch_on() -> None:
    """Tell JAX where to keep what it compiles, if nobody has, and if that place can be written.

    JAX is not imported for it, so that bad input is refused fast: until it is, it is told by its
    environment variables.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        try:
            folder = default_folder()
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, RuntimeError):  # no home folder
            return  # a cache only saves time
        if not os.access(folder, os.W_OK):
            return
        _set("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        _set("jax_persistent_cache_min_compile_time_secs", SHORTEST_COMPILATION)


def default_folder() -> Path:
    """Return ``compiled`` below ``data.cache.default_folder()``, without importing JAX.

    Raises:
      RuntimeError: it would be in the home folder, and none is known.
    """
    if own := os.environ.get("QAGREL_JAX_CACHE"):
        return Path(own).expanduser() / "compiled"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "qagrel_jax" / "compiled"


def _set(name: str, value: str | float) -> None:
    os.environ[name.upper()] = str(value)  # also for the processes that this one starts
    if jax := sys.modules.get("jax"):
        jax.config.update(name, value)
