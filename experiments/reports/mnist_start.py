"""The first epochs of the papers' dense network on MNIST, from He initialization."""

from pathlib import Path

from experiments.common import display
from experiments.common.significance import mean_sd
from experiments.reports import NOT_RUN, markdown, runs
from experiments.train import results as run_results


def section(results: Path) -> str:
    """Return accuracy by epoch of ``results/mnist_dense_he_8_epochs``."""
    run = run_results.read(results / "mnist_dense_he_8_epochs")
    if run is None:
        return NOT_RUN
    rows = []
    for rule, curve in run.curves.items():
        by_epoch = ", ".join(f"{100 * a:.2f}" for a in curve.mean(axis=1))
        rows.append([display.shown(rule), by_epoch, mean_sd(100 * run.accuracy(rule))])
    epochs = run.config.epochs
    headings = ("rule", f"validation accuracy %, epochs 1–{epochs}", "test accuracy %")
    *reached, _ = runs.epoch_rows(run)  # the best of eight epochs says nothing
    headings_reached = (
        "criterion",
        "accuracy, %",
        "Q-AGREL, epochs",
        "backprop, epochs",
        "slowdown",
    )
    return "\n\n".join(
        [
            runs.provenance(run),
            markdown.table(headings, rows),
            markdown.table(headings_reached, reached),
            *runs.notes(run),
        ]
    )
