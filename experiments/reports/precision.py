"""What bfloat16 does to accuracy: the digits in both precisions, over the same seeds."""

from pathlib import Path

import numpy as np

from experiments import run_results, statistics
from experiments.reports import NOT_RUN, markdown, runs
from experiments.run_results import CONTROL

PRECISIONS = ("float32", "bfloat16")
FOLDERS = {"float32": "digits", "bfloat16": "digits_bfloat16"}


def section(results: Path) -> str:
    """Return the table of ``results/digits`` and ``results/digits_bfloat16``."""
    found = {p: run_results.read(results / folder) for p, folder in FOLDERS.items()}
    missing = [p for p, run in found.items() if run is None or not run.finished]
    if missing:
        return "\n".join(
            f"{NOT_RUN} `python -m experiments.train --precision {p} --out "
            f"experiments/results/{FOLDERS[p]}`"
            for p in missing
        )
    single, half = (found[p] for p in PRECISIONS)
    rows = []
    for rule in (runs.RULE, CONTROL):
        a, b = 100 * half.accuracy(rule), 100 * single.accuracy(rule)
        points, p = runs.points(a, b)
        rows.append(
            [
                rule,
                statistics.mean_sd(b),
                statistics.mean_sd(a),
                points,
                p,
                *(_epochs(run, rule) for run in (single, half)),
            ]
        )
    headings = ("rule", "float32, %", "bfloat16, %", "difference, points [95 %]", "p",
                "epochs to criterion, float32", "bfloat16")  # fmt: skip
    return "\n\n".join([runs.provenance(single), runs.provenance(half),
                        markdown.table(headings, rows)])  # fmt: skip


def _epochs(run: run_results.RunResults, rule: str) -> str:
    epochs = run.epochs_to(rule, run.target(0.98))
    return "not reached by all" if np.isnan(epochs).any() else statistics.mean_sd(epochs, 1)
