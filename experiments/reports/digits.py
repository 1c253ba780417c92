"""Q-AGREL against backpropagation on the embedded digits, the default of the command."""

from pathlib import Path

from experiments.reports import runs


def section(results: Path) -> str:
    """Return the tables of ``results/digits``."""
    return runs.tables(results, "digits", "python -m experiments.train")
