"""Every picture of the project: axes named, legible in gray and to color-blind readers.

Functions that take a run's ``folder`` write a PNG there; those that take a ``path`` write it.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")  # before matplotlib; a notebook has set its own
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from experiments.train import folder as run_folder

# Okabe & Ito's color-blind-safe palette; line styles differ too, for print in gray.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))

STYLE = {
    "figure.dpi": 150,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


@contextmanager
def figure(
    path: Path | None = None, width: float = 6.0, height: float = 4.0, **grid: int
) -> Iterator[tuple]:
    """Yield ``(figure, axes)`` in the project's style; on leaving, write ``path`` as a PNG file."""
    with matplotlib.rc_context(STYLE):
        if path is None:  # a notebook shows it: pyplot, which is slow to import, knows how
            import matplotlib.pyplot as plt

            yield plt.subplots(figsize=(width, height), **grid)
            return
        drawing = Figure(figsize=(width, height))
        yield drawing, drawing.subplots(**grid)
        save(drawing, path)


def save(drawing: Figure, path: Path) -> None:
    """Write ``drawing`` to ``path``."""
    drawing.savefig(path)


def band(
    axes: Axes, x: np.ndarray, values: np.ndarray, index: int, label: str, marker: str = ""
) -> None:
    """Draw the mean over the last axis (seeds) of ``values``, and the range as a band."""
    color, line = COLORS[index % len(COLORS)], LINES[index % len(LINES)]
    mean = np.nanmean(values, axis=-1)
    axes.plot(x, mean, color=color, linestyle=line, marker=marker, markersize=4, label=label)
    low, high = np.nanmin(values, axis=-1), np.nanmax(values, axis=-1)
    axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
    axes.xaxis.get_major_locator().set_params(integer=True)


def class_discovery(folder: Path) -> None:
    """Draw ``class_discovery.png`` of a run folder: accuracy of each class by epoch."""
    lines = run_folder.read_lines(folder / "metrics.jsonl")
    config = run_folder.saved_config(folder)
    rules = list(dict.fromkeys(line["rule"] for line in lines))
    classes = len(lines[0]["class_accuracy"])
    height = min(2.2 + 0.18 * classes, 7.0)
    options = {"ncols": len(rules), "squeeze": False, "sharey": True}
    with figure(folder / "class_discovery.png", 1 + 4 * len(rules), height, **options) as (
        drawing,
        ((*panels,),),
    ):
        for axes, rule in zip(panels, rules, strict=True):
            rows = [line for line in lines if line["rule"] == rule]
            heat = class_map(
                axes, [r["epoch"] for r in rows], np.array([r["class_accuracy"] for r in rows])
            )
            axes.set_title(rule)
        panels[0].set_ylabel("class")
        drawing.colorbar(heat, ax=panels, label="accuracy (%)")
        drawing.suptitle(
            f"{config.dataset}, {config.architecture}: accuracy by class, mean of seeds"
        )


