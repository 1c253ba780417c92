"""Every picture of the project: axes named, legible in gray and to color-blind readers.

Functions that take a run's ``folder`` write a PNG there; those that take a ``path`` write it.
"""

import os
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

os.environ.setdefault("MPLBACKEND", "Agg")  # before matplotlib; a notebook has set its own
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    Locator,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)
from numpy.typing import ArrayLike

from experiments import config as configs
from experiments.common import display, fields, files
from experiments.train import idle, joined

# Okabe & Ito's color-blind-safe palette; line styles differ too, for print in gray.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))

STYLE: Any = {
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
    path: Path | None = None, width: float = 6.0, height: float = 4.0, **grid: Any
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


_SAVED = ContextVar("saved", default=True)


@contextmanager
def unsaved() -> Iterator[None]:
    """Within the block no picture is written, which is most of the work of drawing one."""
    token = _SAVED.set(False)
    try:
        yield
    finally:
        _SAVED.reset(token)


def save(drawing: Figure, path: Path) -> None:
    """Write ``drawing`` to ``path``, whole or not at all; not within ``unsaved``."""
    if not _SAVED.get():
        return
    from qagrel_jax import atomic  # brings JAX: a notebook that shows pictures does without

    with atomic.replacing(path) as file:
        drawing.savefig(file, format=path.suffix.removeprefix(".") or "png")


def band(
    axes: Axes, x: np.ndarray, values: np.ndarray, index: int, label: str, marker: str = ""
) -> None:
    """Draw the mean over the last axis (seeds) of ``values``, and the range as a band."""
    color, line = color_and_line(index)
    mean = np.nanmean(values, axis=-1)
    marker = marker or "o" * (len(x) == 1)  # no line runs through one point
    axes.plot(x, mean, color=color, linestyle=line, marker=marker, markersize=4, label=label)
    spread(axes, x, np.nanmin(values, axis=-1), np.nanmax(values, axis=-1), color)
    whole_numbers(axes.xaxis)


def spread(axes: Axes, x: ArrayLike, low: ArrayLike, high: ArrayLike, color: str) -> None:
    """Draw the range from ``low`` to ``high`` as a band; at a single ``x`` as a bar."""
    if np.size(x) == 1:  # a band would have no width
        axes.vlines(x, low, high, colors=color, linewidth=4, alpha=0.2)
    else:
        axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)


def color_and_line(index: int) -> tuple[str, Any]:
    """Return color and style of a line; beyond the colors each comes again with another style."""
    again, number = divmod(index, len(COLORS))
    return COLORS[number], LINES[(number + again) % len(LINES)]


RULES = (
    "q_agrel",
    "backprop",
    "agrel",
    "reinforce",
    "broadcast",
    "node_perturbation",
    "stochastic_units",
    "q_agrel_random_feedback",  # from here on the seven colors come again, with other lines:
    "feedback_alignment",  # Q-AGREL's and backprop's
    "relearnn",
)
"""Rules, and variants of them, in the order of their colors."""


def rule_index(rule: str) -> int:
    """Return the index of a rule's color and line, the same in every picture."""
    return RULES.index(rule)


def named_lines(panels: Iterable[Axes]) -> dict[str, Any]:
    """Return what a legend of all ``panels`` names, by its names: each once."""
    pairs = [axes.get_legend_handles_labels() for axes in panels]
    return {label: handle for pair in pairs for handle, label in zip(*pair, strict=True)}


def legend_below(drawing: Any, panels: Iterable[Axes], columns: int = 4, **options: Any) -> None:
    """Name every line of ``panels`` once, below all axes, in at most so many columns as fit."""
    named = named_lines(panels)
    for number in range(columns, 0, -1):
        legend = drawing.legend(
            named.values(), named, loc="outside lower center", ncols=number, **options
        )
        if number == 1 or legend.get_window_extent().width <= drawing.bbox.width:
            return
        legend.remove()


def whole_numbers(*several: Axis) -> None:
    """Let ticks stand at whole numbers only, be there no more than one."""
    for axis in several:
        axis.set_major_locator(
            MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True, min_n_ticks=1)
        )


