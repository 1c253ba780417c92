"""Pictures of the kinds of feedback pathway: accuracy, and angles by layer and epoch."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments import plots
from experiments.common import display
from experiments.feedback import cells, summary

ROWS = {
    "feedback_angle_degrees": "feedback to forward\nweights (°)",
    "update_angle_degrees": "update to true\ngradient (°)",
}


def draw(folder: Path, results: list[dict[str, Any]]) -> None:
    """Draw the pictures of one network into ``folder``: accuracy, and a figure of angles a rule."""
    by_rule: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        by_rule.setdefault(result["rule"], []).append(result)
    _accuracy(folder / "accuracy.png", by_rule)
    for rule, of_rule in by_rule.items():
        _angles(folder / f"angles_{rule}.png", of_rule)


def _accuracy(path: Path, by_rule: dict[str, list[dict[str, Any]]]) -> None:
    """Draw a panel a rule: a row a kind, a circle a seed, a line at the mean."""
    kinds = [
        kind
        for kind in cells.KINDS
        if any(result["kind"] == kind for found in by_rule.values() for result in found)
    ]
    size = {"ncols": len(by_rule), "squeeze": False, "sharex": True, "sharey": True}
    with plots.figure(path, 2 + 3.2 * len(by_rule), 1.4 + 0.4 * len(kinds), **size) as (
        drawing,
        (panels,),
    ):
        for axes, (rule, results) in zip(panels, by_rule.items(), strict=True):
            for result in results:
                place, values = kinds.index(result["kind"]), 100 * np.array(result["test_accuracy"])
                index = cells.KINDS.index(result["kind"])  # as in the pictures of angles
                output_only = result["kind"] == cells.OUTPUT_ONLY
                color = "0.4" if output_only else plots.COLORS[index % len(plots.COLORS)]
                axes.plot(values, np.full(len(values), place), "o", mfc="none", color=color, ms=5)
                axes.plot([values.mean()] * 2, [place - 0.3, place + 0.3], "-", color=color)
            axes.set_title(display.shown(rule))
            axes.set_xlabel("test accuracy (%)")
        together = [result for found in by_rule.values() for result in found]
        named = [_named(kind, together) for kind in kinds]
        panels[0].set_yticks(range(len(kinds)), named)
        panels[0].invert_yaxis()
        if any("*" in name for name in named):
            drawing.supxlabel(summary.MARKS, fontsize=8)
        rule = display.shown(next(iter(by_rule)))
        drawing.suptitle(summary.title(together).replace(f" {rule},", ""), fontsize=10)


def _named(kind: str, results: list[dict[str, Any]]) -> str:
    """Return a row's name and the table's mark, with its rules unless all of the row have it."""
    marks = {r["rule"]: summary.mark(r, results) for r in results if r["kind"] == kind}
    name = display.shown(kind)
    if len(set(marks.values())) == 1:
        return name + next(iter(marks.values()))
    told = [f"{mark.strip()} {display.shown(rule)}" for rule, mark in marks.items() if mark]
    return "\n".join([name, *told])


def _angles(path: Path, results: list[dict[str, Any]]) -> None:
    """Draw a column a layer: feedback to forward weights above, update to gradient below."""
    layers = list(
        dict.fromkeys(
            layer
            for result in results
            for measure in ROWS
            for layer in result["angles_by_epoch"][measure]
        )
    )
    if not layers:
        return
    size = {"nrows": 2, "ncols": len(layers), "sharex": True, "sharey": True, "squeeze": False}
    with plots.figure(path, 1.6 + 2.2 * len(layers), 5.4, **size) as (drawing, grid):
        drawn = {}
        for (measure, label), panels in zip(ROWS.items(), grid, strict=True):
            for layer, axes in zip(layers, panels, strict=True):
                for result in results:
                    rows = result["angles_by_epoch"][measure].get(layer, [])
                    values = np.array([row for row in rows if row], float)
                    if values.size and not np.isnan(values).all():
                        epochs = np.array([i for i, row in enumerate(rows, 1) if row])
                        seen = ~np.isnan(values).all(1)
                        index = cells.KINDS.index(result["kind"])
                        plots.band(axes, epochs[seen], values[seen], index, result["kind"])
                        drawn[result["kind"]] = axes.lines[-1]
                axes.axhline(90, color="0.6", linewidth=0.8)
                plots.angle_axis(axes)
            panels[0].set_ylabel(label)
        for layer, above, below in zip(layers, *grid, strict=True):
            above.set_title(layer)
            below.set_xlabel("epoch")
        drawing.legend(
            drawn.values(),
            list(map(display.shown, drawn)),
            loc="outside lower center",
            ncols=4,
            fontsize=8,
        )
        drawing.suptitle(summary.title(results), fontsize=10)