def class_map(axes: Axes, epochs: Sequence[int], accuracy: np.ndarray) -> object:
    """Draw accuracy [epochs, classes] as a map, dark where nothing is known; return its image."""
    extent = (epochs[0] - 0.5, epochs[-1] + 0.5, -0.5, accuracy.shape[1] - 0.5)
    heat = axes.imshow(
        100 * accuracy.T,
        vmin=0,
        vmax=100,
        cmap="cividis",
        aspect="auto",
        origin="lower",
        extent=extent,
        interpolation="nearest",
    )
    axes.set_xlabel("epoch")
    axes.grid(False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(integer=True)
    return heat


def angles(folder: Path) -> None:
    """Draw ``angles.png`` of a run folder, if its feedback is not tied: each layer by epoch."""
    lines = run_folder.read_lines(folder / "metrics.jsonl")
    lines = [line for line in lines if "feedback_angle_degrees" in line]
    rules = list(dict.fromkeys(line["rule"] for line in lines))
    if not rules:
        return
    config = run_folder.saved_config(folder)
    options = {"ncols": len(rules), "squeeze": False, "sharey": True}
    with figure(folder / "angles.png", 1 + 4 * len(rules), 3.8, **options) as (drawing, (panels,)):
        for axes, rule in zip(panels, rules, strict=True):
            rows = [line for line in lines if line["rule"] == rule]
            epochs = np.array([r["epoch"] for r in rows])
            by_layer = {
                layer: np.array([r["feedback_angle_degrees"][layer] for r in rows], float)
                for layer in rows[0]["feedback_angle_degrees"]
            }
            layer_angles(axes, epochs, by_layer)
            axes.set_title(rule)
            axes.label_outer()
        drawing.suptitle(
            f"{config.dataset}, {config.architecture}, feedback {config.feedback}: "
            f"mean and range of {config.seeds} seed{'s' * (config.seeds > 1)}"
        )


def layer_angles(axes: Axes, epochs: np.ndarray, by_layer: dict[str, np.ndarray]) -> None:
    """Draw the angle between forward and feedback weights, {layer: [epochs, seeds]}, by epoch."""
    for index, (layer, values) in enumerate(by_layer.items()):
        band(axes, epochs, values, index, layer)
    axes.axhline(90, color="0.5", linewidth=0.8, zorder=0)
    axes.set_xlabel("epoch")
    axes.set_ylabel("angle, forward to feedback weights (°)")
    axes.set_ylim(0, 100)
    axes.legend()


def unit_activity(axes: Axes, values: np.ndarray, names: Sequence[str]) -> None:
    """Draw activity, or any other value, of units [steps, units] through a trial, a line a unit."""
    for unit, name in enumerate(names):
        style = {"color": COLORS[unit % 7], "linestyle": LINES[unit % 7]}
        axes.plot(values[:, unit], marker=".", markersize=5, label=name, **style)


def learning_curves(folder: Path) -> None:
    """Draw ``learning_curves.png`` of a run folder: errors and classes discovered by epoch."""
    lines = run_folder.read_lines(folder / "metrics.jsonl")
    rules = list(dict.fromkeys(line["rule"] for line in lines))
    with figure(folder / "learning_curves.png", 9, 3.8, ncols=2) as (drawing, (left, right)):
        for index, rule in enumerate(rules):
            of_rule = [line for line in lines if line["rule"] == rule]
            monitored = next(k for k in of_rule[0] if k in ("validation_accuracy", "test_accuracy"))
            errors(left, np.array([line[monitored] for line in of_rule], float), index, rule)
            classes = _carried([line["classes_learned"] for line in of_rule])
            band(right, np.array([line["epoch"] for line in of_rule]), classes, index, rule)
        images = monitored.removesuffix("_accuracy")
        error_axis(left, f"error rate, {images} images (%)")
        right.set_ylabel("classes with accuracy of at least 50 %")
        right.set_xlabel("epoch")
        right.set_ylim(bottom=0)
        left.legend(loc="upper right")
        right.legend(loc="lower right")
        config = run_folder.saved_config(folder)
        drawing.suptitle(
            f"{config.dataset}, {config.architecture}, feedback {config.feedback}: "
            f"mean and range of {config.seeds} seed{'s' * (config.seeds > 1)}"
        )


def panels_of_curves(path: Path, panels: list[tuple[str, dict, float | None]]) -> None:
    """Draw errors by epoch, one panel a run: mean and range over the seeds of each rule.

    Args:
      path: the PNG.
      panels: (title, {rule: accuracy as a fraction [epochs, seeds]}, published accuracy in per
        cent or None) of each run.
    """
    columns = len(panels) if len(panels) <= 4 else 3
    rows = -(-len(panels) // columns)
    size = {"nrows": rows, "ncols": columns, "squeeze": False}
    rules = list(dict.fromkeys(rule for _, curves, _ in panels for rule in curves))
    with figure(path, max(5.0, 3.6 * columns), 3.2 * rows, **size) as (_, grid):
        for axes, (title, curves, published) in zip(grid.flat, panels, strict=False):
            for rule, accuracy in curves.items():
                errors(axes, accuracy, rules.index(rule), rule)
            if published is not None:
                axes.axhline(
                    100 - published,
                    color="0.4",
                    linewidth=1,
                    linestyle=":",
                    label=f"published: {100 - published:.2f} %",
                )
            axes.set_title(title, fontsize=10)
            error_axis(axes, "error rate, monitored images (%)" if axes in grid[:, 0] else "")
            axes.legend(loc="upper right", fontsize=8)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)


def errors(axes: Axes, accuracy: np.ndarray, index: int, label: str) -> None:
    """Draw the error rate, 100 % − accuracy [epochs, seeds]: mean and range of the seeds.

    A seed that has stopped, NaN, stays at its last value: the mean is always over all seeds. An
    error rate of 0 has no logarithm and is drawn as 0.01 %.
    """
    wrong = np.maximum(100 * (1 - _carried(accuracy)), 0.01)
    band(axes, np.arange(1, len(wrong) + 1), wrong, index, label)


def error_axis(axes: Axes, label: str) -> None:
    """Make errors by epoch legible down to the last per cent, where most of the epochs go.

    The axis ends at half of the lowest line: the band of a seed without a single error has no end.
    """
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.set_yscale("log")
    half = 0.5 * min(np.nanmin(line.get_ydata()) for line in axes.lines)
    axes.set_ylim(bottom=max(half, axes.get_ylim()[0]))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _carried(rows: list[list[float | None]] | np.ndarray) -> np.ndarray:
    values = np.array(rows, dtype=float)
    for row in range(1, len(values)):
        gone = np.isnan(values[row])
        values[row, gone] = values[row - 1, gone]
    return values
