"""Pictures of curve-tracing runs: lengths learned, longer curves, activity along the curve."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from experiments.plots import COLORS, LINES, figure, whole_numbers

SHOWN = 8
"""Moments at which activity is drawn."""


def learning(path: Path, content: dict[str, Any], lines: list[dict[str, Any]]) -> None:
    """Draw training trials to each curve length, and the accuracy of the frozen tests.

    Args:
      path: of the PNG.
      content: of ``summary.json``.
      lines: of the frozen tests.
    """
    networks = content["networks"]
    few = networks <= len(COLORS)
    with figure(path, 9.0, 3.8, ncols=2) as (drawing, (left, right)):
        lengths = [int(n) for n in content["trials_by_length"]]
        trials = np.array(list(content["trials_by_length"].values()), dtype=float)
        for n in range(networks):
            style = _style(n, few)
            left.plot(lengths, trials[:, n], marker=".", label=f"network {n}" * few, **style)
            here = [line for line in lines if line["learning"][n]]
            x = [line["trials"] for line in here]
            right.plot(x, [100 * line["accuracy"][n] for line in here], marker=".", **style)
        complete = ~np.isnan(trials).any(1)
        if complete.any():
            mean = trials[complete].mean(1)
            left.plot(
                np.array(lengths)[complete], mean, color="0.2", linewidth=3, alpha=0.4, label="mean"
            )
        left.set_xlabel("curve length (pixels)")
        left.set_ylabel("training trials")
        left.set_ylim(bottom=0)
        left.yaxis.set_major_formatter("{x:,.0f}")
        whole_numbers(left.xaxis, left.yaxis, right.xaxis)
        left.legend(fontsize=8)
        right.axhline(100 * content["config"]["accuracy"], color="0.4", linestyle=":")
        right.set_xlabel("training trials")
        right.xaxis.set_major_formatter("{x:,.0f}")
        right.set_ylabel("accuracy in frozen tests (%),\nat the current length")
        config = content["config"]
        where = ", no pixel beside both curves" * bool(config.get("apart"))
        drawing.suptitle(
            f"Curves of {content['max_length']} pixels{where}, seed {config['seed']}: "
            f"{content['converged']} of {networks} networks reach {config['accuracy']:.0%},\n"
            f"{content['all_right']['converged']} have a test without an error",
            fontsize=11,
        )


def generalization(path: Path, content: dict[str, Any]) -> None:
    """Draw the accuracy of the tests at the end against the curves' length.

    Args:
      path: of the PNG.
      content: of ``summary.json``.
    """
    lengths = [int(n) for n in content["accuracy"]]
    accuracy = 100 * np.array(list(content["accuracy"].values()))
    few = content["networks"] <= len(COLORS)
    with figure(path, 6.0, 4.0) as (_, axes):
        for n in range(content["networks"]):
            axes.plot(
                lengths, accuracy[:, n], marker=".", label=f"network {n}" * few, **_style(n, few)
            )
        trained = lengths[0] - 0.5, content["max_length"] + 0.5  # wide even of a single length
        axes.axvspan(*trained, color="0.5", alpha=0.15, linewidth=0)
        axes.axhline(50, color="0.4", linestyle=":")
        axes.annotate(
            "chance: one of two ends", (lengths[-1], 41), ha="right", color="0.3", fontsize=8
        )
        axes.set_ylim(-2, 102)
        axes.set_xlabel("curve length (pixels); gray: trained")
        whole_numbers(axes.xaxis)
        axes.set_ylabel("accuracy (%)")
        axes.set_title(f"Frozen tests, {content['config']['test_trials']} trials each")
        axes.legend(fontsize=8)


def activity(path: Path, example: tuple[np.ndarray, np.ndarray, str], along: np.ndarray) -> None:
    """Draw activity that spreads: an example trial step by step, and the mean along the curves.

    Args:
      path: of the PNG.
      example: image [n, n, 4], modulated activity [steps, n, n], the network's name.
      along: mean modulated activity, [networks, target or distractor, steps, pixels].
    """
    image, maps, name = example
    steps = _moments(maps)
    with figure(path, 9.0, 6.6) as (drawing, unused):
        unused.remove()
        above, below = drawing.subfigures(2, 1, height_ratios=(1.3, 1))
        grid = above.subplots(2, SHOWN // 2 + 1)
        colors = np.array([[0.84, 0.15, 0.15], [0.9, 0.8, 0.1], [0.1, 0.62, 0.45], [0, 0.35, 0.8]])
        seen = np.where(image.any(-1, keepdims=True), image @ colors, 0.95)
        grid[0, 0].imshow(seen, interpolation="nearest")
        grid[0, 0].set_title("image", fontsize=9)
        grid[1, 0].set_visible(False)
        places = [*grid[0, 1:], *grid[1, 1:]]
        most = max(float(maps[steps].max()), 1e-6)
        for place, step in zip(places, steps, strict=True):
            heat = place.imshow(
                maps[step], cmap="inferno", vmin=0, vmax=most, interpolation="nearest"
            )
            place.set_title(f"step {step + 1}", fontsize=9)
        for place in (grid[0, 0], *places):
            place.set_xticks([])
            place.set_yticks([])
            place.grid(False)
        above.colorbar(heat, ax=grid, label=f"modulated input units, {name}")
        _along(below.subplots(), along.mean(0)[:, : 2 * steps[-1] + 2])


def _along(axes: Axes, mean: np.ndarray) -> None:
    """Draw activity [target or distractor, steps, pixels] of the first, a middle and the last."""
    pixels = mean.shape[-1]
    for index, pixel in enumerate(sorted({0, pixels // 2, pixels - 1})):
        for curve, values, line in zip(("target", "distractor"), mean, "-:", strict=True):
            axes.plot(
                np.arange(1, len(values) + 1),
                values[:, pixel],
                linestyle=line,
                color=COLORS[index],
                label=f"{curve}, pixel {pixel + 1}",
            )
    axes.set_xlabel("step")
    whole_numbers(axes.xaxis)
    axes.set_ylabel("modulated activity")
    axes.set_title("Modulated input units along both curves, mean over trials and networks")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))


def _moments(maps: np.ndarray) -> list[int]:
    """Return the steps to draw: evenly up to when 99 % of the last activity is there."""
    total = maps.sum((1, 2))
    late = np.flatnonzero(np.abs(total - total[-1]) > 0.01 * (abs(total[-1]) or 1))
    last = min(max(int(late[-1]) + 1 if late.size else 0, SHOWN - 1), len(maps) - 1)
    return np.linspace(0, last, SHOWN).round().astype(int).tolist()


def _style(index: int, few: bool) -> dict[str, Any]:
    if not few:
        return {"color": "0.6", "linewidth": 0.8}
    return {"color": COLORS[index], "linestyle": LINES[index]}
