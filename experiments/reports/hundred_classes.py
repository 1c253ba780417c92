"""100 classes of Tiny ImageNet, conv: with the class curriculum and without."""

from pathlib import Path

import numpy as np

from experiments.reports import runs, variants
from experiments.train.results import CONTROL

PUBLISHED = "cells/tiny_imagenet100_conv/paper"
VARIANTS = {"class curriculum": "hundred_classes/curriculum"}


def headline(results: Path) -> str | None:
    """Return the best accuracy with and without the curriculum, of the same seeds and epochs."""
    shown = variants.read(results, PUBLISHED, VARIANTS)
    if len(shown) < 2:
        return None
    recipe, variant = shown[variants.RECIPE], shown["class curriculum"]
    epochs = min(len(run.curves[runs.RULE]) for run in (recipe, variant))
    pair = runs.of_common_seeds(
        variant,
        np.nanmax(variant.curves[runs.RULE][:epochs], axis=0),
        recipe,
        np.nanmax(recipe.curves[runs.RULE][:epochs], axis=0),
    )
    ours, published = (f"{100 * best.mean():.2f}" for best in pair)
    plural = "s" * (variant.config.seeds > 1)
    ends = (f"{100 * recipe.best(rule).mean():.2f}" for rule in (runs.RULE, CONTROL))
    return (
        f"best test accuracy in {epochs} epochs, seed{plural} {runs.seeds(variant)}, %: "
        f"Q-AGREL, class curriculum {ours}, the published recipe {published}; without the "
        f"curriculum to the stopping rule, seeds {runs.seeds(recipe)}: {', backprop '.join(ends)}"
    )


def section(results: Path) -> str:
    """Return the curriculum beside the published recipe."""
    return variants.tables(results, "hundred_classes", PUBLISHED, VARIANTS)
