"""The table of the project's own README: accuracy of both rules, their difference, slowdown."""

from pathlib import Path

from experiments.common import display
from experiments.common.significance import mean_sd
from experiments.reports import NOT_RUN, markdown, runs
from experiments.reports.cells import PROTOCOLS
from experiments.reproduce.published import CELLS
from experiments.train import results as run_results
from experiments.train.results import CONTROL, RunResults

RULES = (runs.RULE, CONTROL)
MEASURES = {"the best epoch": "slowdown, best epoch", "98 %": "slowdown, 98 % of backprop"}
"""The papers' measure and the stricter one: rows of ``runs.epoch_rows``, and their headings."""


def section(results: Path) -> str:
    """Return one row a run: the digits, MNIST with the fast settings, then the papers' cells."""
    folders = [results / name for name in ("digits", "mnist_dense_fast", "mnist_conv_fast")]
    folders += [results / "cells" / name / protocol for name in CELLS for protocol in PROTOCOLS]
    found = [run for folder in folders if (run := run_results.read(folder)) is not None]
    shown = [run for run in found if run.ran(runs.RULE) and run.ran(CONTROL)]
    if not shown:
        return NOT_RUN
    headings = (
        "config, protocol, seeds",
        *(f"{display.shown(rule)}, test %" for rule in RULES),
        "difference, points",
        *MEASURES.values(),
    )
    notes = runs.unfinished({f"`{run.config.name}`, {run.config.protocol}": run for run in shown})
    notes += runs.notes(*shown)
    table = markdown.table(headings, [_row(run) for run in shown])
    if "(no interval)" in table:
        notes.append(runs.NO_INTERVAL)
    return "\n\n".join([table, *notes])


def _row(run: RunResults) -> list[str]:
    config = run.config
    slowdowns = {row[0]: row[-1] for row in runs.epoch_rows(run)}
    return [
        f"`{config.name}`, {config.protocol}, {runs.seeds(run)}{runs.marks(run)}",
        *(mean_sd(100 * run.accuracy(rule)) for rule in RULES),
        runs.difference(run)[0],
        *(slowdowns[measure] for measure in MEASURES),
    ]