def plain_log(axis: Axis, low: float, high: float) -> None:
    """Label a logarithmic axis with plain numbers: powers of ten, on a short one 2 and 5, too."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,), numticks=5))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}" if x >= 1 else f"{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def of_run(folder: Path) -> None:
    """Draw every picture of a run of ``experiments.train``; none before its first epoch."""
    for draw in (learning_curves, class_discovery, angles):
        draw(folder)


def class_discovery(folder: Path) -> None:
    """Draw ``class_discovery.png`` of a run folder: accuracy of each class by epoch."""
    lines = files.read_metrics(folder)
    config = configs.saved(folder)
    rules = list(dict.fromkeys(line["rule"] for line in lines))
    if not lines:
        return
    classes = len(lines[0]["class_accuracy"])
    height = min(2.4 + 0.18 * classes, 7.0)
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
            axes.set_title(display.shown(rule))
        panels[0].set_ylabel("class")
        images = joined.monitored(lines[0]).removesuffix("_accuracy")
        drawing.colorbar(heat, ax=panels, label=f"accuracy, {images} images (%)")
        named = f"{display.image_set(config.dataset)}, {config.architecture}:"
        wide = " " if len(rules) > 1 else "\n"  # one line would be cut off above a single panel
        mean = f", mean of {config.seeds} seeds while they learn" if config.seeds > 1 else ""
        recipe = _recipe(config, 45 * len(rules))
        drawing.suptitle(f"{named}{wide}accuracy by class{mean}\n{recipe}", fontsize=10)


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
    whole_numbers(axes.xaxis, axes.yaxis)
    return heat


ANGLES = {
    "feedback_angle_degrees": "forward to feedback\nweights (°)",
    "update_angle_degrees": "update to true\ngradient (°)",
}
"""Measures in ``metrics.jsonl`` that ``angles`` draws, and their axes' labels."""


def angles(folder: Path) -> None:
    """Draw ``angles.png`` of a run folder, if its feedback is not tied: each layer by epoch."""
    lines = files.read_metrics(folder)
    measures = [name for name in ANGLES if any(line.get(name) for line in lines)]
    rules = list(dict.fromkeys(line["rule"] for line in lines))
    if not measures:
        return
    config = configs.saved(folder)
    size = {"nrows": len(measures), "ncols": len(rules), "sharex": "col"}
    path, height = folder / "angles.png", 1.2 + 2.8 * len(measures)
    with figure(path, 1 + 4 * len(rules), height, **size, squeeze=False, sharey=True) as (
        drawing,
        grid,
    ):
        for measure, panels in zip(measures, grid, strict=True):
            for axes, rule in zip(panels, rules, strict=True):
                rows = [line for line in lines if line["rule"] == rule and line.get(measure)]
                epochs = np.array([row["epoch"] for row in rows])
                by_layer = {
                    layer: np.array([row[measure][layer] for row in rows], float)
                    for layer in (rows[0][measure] if rows else ())
                }
                layer_angles(axes, epochs, by_layer, f"angle, {ANGLES[measure]}")
                if not rows:
                    axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
                axes.label_outer()
        for axes, rule in zip(grid[0], rules, strict=True):
            axes.set_title(display.shown(rule))
        # In two lines: with one rule the picture is narrow.
        drawing.suptitle(
            f"{_network(config)}\n{_recipe(config, 45 * len(rules))}\n{_of_seeds(config.seeds)}",
            fontsize=10,
        )


def _of_seeds(seeds: int) -> str:
    return f"mean and range of {seeds} seeds" if seeds > 1 else "1 seed"


def _network(config: configs.Config) -> str:
    images, feedback = display.image_set(config.dataset), display.shown(config.feedback)
    return f"{images}, {config.architecture}, feedback {feedback}"


NO_RECIPE = (
    *("dataset", "architecture", "feedback"),
    *("seeds", "first_seed", "epochs", "rules", "angle_images"),
)
"""Fields that a title tells elsewhere, or that do not change what is learned."""


