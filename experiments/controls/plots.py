"""The picture of a control: learning curves, accuracy against what was swept, or a dot a seed."""

import itertools
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, NullLocator

from experiments import plots
from experiments.common import display
from experiments.controls import summary as controls_summary
from experiments.controls.settings import Control, shown
from experiments.train import summary


def draw(path: Path, control: Control, lines: list[dict[str, Any]]) -> None:
    """Draw ``control`` as its ``picture`` says; settings that diverged are only named."""
    there = [line for line in lines if line["diverged"] is None]
    if not there:
        return
    if control.measure_angles:
        _angles(path.with_name("angles.png"), there)
    if control.picture == "discovery":
        _discovery(path, lines)
        return
    kinds = {"curves": _curves, "sweep": _sweep, "dots": _dots}
    kinds[control.picture](path, control, there, _diverged(lines))


def _curves(path: Path, control: Control, lines: list[dict[str, Any]], note: str = "") -> None:
    chosen = controls_summary.chosen_labels(lines)
    best = [line for line in lines if line["label"] in chosen]
    with plots.figure(path, 7.2, 4) as (drawing, axes):
        for line, index in zip(best, _styles([line["rule"] for line in best]), strict=True):
            values = 100 * np.array(line["validation_accuracy"])
            plots.band(axes, np.arange(1, len(values) + 1), values, index, shown(line["label"]))
        axes.set_xlabel("epoch")
        axes.set_ylabel("validation accuracy (%)")
        axes.set_ylim(-2, 102)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
        drawing.suptitle(_title(path, lines) + note, fontsize=10)


def _sweep(path: Path, control: Control, lines: list[dict[str, Any]], note: str = "") -> None:
    with plots.figure(path, 8.4, 3.6, ncols=2) as (drawing, (left, right)):
        families = {line["family"]: line["rule"] for line in lines}
        values = sorted({line["x"] for line in lines})
        limit = max(len(line["validation_accuracy"]) for line in lines)
        for family, index in zip(families, _styles(list(families.values())), strict=True):
            of_family = [line for line in lines if line["family"] == family]
            x = np.array([line["x"] for line in of_family])
            accuracy = np.array([line["best_validation_accuracy"] for line in of_family])
            plots.band(left, x, 100 * accuracy, index, shown(family), marker="o")
            reached = np.array(
                [
                    [
                        summary.first_reaching(curve, controls_summary.criterion(line, lines))
                        or np.nan
                        for curve in zip(*line["validation_accuracy"], strict=True)
                    ]
                    for line in of_family
                ]
            )
            there = ~np.isnan(reached).any(1)
            if there.any():
                plots.band(right, x[there], reached[there], index, family, marker="o")
            never = np.full((~there).sum(), limit)
            right.plot(x[~there], never, "x", color=plots.COLORS[index % len(plots.COLORS)])
        left.set_ylabel("best validation accuracy (%)")
        right.set_ylabel(f"epochs to criterion (×: not all in {limit})")
        right.set_ylim(0, 1.05 * limit)
        plots.whole_numbers(right.yaxis)
        for axes in (left, right):
            axes.set_xlabel(control.x_label)
            if control.x_log:
                axes.set_xscale("log")
                axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xticks(values, [f"{value:g}" for value in values])
        left.legend()
        drawing.suptitle(_title(path, lines) + note, fontsize=10)


def _styles(rules: list[str]) -> list[int]:
    """Return each line's look: that of its rule, and for further settings of a rule the rest."""
    fixed = {rule: plots.rule_index(rule) for rule in rules}
    taken = set(fixed.values())
    free = (index for index in itertools.count(2) if index not in taken)
    # A second setting of the same rule needs a look of its own.
    return [fixed.pop(rule) if rule in fixed else next(free) for rule in rules]


