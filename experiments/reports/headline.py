"""The table of the project's own README: what Q-AGREL reached beside backprop, and how soon."""

from pathlib import Path

from experiments.common.significance import mean_sd
from experiments.reports import NOT_RUN, markdown, runs
from experiments.reports.cells import PROTOCOLS
from experiments.reproduce.published import CELLS
from experiments.train import results as run_results
from experiments.train.results import CONTROL, RunResults

REACHED = "98 %"
"""Of backprop's accuracy: a row of ``runs.epoch_rows``."""


def section(results: Path) -> str:
    """Return one row a run: the embedded digits, then the papers' cells."""
    folders = [results / "digits"]
    folders += [results / "cells" / name / protocol for name in CELLS for protocol in PROTOCOLS]
    found = [run for folder in folders if (run := run_results.read(folder)) is not None]
    shown = [run for run in found if run.ran(runs.RULE) and run.ran(CONTROL)]
    if not shown:
        return NOT_RUN
    headings = ("config, protocol", "seeds", "Q-AGREL, test %", "backprop, test %",
                f"epochs to {REACHED} of backprop's accuracy", "slowdown", "commit")  # fmt: skip
    table = markdown.table(headings, [_row(run) for run in shown])
    if all(run.finished for run in shown):
        return table
    note = "\\* Not finished: the best so far on the images that pick the epoch."
    return f"{table}\n\n{note}"


def _row(run: RunResults) -> list[str]:
    config = run.config
    ((_, _, ours, control, slowdown),) = [r for r in runs.epoch_rows(run) if r[0] == REACHED]
    return [
        f"`{config.name}`, {config.protocol}" + ("" if run.finished else "\\*"),
        runs.seeds(run),
        *(mean_sd(100 * run.accuracy(rule)) for rule in (runs.RULE, CONTROL)),
        f"{ours} against {control}",
        slowdown,
        runs.commits(run),
    ]
