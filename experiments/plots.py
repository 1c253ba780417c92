"""Every picture of the project: axes named, legible in grey and to colour-blind readers."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import run_folder

# Okabe & Ito's colour-blind-safe palette; line styles differ too, for print in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
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
def figure(path: Path, width: float = 6.0, height: float = 4.0, **grid: int) -> Iterator[tuple]:
    """Yield ``(figure, axes)`` in the project's style; on leaving, write ``path`` as PNG."""
    with plt.rc_context(STYLE):
        drawing, axes = plt.subplots(figsize=(width, height), **grid)
        yield drawing, axes
        save(drawing, path)


def save(drawing: Figure, path: Path) -> None:
    """Write ``drawing`` to ``path`` and free its memory."""
    drawing.savefig(path)
    plt.close(drawing)


def band(axes: Axes, x: np.ndarray, values: np.ndarray, index: int, label: str) -> None:
    """Draw the mean over the last axis (seeds) of ``values``, and the range as a band."""
    colour, line = COLOURS[index % len(COLOURS)], LINES[index % len(LINES)]
    axes.plot(x, np.nanmean(values, axis=-1), color=colour, linestyle=line, label=label)
    low, high = np.nanmin(values, axis=-1), np.nanmax(values, axis=-1)
    axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)


def learning_curves(folder: Path) -> None:
    """Draw ``learning_curves.png`` of a run folder: accuracy and classes discovered by epoch."""
    lines = run_folder.read_lines(folder / "metrics.jsonl")
    rules = list(dict.fromkeys(line["rule"] for line in lines))
    with figure(folder / "learning_curves.png", 9, 3.8, ncols=2) as (drawing, (left, right)):
        for index, rule in enumerate(rules):
            of_rule = [line for line in lines if line["rule"] == rule]
            monitored = next(k for k in of_rule[0] if k in ("validation_accuracy", "test_accuracy"))
            epochs = np.array([line["epoch"] for line in of_rule])
            # A stopped seed stays at its last value, so that the mean is always over all seeds.
            accuracy = _carried([line[monitored] for line in of_rule])
            classes = _carried([line["classes_learned"] for line in of_rule])
            band(left, epochs, 100 * accuracy, index, rule)
            band(right, epochs, classes, index, rule)
            left.set_ylabel(f"{monitored.replace('_', ' ')} (%)")
        right.set_ylabel("classes named rightly half the time")
        for axes in (left, right):
            axes.set_xlabel("epoch")
            axes.set_ylim(bottom=0)
            axes.legend(loc="lower right")
        config = run_folder.saved_config(folder)
        drawing.suptitle(
            f"{config.dataset}, {config.architecture}, feedback {config.feedback}: "
            f"mean and range of {config.seeds} seed{'s' * (config.seeds > 1)}"
        )


def panels_of_curves(path: Path, panels: list[tuple[str, dict, float | None]]) -> None:
    """Draw accuracy by epoch, one panel a run: mean and range over the seeds of each rule.

    Args:
      path: the PNG.
      panels: (title, {rule: accuracy as a fraction [epochs, seeds]}, published accuracy in per
        cent or None) of each run.
    """
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    size = {"nrows": rows, "ncols": columns, "squeeze": False}
    rules = list(dict.fromkeys(rule for _, curves, _ in panels for rule in curves))
    with figure(path, max(5.0, 3.6 * columns), 3.2 * rows, **size) as (_, grid):
        for axes, (title, curves, published) in zip(grid.flat, panels, strict=False):
            for rule, accuracy in curves.items():
                epochs = np.arange(1, len(accuracy) + 1)
                band(axes, epochs, 100 * _carried(accuracy), rules.index(rule), rule)
            if published is not None:
                axes.axhline(published, color="0.4", linewidth=1, linestyle=":",
                             label=f"published {published:g} %")  # fmt: skip
            axes.set_title(title, fontsize=10)
            axes.set_xlabel("epoch")
            axes.set_ylabel("monitored accuracy (%)")
            axes.set_ylim(0, 102)
            axes.legend(loc="lower right", fontsize=8)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)


def _carried(rows: list[list[float | None]] | np.ndarray) -> np.ndarray:
    values = np.array(rows, dtype=float)
    for row in range(1, len(values)):
        gone = np.isnan(values[row])
        values[row, gone] = values[row - 1, gone]
    return values
