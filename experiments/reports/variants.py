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
    both = any(run.ran(CONTROL) for run in shown.values() if run is not recipe)
    rows = [
        [
            f"{display.shown(rule)}, {name}{runs.marks(run)}",
            runs.seeds(run),
            *runs.counted(run, rule, recipe),
            *([_at_equal_setting(run, rule)] if both else []),
        ]
        for rule in (runs.RULE, CONTROL)
        for name, run in shown.items()
        if run.ran(rule)
    ]
    # Where backprop did not run in a setting, that of the published recipe is beside it.
    published_control = {f"{CONTROL}, {RECIPE.removeprefix('the ')}": recipe.curves[CONTROL]}
    panels: list[tuple[str, dict, float | None]] = [
        (name, _begun(run) | ({} if run.ran(CONTROL) else published_control), None)
        for name, run in shown.items()
    ]
    plots.panels_of_curves(results / page / "learning_curves.png", panels, recipe.config.name)
    return "\n\n".join(
        [
            *(
                f"{name[0].upper()}{name[1:]}: {runs.provenance(run)}"
                for name, run in shown.items()
                if run is not recipe
            ),
            markdown.table(
                (
                    "setting",
                    "seeds",
                    *runs.counted_headings(recipe),
                    *(["slowdown, to 98 % of backprop at the same setting"] if both else []),
                ),
                rows,
            ),
            "The criteria are 95, 98 and 99 % of the accuracy of backprop with the published "
            "recipe. Slowdown is relative to its epochs"
            + (", in the last column to those of backprop at the same setting." if both else "."),
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


def _at_equal_setting(run: RunResults, rule: str) -> str:
    """Return the slowdown to 98 % of the accuracy that backprop has in ``run`` itself."""
    return runs.counted(run, rule, run)[-1] if run.ran(CONTROL) else "–"


def slowdowns(results: Path, published: str, variants: dict[str, str]) -> dict[str, str]:
    """Return each setting's slowdown to 98 % of the accuracy of the published recipe's backprop.

    Where backprop ran with a variant, too, the slowdown relative to that one is added.

    Args:
      results: ``experiments/results``.
      published: the folder of the published recipe's run.
      variants: those of the variants, by name.
    """
    found = {}
    shown = read(results, published, variants)
    for name, run in shown.items():
        found[name] = runs.counted(run, runs.RULE, shown[RECIPE])[-1]
        if run is not shown[RECIPE] and run.ran(CONTROL):
            found[name] += f" ({_at_equal_setting(run, runs.RULE)} relative to backprop with it)"
    return found


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