def _recipe(config: configs.Config, width: int = 90) -> str:
    """Name the configuration, and what a run changes in it, in lines of ``width`` characters."""
    if config.name not in configs.names():
        return config.name
    changed = configs.difference(config, configs.load(config.name))
    told = [
        f"{name.replace('_', ' ')} {fields.shown(getattr(config, name))}"
        for name in changed
        if name not in NO_RECIPE and name not in idle.names(config)
    ]
    return "\n".join(textwrap.wrap(", ".join([config.name, *told]), width))


def layer_angles(
    axes: Axes,
    epochs: np.ndarray,
    by_layer: dict[str, np.ndarray],
    label: str = "angle, forward to feedback weights (°)",
) -> None:
    """Draw angles by epoch, {layer: [epochs, seeds]}; epochs of which none is known are left out.

    Args:
      axes: where.
      epochs: [epochs].
      by_layer: degrees, NaN where an angle is not defined.
      label: of the axis.
    """
    for index, (layer, values) in enumerate(by_layer.items()):
        seen = ~np.isnan(values).all(1)
        if seen.any():
            band(axes, epochs[seen], values[seen], index, layer)
    axes.axhline(90, color="0.5", linewidth=0.8, zorder=0)
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    angle_axis(axes)
    if by_layer:
        axes.legend()


def angle_axis(axes: Axes) -> None:
    """Show every angle drawn in ``axes`` and those that share its axis; at 0 a curve is seen."""
    alike = axes.get_shared_y_axes().get_siblings(axes)
    top = max(100.0, *(1.03 * other.dataLim.y1 for other in alike))
    axes.set_ylim(-3, top)
    axes.set_yticks(np.arange(0, top, 30))


def unit_activity(axes: Axes, values: np.ndarray, names: Sequence[str]) -> None:
    """Draw activity, or any other value, of units [steps, units] through a trial, a line a unit."""
    for unit, name in enumerate(names):
        style = dict(zip(("color", "linestyle"), color_and_line(unit), strict=True))
        axes.plot(values[:, unit], marker=".", markersize=5, label=name, **style)


def learning_curves(folder: Path, parts: Sequence[Path] = ()) -> None:
    """Draw ``learning_curves.png`` of a run folder: errors and classes discovered by epoch.

    Args:
      folder: of the run.
      parts: the folders of its seeds, in their order, where these were trained apart.
    """
    lines = _lines_of_all_seeds(parts or [folder])
    rules = list(dict.fromkeys(line["rule"] for line in lines))
    if not lines:
        return
    with figure(folder / "learning_curves.png", 9, 4.1, ncols=2) as (drawing, (left, right)):
        for rule in rules:
            index, rows = rule_index(rule), [line for line in lines if line["rule"] == rule]
            monitored = joined.monitored(rows[0])
            accuracy = np.array([line[monitored] for line in rows], float)
            name = display.shown(rule)
            errors(left, accuracy, index, name)
            classes = _carried([line["classes_learned"] for line in rows])
            band(right, np.array([line["epoch"] for line in rows]), classes, index, name)
        images = monitored.removesuffix("_accuracy")
        error_axis(left, f"{images} error rate")
        right.set_ylabel("classes with accuracy ≥ 50 %")
        right.set_xlabel("epoch")
        top = max(1.0, right.get_ylim()[1])
        right.set_ylim(-0.03 * top, 1.02 * top)
        whole_numbers(right.yaxis)
        legend_below(drawing, [left])
        config, seeds = configs.saved(folder), accuracy.shape[1]
        drawing.suptitle(
            f"{_network(config)}: {_of_seeds(seeds)}\n{_recipe(config)}",
            fontsize=11,
        )


def _lines_of_all_seeds(parts: Sequence[Path]) -> list[dict[str, Any]]:
    metrics = [files.read_metrics(part) for part in parts]
    if len(metrics) == 1:
        return metrics[0]
    rules = dict.fromkeys(line["rule"] for line in metrics[0])
    by_rule = ([[x for x in lines if x["rule"] == rule] for lines in metrics] for rule in rules)
    return [line for parts_of_rule in by_rule for line in joined.lines(parts_of_rule)]


