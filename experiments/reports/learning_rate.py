"""MNIST, dense, at ten times the learning rate of the authors' published code."""

from pathlib import Path

from experiments.common import display
from experiments.reports import NOT_RUN, markdown, named, runs
from experiments.train import results as run_results
from experiments.train.results import CONTROL, RunResults

FOLDERS = ("cells/mnist_dense/paper", "mnist_dense_rate_1")
COMMAND = "python -m experiments.train mnist_dense --learning-rate 1 --seeds 3"
CLEAN = f"{FOLDERS[1]}/clean"
"""The run whose epoch a validation split picks."""


def section(results: Path) -> str:
    """Return both rules at both rates, their epochs counted to the same accuracies.

    And both at the higher one where a validation split picks the epoch.
    """
    from experiments import plots

    published, faster = (run_results.read(results / folder) for folder in FOLDERS)
    if published is None or faster is None:
        return f"{NOT_RUN} `{COMMAND} --out {named(results / FOLDERS[1])}`"
    plots.learning_curves(faster.folder, faster.folders)
    rows = [
        [
            f"{display.shown(rule)}{runs.marks(run)}",
            f"{run.config.learning_rate:g}",
            *runs.counted(run, rule, published),
        ]
        for rule in (runs.RULE, CONTROL)
        for run in (published, faster)
        if run.ran(rule)
    ]
    headings = ("rule", "learning rate", *runs.counted_headings(published))
    parts = [
        runs.provenance(faster),
        markdown.table(headings, rows),
        "The criteria are 95, 98 and 99 % of the accuracy of backprop at a learning rate of "
        f"{published.config.learning_rate:g}. Slowdown is relative to its epochs.",
        *_at_the_same_rate(faster),
        *runs.notes(published, faster),
        "![Learning curves](learning_curves.png)",
    ]
    if not faster.finished:
        why = f" It cannot be resumed: {faster.failure}." if faster.failure else ""
        parts.insert(2, f"Not finished: {runs.progress(faster)}.{why}")
    parts += [
        "**Protocol `clean`**, a learning rate of 1: a tenth of the training images, held out, "
        "picks the epoch, and the test images are read once.",
        runs.tables(results, CLEAN, f"{COMMAND} --protocol clean", "clean/learning_curves.png"),
    ]
    return "\n\n".join(parts)


def _at_the_same_rate(run: RunResults) -> list[str]:
    if not (run.ran(runs.RULE) and run.ran(CONTROL)):
        return []
    return [
        f"Both rules at a learning rate of {run.config.learning_rate:g}:",
        *runs.comparison(run),
    ]
