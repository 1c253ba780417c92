"""Variants beside the published recipe, their epochs counted to the same accuracies."""

from pathlib import Path

import numpy as np

from experiments.common import display
from experiments.reports import NOT_RUN, markdown, runs
from experiments.train import results as run_results
from experiments.train.results import CONTROL, RunResults

RECIPE = "the published recipe"


def tables(results: Path, page: str, published: str, variants: dict[str, str]) -> str:
    """Return every variant beside the published recipe; draw their learning curves.

    Args:
      results: ``experiments/results``.
      page: the folder below it on whose page this stands.
      published: the folder of the published recipe's run.
      variants: those of the variants, by name.
    """
    from experiments import plots

    shown = read(results, published, variants)
    if len(shown) < 2:
        return NOT_RUN
    recipe = shown[RECIPE]
    rows = [
        [
            f"{display.shown(rule)}, {name}{runs.marks(run)}",
            runs.seeds(run),
            *runs.counted(run, rule, recipe),
        ]
        for rule in (runs.RULE, CONTROL)
        for name, run in shown.items()
        if run.ran(rule)
    ]
    # Backprop of the published recipe is in every panel, so that the rules can be compared.
    panels: list[tuple[str, dict, float | None]] = [
        (name, _begun(run) | {CONTROL: _begun(run).get(CONTROL, recipe.curves[CONTROL])}, None)
        for name, run in shown.items()
    ]
    plots.panels_of_curves(results / page / "learning_curves.png", panels)
    return "\n\n".join(
        [
            *(
                f"{name[0].upper()}{name[1:]}: {runs.provenance(run, f'results/{page}')}"
                for name, run in shown.items()
                if run is not recipe
            ),
            markdown.table(("setting", "seeds", *runs.counted_headings(recipe)), rows),
            "The criteria are 95, 98 and 99 % of the accuracy of backprop with the published "
            "recipe. Slowdown is relative to its epochs.",
            *_cut_off(shown),
            *runs.unfinished(shown),
            *runs.notes(*shown.values()),
            "![Error rate by epoch](learning_curves.png)",
        ]
    )


def _begun(run: RunResults) -> dict[str, np.ndarray]:
    return {rule: curve for rule, curve in run.curves.items() if len(curve)}


def _cut_off(shown: dict[str, RunResults]) -> list[str]:
    """Return the note on runs that ``--epochs`` ended before their stopping rule."""
    cut = [
        f"{name} after {len(run.curves[runs.RULE])} epochs"
        for name, run in shown.items()
        if run.finished and len(run.curves[runs.RULE]) == run.config.epochs
    ]
    return [f"Ended before their stopping rule: {'; '.join(cut)}."] if cut else []


def slowdowns(results: Path, published: str, variants: dict[str, str]) -> dict[str, str]:
    """Return each setting's slowdown to 98 % of the accuracy of the published recipe's backprop.

    Args:
      results: ``experiments/results``.
      published: the folder of the published recipe's run.
      variants: those of the variants, by name.
    """
    shown = read(results, published, variants)
    return {name: runs.counted(run, runs.RULE, shown[RECIPE])[-1] for name, run in shown.items()}


def read(results: Path, published: str, variants: dict[str, str]) -> dict[str, RunResults]:
    """Return the runs that are there, the published recipe first; none without it.

    Args:
      results: ``experiments/results``.
      published: the folder of the published recipe's run.
      variants: those of the variants, by name.
    """
    folders = {RECIPE: published} | variants
    found = {name: run_results.read(results / folder) for name, folder in folders.items()}
    recipe = found[RECIPE]
    if recipe is None or not recipe.ran(CONTROL):
        return {}
    return {name: run for name, run in found.items() if run is not None and run.ran(runs.RULE)}
