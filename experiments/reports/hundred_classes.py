"""100 classes of Tiny ImageNet, conv: with the class curriculum and without."""

from pathlib import Path

from experiments.reports import runs, variants
from experiments.train.results import CONTROL

PUBLISHED = "cells/tiny_imagenet100_conv/paper"
VARIANTS = {"class curriculum": "hundred_classes/curriculum"}


def accuracies(results: Path) -> dict[str, str]:
    """Return the best accuracy with the recipe and each variant, and the epochs it is of."""
    shown = variants.read(results, PUBLISHED, VARIANTS)
    cells = {f"Q-AGREL, {name}": (run, runs.RULE) for name, run in shown.items()}
    if shown:
        cells["backprop"] = shown[variants.RECIPE], CONTROL
    return {
        name: f"{100 * run.best(rule).mean():.2f} after {len(run.curves[rule])} epochs"
        f"{'' if run.finished else ' (not finished)'}"
        for name, (run, rule) in cells.items()
    }


def section(results: Path) -> str:
    """Return the curriculum beside the published recipe."""
    return variants.tables(results, "hundred_classes", PUBLISHED, VARIANTS)
