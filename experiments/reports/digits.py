"""Q-AGREL against backpropagation on the embedded digits, the run of the first command."""

from pathlib import Path

from experiments import run_results
from experiments.reports import NOT_RUN, markdown, runs
from experiments.run_results import CONTROL


def section(results: Path) -> str:
    """Return the table of ``results/digits``."""
    run = run_results.read(results / "digits")
    if run is None:
        return f"{NOT_RUN} `python -m experiments.train --out experiments/results/digits`"
    difference, p = runs.difference(run)
    accuracies = [[rule, markdown.spread(100 * run.accuracy(rule))]
                  for rule in (runs.RULE, CONTROL) if run.ran(rule)]  # fmt: skip
    tail = [] if run.finished else [f"Not finished: {runs.progress(run)}."]
    return "\n\n".join(
        [
            runs.provenance(run),
            markdown.table(("rule", "test accuracy %, mean (sd) [range]"), accuracies),
            f"Q-AGREL − backprop, over the same seeds: {difference} points (95 % interval; paired "
            f"t test, p = {p}).",
            markdown.table(
                ("epochs to", "that is, %", "Q-AGREL", "backprop", "slowdown [95 %]"),
                runs.epoch_rows(run),
            ),
            *tail,
            "![Learning curves on the digits](results/digits/learning_curves.png)",
        ]
    )
