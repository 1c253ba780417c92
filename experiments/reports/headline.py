"""The table of the project's own README: what Q-AGREL reached beside backprop, and how soon."""

from pathlib import Path

from experiments import run_results
from experiments.published import CELLS
from experiments.reports import NOT_RUN, markdown, runs
from experiments.reports.cells import PROTOCOLS
from experiments.run_results import CONTROL, RunResults
from experiments.statistics import mean_sd

LEVEL = 0.98


def section(results: Path) -> str:
    """Return one row a run: the embedded digits, then the papers' cells."""
    folders = [results / "digits"]
    folders += [results / "cells" / name / protocol for name in CELLS for protocol in PROTOCOLS]
    found = [run for folder in folders if (run := run_results.read(folder)) is not None]
    rows = [_row(run) for run in found if run.ran(runs.RULE) and run.ran(CONTROL)]
    if not rows:
        return NOT_RUN
    headings = ("config, protocol", "seeds", "Q-AGREL, test %", "backprop, test %",
                "epochs to 98 % of backprop's accuracy", "slowdown", "commit")  # fmt: skip
    note = ("\\* Not finished: the best so far."
            if not all(run.finished for run in found) else "")  # fmt: skip
    return "\n\n".join(part for part in (markdown.table(headings, rows), note) if part)


def _row(run: RunResults) -> list[str]:
    config = run.config
    wanted = f"{100 * LEVEL:g} %"
    ((_, _, ours, control, slowdown),) = [r for r in runs.epoch_rows(run) if r[0] == wanted]
    return [
        f"`{config.name}`, {config.protocol}" + ("" if run.finished else "\\*"),
        runs.seeds(run),
        *(mean_sd(100 * run.accuracy(rule)) for rule in (runs.RULE, CONTROL)),
        f"{ours} against {control}",
        slowdown,
        runs.commits(run),
    ]
