"""The generated parts of ``experiments/README.md`` and ``README.md``: one module a part.

Each module ``NAME`` has ``section(results) -> str``: it reads the summaries below ``results``
(``experiments/results``), returns the Markdown of its part, and may draw pictures into the folders
it read. It imports no JAX, and says ``NOT_RUN`` for what is not there.
"""

import importlib
from pathlib import Path

NAMES = (
    "headline",
    "cells",
    "configs",
    "controls",
    "digits_fast",
    "learning_rate",
    "digits",
    "precision",
    "mnist_start",
    "agrel",
    "curve_tracing",
    "memory",
    "speed",
    "streaming",
)
NOT_RUN = "*Not run.*"


def section(name: str, results: Path) -> str:
    """Return the Markdown of the part ``name``."""
    return importlib.import_module(f"{__name__}.{name}").section(results).strip()