def panels_of_curves(
    path: Path, panels: Sequence[tuple[str, dict, float | None]], alike: str = ""
) -> None:
    """Draw errors by epoch, one panel a run: mean and range over the seeds of each rule.

    Args:
      path: the PNG.
      panels: (title, {rule: accuracy as a fraction [epochs, seeds]}, published accuracy in per
        cent or None) of each run. After a rule's name and a comma may stand more about it.
      alike: what all runs have learned, if it is the same: their axes of errors are then alike.
    """
    columns = len(panels) if len(panels) <= 4 else 3
    rows = -(-len(panels) // columns)
    size = {"nrows": rows, "ncols": columns, "squeeze": False, "sharey": bool(alike)}
    with figure(path, max(5.0, 3.6 * columns), 3.2 * rows, **size) as (drawing, grid):
        for axes, (title, curves, published) in zip(grid.flat, panels, strict=False):
            for rule, accuracy in curves.items():
                errors(axes, accuracy, rule_index(rule.split(",")[0]), display.shown(rule))
            if published is not None:
                axes.axhline(
                    100 - published,
                    color="0.4",
                    linewidth=1,
                    linestyle=":",
                    label=f"published: {100 - published:.2f} %",
                )
            axes.set_title(title, fontsize=10)
            axes.legend(fontsize=8)
        for axes in grid.flat[: len(panels)]:
            error_axis(axes, "error rate" if axes in grid[:, 0] else "")
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        said = "monitored images, mean and range of the seeds"
        drawing.suptitle(f"{alike}: {said}" if alike else said, fontsize=10)


LEAST_ERROR = 0.01
"""Where an error rate below it is drawn, in per cent."""


def errors(axes: Axes, accuracy: np.ndarray, index: int, label: str) -> None:
    """Draw the error rate, 100 % − accuracy [epochs, seeds]: mean and range of the seeds.

    A seed that has stopped, NaN, stays at its last value: the mean is always over all seeds. An
    error rate of 0 has no logarithm and is drawn as ``LEAST_ERROR``.
    """
    wrong = np.maximum(100 * (1 - _carried(accuracy)), LEAST_ERROR)
    band(axes, np.arange(1, len(wrong) + 1), wrong, index, label)


def error_axis(axes: Axes, label: str) -> None:
    """Make errors by epoch legible down to the last per cent, where most of the epochs go.

    The axis ends at half of the lowest line: the band of a seed without a single error has no end.
    """
    axes.set_xlabel("epoch")
    axes.set_ylabel(label and f"{label} (%, log scale)")
    axes.set_yscale("log")
    together = axes.get_shared_y_axes().get_siblings(axes)
    half = 0.5 * min(np.nanmin(line.get_ydata()) for one in together for line in one.lines)
    axes.set_ylim(bottom=max(half, axes.get_ylim()[0]))
    axes.yaxis.set_major_locator(_error_ticks(*axes.get_ylim()))
    axes.yaxis.set_major_formatter(FuncFormatter(_error_tick))
    axes.yaxis.set_minor_locator(NullLocator())


def _error_ticks(low: float, high: float) -> Locator:
    """Return the coarsest ticks of which a logarithmic axis from ``low`` to ``high`` has four."""
    for digits in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        ticks = [digit * 10.0**power for power in range(-3, 3) for digit in digits]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) >= 4:
            return FixedLocator(inside)
    return MaxNLocator(6, steps=(1, 2, 5, 10))


def _error_tick(error: float, _: object = None) -> str:
    """Return a tick's label: at the least error rate that is drawn there are those below, too."""
    if np.isclose(error, LEAST_ERROR):
        return f"≤ {LEAST_ERROR:g}"
    return f"{error:g}" if error > LEAST_ERROR else ""


def _carried(rows: list[list[float | None]] | np.ndarray) -> np.ndarray:
    values = np.array(rows, dtype=float)
    for row in range(1, len(values)):
        gone = np.isnan(values[row])
        values[row, gone] = values[row - 1, gone]
    return values
