"""The generated sections of the project's pages: one module a section.

Each module ``NAME`` has ``section(results) -> str``: it reads the summaries below ``results``
(``experiments/results``), returns the Markdown of its section, and may draw pictures into the
folders it read. Its links are relative to the one page it stands on. It imports no JAX, and says
``NOT_RUN`` for what is not there.
"""

import importlib
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]

NAMES = (
    "headline",
    "feedback_headline",
    "quick_mnist",
    "index",
    "cells",
    "configs",
    "controls",
    "digits_fast",
    "mnist_fast",
    "mnist_conv_fast",
    "learning_rate",
    "small_weights",
    "hundred_classes",
    "update_statistics",
    "digits",
    "precision",
    "mnist_start",
    "agrel",
    "curve_tracing",
    "feedback",
    "memory",
    "memory_speed",
    "speed",
    "streaming",
)
NOT_RUN = "*Not run.*"


def named(path: Path) -> str:
    """Return how a page names a file or folder: from the checkout's root if it lies in it."""
    whole = path.resolve()
    inside = whole.is_relative_to(CHECKOUT)
    return (whole.relative_to(CHECKOUT) if inside else path).as_posix()


def section(name: str, results: Path) -> str:
    """Return the Markdown of the section ``name``."""
    return importlib.import_module(f"{__name__}.{name}").section(results).strip()
