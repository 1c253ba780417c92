"""What lower precisions do to accuracy: the digits in each, over the same seeds."""

from pathlib import Path

import numpy as np

from experiments.common import display, fields
from experiments.common import significance as statistics
from experiments.reports import NOT_RUN, markdown, named, runs
from experiments.train import idle
from experiments.train import results as run_results
from experiments.train.results import CONTROL

FOLDERS = {
    "float32": "digits",
    "tensorfloat32": "digits_tensorfloat32",
    "bfloat16": "digits_bfloat16",
}
"""``results/`` folders by precision; the others are compared with the first."""


def section(results: Path) -> str:
    """Return the table of the digits in every precision that has been run.

    Args:
      results: the folder of results.
    """
    found = {p: run_results.read(results / folder) for p, folder in FOLDERS.items()}
    done, others = comparable(found)
    missing = [
        f"{NOT_RUN} `python -m experiments.train --precision {p} --out "
        f"{named(results / FOLDERS[p])}`"
        for p in found
        if p not in done and p not in others
    ]
    notes = [*missing, *others.values()]
    if "float32" not in done or len(done) == 1:
        return "\n".join(notes)
    rows = [
        _row(rule, precision, run, done["float32"])
        for rule in (runs.RULE, CONTROL)
        for precision, run in done.items()
    ]
    headings = (
        "rule",
        "precision",
        "test accuracy %, mean (sd)",
        "difference to float32, points [95 %]",
        "p",
        "epochs to 98 % of backprop",
    )
    return "\n\n".join(
        [
            *map(runs.provenance, done.values()),
            markdown.table(headings, rows),
            *runs.notes(*done.values()),
            *notes,
        ]
    )


def comparable(
    found: dict[str, run_results.RunResults | None],
) -> tuple[dict[str, run_results.RunResults], dict[str, str]]:
    """Return the finished runs of both rules, and why others are not compared with float32."""
    done = {
        precision: run
        for precision, run in found.items()
        if run is not None and run.finished and run.ran(runs.RULE) and run.ran(CONTROL)
    }
    if "float32" not in done:
        return done, {}
    single, others = done["float32"], {}
    for precision, run in done.items():
        both_idle = idle.names(run.config) & idle.names(single.config)
        free = {*run_results.NOT_RECIPE, "precision", *both_idle}
        names = [n for n in fields.difference(run.config, single.config) if n not in free]
        if names:
            told = fields.told(run.config, single.config, names)
            others[precision] = f"{precision} is not compared with float32: {told}."
    return {p: run for p, run in done.items() if p not in others}, others


def _row(
    rule: str, precision: str, run: run_results.RunResults, single: run_results.RunResults
) -> list[str]:
    ours, reference = 100 * run.accuracy(rule), 100 * single.accuracy(rule)
    common = runs.of_common_seeds(run, ours, single, reference)
    difference = ("–", "–") if run is single else runs.points(*common)
    epochs = run.epochs_to(rule, run.target(0.98))
    reached = "not reached by all" if np.isnan(epochs).any() else statistics.mean_sd(epochs, 1)
    precision += runs.marks(run)
    return [display.shown(rule), precision, statistics.mean_sd(ours), *difference, reached]
