"""The digits again with the settings found to be fast, on seeds that did not choose them."""

from pathlib import Path

from experiments.reports import runs


def section(results: Path) -> str:
    """Return the tables of ``results/digits_fast``."""
    command = "python -m experiments.train digits_fast --first-seed 100"
    return runs.tables(results, "digits_fast", command)
