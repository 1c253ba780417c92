"""MNIST, dense, from the papers' small weights: what shortens the wait for the classes."""

from pathlib import Path

from experiments.common import display, files
from experiments.reports import markdown, runs, variants
from experiments.tangent_kernel import FILE, mean, shown

PUBLISHED = "cells/mnist_dense/paper"
VARIANTS = {
    "class curriculum": "small_weights/curriculum",
    "Kolen–Pollack feedback": "small_weights/kolen_pollack",
    "sign feedback, scale 4": "small_weights/sign",
}
OTHER_RECIPES = {
    "class curriculum, Kolen–Pollack": "small_weights/curriculum_kolen_pollack",
    "class curriculum, sign feedback, scale 4": "small_weights/curriculum_sign",
    "learning rate 0.3": "small_weights/rate_0.3",
    "class curriculum, learning rate 0.3": "small_weights/curriculum_rate_0.3",
    "He initialization": "small_weights/he",
}
"""Both at once; another learning rate; other initial weights, which know all classes at once."""


def section(results: Path) -> str:
    """Return every variant beside the published recipe, and how fast each can learn."""
    settings = VARIANTS | OTHER_RECIPES
    tables = variants.tables(results, "small_weights", PUBLISHED, settings)
    return "\n\n".join([tables, *_tangent_kernel(results / "small_weights" / FILE)])


def slowdowns(results: Path) -> dict[str, str]:
    """Return each setting's slowdown to 98 % of the accuracy of the published recipe's backprop."""
    return variants.slowdowns(results, PUBLISHED, VARIANTS)


def _tangent_kernel(path: Path) -> list[str]:
    """Return the table of the neural tangent kernel; nothing where it was not measured."""
    content = files.read_json(path)
    if content is None:
        return []
    rows = [
        [
            f"`{line['run']}`, {display.shown(line['rule'])}",
            f"{mean(line, 'epoch'):.0f}",
            f"{100 * mean(line, 'accuracy'):.2f}",
            *(shown(mean(line, name)) for name in ("output", "before", "kernel")),
        ]
        for line in content["runs"]
    ]
    seeds = sorted({network["seed"] for line in content["runs"] for network in line["networks"]})
    named = f"seeds {seeds[0]}–{seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"
    return [
        f"**How far one update moves an output.** K = ‖∂q_s/∂w‖², mean of {content['images']} test "
        f"images, at the best epoch. Command: `{content['command']}`; {named}; "
        f"{content['device']}; commit `{runs.short(content['commit'])}`.",
        markdown.table(
            ("run", "epoch", "accuracy %", "greedy output", "K before learning", "K"), rows
        ),
        "Runs: "
        + "; ".join(f"`{line['run']}`: `{line['command']}`" for line in content["runs"])
        + ".",
    ]
