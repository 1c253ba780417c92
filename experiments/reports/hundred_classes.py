"""100 classes of Tiny ImageNet, conv: with the class curriculum and without."""

from pathlib import Path

from experiments.reports import runs, variants
from experiments.train.results import CONTROL

PUBLISHED = "cells/tiny_imagenet100_conv/paper"
VARIANTS = {"class curriculum": "hundred_classes/curriculum"}


def accuracies(results: Path) -> dict[str, float]:
    """Return Q-AGREL's best accuracy, %, with the recipe and each variant, and backprop's."""
    shown = variants.read(results, PUBLISHED, VARIANTS)
    best = {f"Q-AGREL, {n}": 100 * r.best(runs.RULE).mean() for n, r in shown.items()}
    if best:
        best["backprop"] = 100 * shown[variants.RECIPE].best(CONTROL).mean()
    return best


def section(results: Path) -> str:
    """Return the curriculum beside the published recipe."""
    return variants.tables(results, "hundred_classes", PUBLISHED, VARIANTS)
