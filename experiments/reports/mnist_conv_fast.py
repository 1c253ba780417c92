"""MNIST's convolutional network with the settings that were found to be fast on the digits."""

from pathlib import Path

from experiments.reports import runs


def section(results: Path) -> str:
    """Return the tables of ``results/mnist_conv_fast``."""
    command = "python -m experiments.train mnist_conv_fast --seeds 1"
    return runs.tables(results, "mnist_conv_fast", command)