def _dots(path: Path, control: Control, lines: list[dict[str, Any]], note: str = "") -> None:
    height = 1.3 + 0.24 * len(lines)
    with plots.figure(path, 9, height, ncols=2, sharey=True) as (drawing, (left, right)):
        for row, line in enumerate(lines):
            index = plots.rule_index(line["rule"])
            _row(left, row, 100 * np.array(line["best_validation_accuracy"]), index)
            target = controls_summary.criterion(line, lines)
            curves = zip(*line["validation_accuracy"], strict=True)
            reached = [summary.first_reaching(c, target) for c in curves]
            there = np.array([epoch for epoch in reached if epoch is not None])
            # A mean of some seeds would be that of the quickest.
            _row(right, row, there, index, mean=None not in reached)
            if None in reached:
                missed = reached.count(None)
                right.text(
                    1,
                    row,
                    f"{missed} never ",
                    ha="right",
                    va="center",
                    fontsize=7,
                    transform=right.get_yaxis_transform(),
                )
        left.set_yticks(range(len(lines)), [shown(line["label"]) for line in lines], fontsize=8)
        left.set_ylim(len(lines) - 0.5, -0.5)
        left.set_xlabel("best validation accuracy (%)")
        right.set_xlabel("epochs to criterion (bar: all reach it)")
        plots.whole_numbers(right.xaxis)
        right.set_xlim(left=0, right=1.3 * max(len(line["validation_accuracy"]) for line in lines))
        drawing.suptitle(_title(path, lines, "rings: seeds, bar: their mean") + note, fontsize=10)


def _discovery(path: Path, lines: list[dict[str, Any]]) -> None:
    """Draw a row a setting; for each number of classes the accuracy of all, and of each class."""
    numbers = list(dict.fromkeys(line["classes"] for line in lines))
    at = {(_setting_alone(line), line["classes"]): line for line in lines}
    # In the order of the number of classes with the most settings, which holds the others.
    longest = max(numbers, key=[number for _, number in at].count)
    names = list(dict.fromkeys([n for n, number in at if number == longest] + [n for n, _ in at]))
    size: dict[str, Any] = {
        "width": 1.5 + (8 if len(numbers) == 1 else 4.8 * len(numbers)),
        "height": 0.7 + 1.75 * len(names),
        "nrows": len(names),
        "ncols": 2 * len(numbers),
    }
    heat = None
    with plots.figure(path, **size, squeeze=False) as (drawing, grid):
        for name, row in zip(names, grid, strict=True):
            for number, left, right in zip(numbers, row[::2], row[1::2], strict=True):
                heat = _one_discovery(left, right, at.get((name, number)), lines) or heat
        for axes in grid[:-1].flat:
            axes.set_xlabel("")
        for axes in grid[-1, ::2]:
            axes.set_xlabel("presented images")
        drawing.colorbar(heat, ax=grid[:, -1], label="accuracy of the class (%)", shrink=0.5)
        levels = " and ".join(f"{100 * level:g}" for level in controls_summary.LEVELS)
        title = (
            f"{_title(path, lines)}; gray: {levels} % of backprop's accuracy; red: active classes"
        )
        drawing.suptitle(title, fontsize=10)


def _setting_alone(line: dict[str, Any]) -> str:
    return line["label"].removeprefix(f"{line['classes']} classes, ")


