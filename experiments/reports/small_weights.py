"""MNIST, dense, from the papers' small weights: what shortens the wait for the classes."""

from pathlib import Path

from experiments.reports import variants

PUBLISHED = "cells/mnist_dense/paper"
VARIANTS = {
    "class curriculum": "small_weights/curriculum",
    "Kolen–Pollack feedback": "small_weights/kolen_pollack",
}
WITHOUT_WAIT = {"He initialization": "small_weights/he"}
"""Other initial weights, from which all classes are learned at once."""


def section(results: Path) -> str:
    """Return every variant beside the published recipe."""
    return variants.tables(results, "small_weights", PUBLISHED, VARIANTS | WITHOUT_WAIT)


def slowdowns(results: Path) -> dict[str, str]:
    """Return each setting's slowdown to 98 % of the accuracy of the published recipe's backprop."""
    return variants.slowdowns(results, PUBLISHED, VARIANTS)
