"""MNIST, dense, from the papers' small weights: what shortens the wait for the classes."""

from pathlib import Path

from experiments.reports import NOT_RUN, markdown, runs
from experiments.train import results as run_results
from experiments.train.results import CONTROL, RunResults

PUBLISHED = "cells/mnist_dense/paper"
VARIANTS = {
    "class curriculum": "small_weights/curriculum",
    "Kolen–Pollack feedback": "small_weights/kolen_pollack",
}


def section(results: Path) -> str:
    """Return every variant beside the published recipe, epochs counted to the same accuracies."""
    from experiments import plots

    shown = _read(results)
    if len(shown) < 2:
        return NOT_RUN
    published, *_ = shown.values()
    variants = {name: run for name, run in shown.items() if run is not published}
    rows = [
        [f"{rule}, {name}{runs.marks(run)}", *runs.counted(run, rule, published)]
        for rule in (runs.RULE, CONTROL)
        for name, run in shown.items()
        if run.ran(rule)
    ]
    # Backprop of the published recipe is in every panel, so that the rules can be compared.
    panels: list[tuple[str, dict, float | None]] = [
        (name, run.curves | {CONTROL: run.curves.get(CONTROL, published.curves[CONTROL])}, None)
        for name, run in shown.items()
    ]
    plots.panels_of_curves(results / "small_weights" / "learning_curves.png", panels)
    return "\n\n".join(
        [
            *(f"{name[0].upper()}{name[1:]}: {_run(run)}" for name, run in variants.items()),
            markdown.table(("setting", *runs.counted_headings(published)), rows),
            "The criteria are 95, 98 and 99 % of the accuracy of backprop with the published "
            "recipe. Slowdown is relative to its epochs.",
            *_cut_off(shown),
            *runs.unfinished(shown),
            *runs.dropped(*shown.values()),
            "![Error rate by epoch](learning_curves.png)",
        ]
    )


def _cut_off(shown: dict[str, RunResults]) -> list[str]:
    """Return the note on runs that ``--epochs`` ended before their stopping rule."""
    cut = [
        f"{name} after {len(run.curves[runs.RULE])} epochs"
        for name, run in shown.items()
        if run.finished and len(run.curves[runs.RULE]) == run.config.epochs
    ]
    return [f"Ended before their stopping rule: {'; '.join(cut)}."] if cut else []


def slowdowns(results: Path) -> dict[str, str]:
    """Return each setting's slowdown to 98 % of the accuracy of the published recipe's backprop."""
    shown = _read(results)
    published = next(iter(shown.values()), None)
    if published is None:
        return {}
    return {name: runs.counted(run, runs.RULE, published)[-1] for name, run in shown.items()}


def _read(results: Path) -> dict[str, RunResults]:
    """Return the runs that are there, the published recipe first; none without it."""
    folders = {"the published recipe": PUBLISHED} | VARIANTS
    found = {name: run_results.read(results / folder) for name, folder in folders.items()}
    if found["the published recipe"] is None:
        return {}
    return {name: run for name, run in found.items() if run is not None and run.ran(runs.RULE)}


def _run(run: RunResults) -> str:
    return runs.provenance(run, "results/small_weights")
