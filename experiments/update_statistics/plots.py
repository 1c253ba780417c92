"""The picture of ``experiments.update_statistics``: angle against variance, a point a rule."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from experiments import plots
from experiments.common import display
from experiments.update_statistics.settings import RULES, Plan
from experiments.update_statistics.summary import ALL

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
ROWS = {
    "cross_entropy": "angle to the gradient of\nthe cross-entropy (°)",
    "prediction_error": "angle to the gradient of\n½(r − q_s)² (°)",
}
VARIANCE = "variance of one update / |mean update|²"


def draw(path: Path, plan: Plan, results: list[dict[str, Any]]) -> None:
    """Draw a panel a stage and objective, and below what changes with classes, batch and layer."""
    stages, classes = sorted(plan.stages), max(r["classes"] for r in results)
    size = plan.batch_sizes[0]
    here = [r for r in results if (r["classes"], r["batch_size"]) == (classes, size)]
    at_end = [r for r in results if r["stage"] == stages[-1]]
    sweeps = {
        "classes": [r for r in at_end if r["batch_size"] == size],
        "batch_size": [r for r in at_end if r["classes"] == classes],
    }
    sweeps = {key: swept for key, swept in sweeps.items() if len({r[key] for r in swept}) > 1}
    numbers = len(stages), len(stages), len(sweeps) + 2  # panels in each row
    width, columns = max(11.6, 2.9 * max(numbers)), math.lcm(*numbers)
    with plots.figure(path, width, 9, nrows=3, ncols=columns, squeeze=False) as (drawing, parts):
        grid = [_filled(row, number) for row, number in zip(parts, numbers, strict=True)]
        for panels, (objective, label) in zip(grid, ROWS.items(), strict=False):
            for axes, stage in zip(panels, stages, strict=True):
                _plane(axes, [r for r in here if r["stage"] == stage], objective)
                axes.set_title(_title(here, stage), fontsize=9)
                axes.set_xlabel(VARIANCE, fontsize=7)
            panels[0].set_ylabel(label)
        planes = grid[0] + grid[1]
        _share_x(planes)
        *swept_panels, layers, alignment = grid[2]
        for axes, (key, swept) in zip(swept_panels, sweeps.items(), strict=True):
            _sweep(axes, plan, swept, key)
        changed = [*(key.replace("_", " ") for key in sweeps), "layer"]
        _layers(layers, [r for r in here if r["stage"] == stages[-1]])
        _alignment(alignment, plan, here)
        # A rule may have a point in some panels alone.
        named = plots.named_lines(planes)
        labels = [name for name in map(display.shown, plan.rules) if name in named]
        handles = [named[name] for name in labels]
        drawing.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=9)
        config, seeds = plan.config, len(here[0]["seeds"])
        drawing.suptitle(
            f"{display.image_set(config.dataset)}, {config.architecture}: "
            f"direction of the expected update against variance of one update, {classes} classes, "
            f"batch {size}, {f'mean ± sd of {seeds} seeds' if seeds > 1 else 'one seed'}\n"
            f"below: what changes with {' or '.join(changed)} after {_epochs(stages[-1])}; "
            "alignment of one update with the gradient of the rule's own objective",
            fontsize=10,
        )


def _filled(row: Any, number: int) -> list[Axes]:
    """Let ``number`` panels fill a row of a grid that has a multiple of them; remove the rest."""
    span = len(row) // number
    for place, axes in enumerate(row[:number]):
        grid = axes.get_subplotspec()
        spec = grid.get_gridspec()[grid.rowspan.start, place * span : (place + 1) * span]
        axes.set_subplotspec(spec)
    for axes in row[number:]:
        axes.remove()
    return list(row[:number])


def _plane(axes: Axes, results: list[dict[str, Any]], objective: str) -> None:
    """Draw a point a rule: the angle of its expected update against its variance, ± sd of seeds."""
    for result in results:
        variance, angle = (result[objective][ALL][name] for name in ("variance", "angle"))
        if variance and angle:
            style = _style(result["rule"], line=False)
            axes.plot(variance["mean"], angle["mean"], **style)
            _sd(axes.vlines, variance["mean"], angle, style["color"])
            # The axis of the variance is logarithmic, and has no 0.
            _sd(axes.hlines, angle["mean"], variance, style["color"], variance["mean"] / 10)
    axes.set_xscale("log")
    _angles(axes)
    axes.axhline(90, color="0.6", linewidth=0.8, zorder=0)


def _sd(
    draw: Callable[..., object],
    across: float,
    value: dict[str, float],
    color: str,
    least: float = 0.0,
) -> None:
    """Draw ± sd over seeds, where there are several, not below ``least``."""
    if sd := value.get("sd"):
        low = max(value["mean"] - sd, least)
        draw(across, low, value["mean"] + sd, colors=color, linewidth=1)


def _title(results: list[dict[str, Any]], stage: int) -> str:
    own = [r for r in results if r["stage"] == stage]
    common = [r for r in own if r["weights"] == "q_agrel"] or own
    accuracy = 100 * np.mean(common[0]["accuracy"])
    rule = display.shown(common[0]["weights"])
    return f"{_epochs(stage)}\n{rule}: accuracy {accuracy:.0f} %"


def _epochs(stage: int) -> str:
    return display.counted(stage, "epoch")


def _sweep(axes: Axes, plan: Plan, results: list[dict[str, Any]], key: str) -> None:
    """Draw the variance of all layers together against ``key``."""
    values = sorted({r[key] for r in results})
    for label in plan.rules:
        points = [
            (r[key], r["cross_entropy"][ALL]["variance"]) for r in results if r["rule"] == label
        ]
        points = sorted((x, v["mean"]) for x, v in points if v)
        if points:
            axes.plot(*zip(*points, strict=True), **_style(label))
    axes.set_xscale("log")
    axes.set_yscale("log")
    plots.plain_log(axes.yaxis, *axes.get_ylim())
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("number of classes" if key == "classes" else "batch size (images)")
    axes.set_ylabel("variance / |mean update|²")


def _layers(axes: Axes, results: list[dict[str, Any]]) -> None:
    """Draw the angle to the cross-entropy gradient, layer by layer, from the input up."""
    layers = [layer for layer in results[0]["cross_entropy"] if layer != ALL]
    for result in results:
        angles = [result["cross_entropy"][layer]["angle"] for layer in layers]
        values = [np.nan if angle is None else angle["mean"] for angle in angles]
        axes.plot(range(len(layers)), values, **_style(result["rule"]))
    axes.set_xticks(range(len(layers)), [str(n) for n in range(1, len(layers) + 1)])
    axes.set_xlabel("layer, from the input up")
    axes.set_ylabel(ROWS["cross_entropy"])
    _angles(axes)


def _angles(axes: Axes) -> None:
    axes.set_ylim(-5, 185)
    axes.set_yticks([0, 30, 60, 90, 120, 150, 180])


def _alignment(axes: Axes, plan: Plan, results: list[dict[str, Any]]) -> None:
    """Draw the alignment of one update with the gradient of the rule's own objective, by stage."""
    stages = sorted(plan.stages)
    for label in plan.rules:
        own = {
            r["stage"]: r[RULES[label].objective][ALL]["alignment"]
            for r in results
            if r["rule"] == label
        }
        values = [own[stage]["mean"] if own[stage] else np.nan for stage in stages]
        axes.plot(range(len(stages)), values, **_style(label))
    axes.set_xticks(range(len(stages)), [f"{stage}" for stage in stages])
    axes.set_xlabel("epochs of training")
    axes.set_ylabel("alignment (1: the gradient)")
    axes.set_ylim(-0.05, 1.02)


def _share_x(panels: Any) -> None:
    low = min(axes.get_xlim()[0] for axes in panels)
    high = max(axes.get_xlim()[1] for axes in panels)
    for axes in panels:
        axes.set_xlim(low / 1.5, high * 1.5)
        plots.plain_log(axes.xaxis, low, high)
        axes.tick_params(axis="x", labelsize=8)


def _style(label: str, line: bool = True) -> dict[str, Any]:
    index = plots.rule_index(label)
    color = plots.COLORS[index % len(plots.COLORS)]
    marker = MARKERS[index % len(MARKERS)]
    style = {"color": color, "marker": marker, "label": display.shown(label)}
    again = index >= len(plots.COLORS)  # its color is another's, too
    style |= {"mfc": "none" if again else color}
    if line:
        return style | {"markersize": 4, "linewidth": 1.2, "linestyle": "--" if again else "-"}
    return style | {"markersize": 7, "linestyle": ""}