def _one_discovery(
    left: Axes, right: Axes, line: dict[str, Any] | None, lines: list[dict[str, Any]]
) -> object:
    """Draw one setting by presented images and by epoch; return the map, None if there is none."""
    for axes in (left, right):
        axes.set_axis_off()
    if line is None:
        return None
    left.set_axis_on()
    left.set_title(shown(line["label"]), fontsize=8)
    if line["diverged"] is not None:
        left.text(0.5, 0.5, "diverged", ha="center", transform=left.transAxes)
        left.set(xticks=[], yticks=[])
        return None
    right.set_axis_on()
    images, index = line["images_an_epoch"], plots.rule_index(line["rule"])
    accuracy = np.array(line["validation_accuracy"], float)
    epochs = range(1, len(accuracy) + 1)
    plots.band(left, images * np.array(epochs), 100 * accuracy, index, "accuracy")
    reference = controls_summary.criterion(line, [x for x in lines if x["diverged"] is None])
    if reference is not None:
        for level in controls_summary.LEVELS:
            target = 100 * reference * level / controls_summary.CRITERION
            left.axhline(target, color="0.6", linewidth=0.7)
    left.set_ylim(-0.02 * (top := _top(line, lines)), top)
    left.set_ylabel("validation (%)", fontsize=8)
    left.xaxis.set_major_formatter(EngFormatter(sep=" "))
    heat = plots.class_map(right, epochs, np.array(line["class_accuracy"], float))
    right.set_ylabel("class", fontsize=8)
    # Classes that come in random order are not the lowest rows.
    if line.get("active_classes") and line.get("config", {}).get("curriculum") != "random":
        active = np.array(line["active_classes"]).mean(1)
        right.plot(epochs, active - 0.5, color="tab:red", linewidth=1.2)
    return heat


def _top(line: dict[str, Any], lines: list[dict[str, Any]]) -> float:
    """Return one upper limit for all settings of as many classes, in percent."""
    alike = [x["validation_accuracy"] for x in lines if x["classes"] == line["classes"]]
    return min(102, max(1, 108 * max(map(np.max, filter(None, alike)))))


def _row(axes: Axes, row: int, values: np.ndarray, index: int, mean: bool = True) -> None:
    if not values.size:
        return
    color, _ = plots.color_and_line(index)
    axes.plot(values, np.full(len(values), row), "o", mfc="none", color=color, ms=5, alpha=0.8)
    if mean:
        axes.plot([values.mean()] * 2, [row - 0.35, row + 0.35], "-", color=color)


def _angles(path: Path, lines: list[dict[str, Any]]) -> None:
    """Draw a panel a layer; above the update's angle to the gradient, below that of weights."""
    layers = list(lines[0]["update_angle_degrees"])
    kinds = (
        ("update_angle_degrees", "update to gradient (°)"),
        ("feedback_angle_degrees", "feedback to forward weights (°)"),
    )
    size: dict[str, Any] = {"width": 1.6 + 2.2 * len(layers), "height": 5.4}
    with plots.figure(path, **size, nrows=2, ncols=len(layers), sharex=True, sharey=True) as (
        drawing,
        grid,
    ):
        styles = _styles([line["rule"] for line in lines])
        for (kind, label), row in zip(kinds, np.atleast_2d(grid), strict=True):
            for layer, axes in zip(layers, row, strict=True):
                for line, index in zip(lines, styles, strict=True):
                    values = np.array(line[kind][layer], dtype=float)
                    seen = ~np.isnan(values).all(1)
                    epochs = np.arange(len(values))[seen]
                    plots.band(axes, epochs, values[seen], index, shown(line["label"]))
                axes.axhline(90, color="0.6", linewidth=0.8)
                plots.angle_axis(axes)
            row[0].set_ylabel(label)
        for layer, axes in zip(layers, grid[0], strict=True):
            axes.set_title(layer)
        for axes in grid[1]:
            axes.set_xlabel("epoch")
        plots.legend_below(drawing, [grid[0, 0]], 3, fontsize=8)
        drawing.suptitle(_title(path, lines), fontsize=10)


def _title(path: Path, lines: list[dict[str, Any]], drawn: str = "mean and range") -> str:
    config, seeds = lines[0]["config"], len(lines[0]["seeds"])
    seeds_text = f"{seeds} seeds ({drawn})" if seeds > 1 else "1 seed"
    named = path.parent.name.replace("_", " ")  # each control has a folder of its name
    images = display.image_set(config["dataset"])
    return f"{named}: {images}, {config['architecture']}, {seeds_text}"


def _diverged(lines: list[dict[str, Any]]) -> str:
    """Name the settings that have no curve to draw, in lines of their own."""
    names = [shown(line["label"]) for line in lines if line["diverged"] is not None]
    return "\n" + textwrap.fill(f"diverged: {', '.join(names)}", 90) if names else ""
