"""MNIST with the settings that were found to be fast on the digits."""

from pathlib import Path

from experiments.reports import runs


def section(results: Path) -> str:
    """Return the tables of ``results/mnist_dense_fast``."""
    return runs.tables(results, "mnist_dense_fast", "python -m experiments.train mnist_dense_fast")
