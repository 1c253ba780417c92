"""The picture of ``experiments.agrel``: what fraction of the networks has learned, and when."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from experiments import plots
from experiments.common import display


def trials_to_criterion(path: Path, results: list[dict[str, Any]]) -> None:
    """Draw a panel a task: percentage of networks at criterion against trials, a line a rule.

    Args:
      path: of the PNG.
      results: entries with "task", "rule", "trials" (None: never), "max_trials", "criterion".
    """
    tasks = list(dict.fromkeys(row["task"] for row in results))
    columns = min(2, len(tasks))
    rows = math.ceil(len(tasks) / columns)
    size: dict[str, Any] = {"width": 1.5 + 3.7 * columns, "height": 0.6 + 2.9 * rows}
    with plots.figure(path, **size, nrows=rows, ncols=columns, squeeze=False) as (drawing, grid):
        for axes in grid.flat[len(tasks) :]:
            axes.set_axis_off()
        for axes, task in zip(grid.flat, tasks, strict=False):
            of_task = [row for row in results if row["task"] == task]
            end = max(_end(row) for row in of_task)
            for row in of_task:
                reached = np.sort([t for t in row["trials"] if t is not None])
                percent = 100 * np.arange(1, len(reached) + 1) / row["networks"]
                color, line = plots.color_and_line(plots.rule_index(row["rule"]))
                axes.step(
                    np.concatenate([[0], reached, [end]]),
                    np.concatenate([[0], percent, percent[-1:] if len(percent) else [0]]),
                    where="post",
                    color=color,
                    linestyle=line,
                    label=display.shown(row["rule"]),
                )
            axes.set_title(f"{task}: expected reward ≥ {of_task[0]['criterion']:g}")
            axes.set_ylim(-2, 102)
            axes.set_xlim(0, 1.02 * end)
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.set_xlabel("trials")
            axes.set_ylabel("networks at criterion (%)")
            axes.legend(loc="best")
        networks = results[0]["networks"]
        drawing.suptitle(f"Trials to criterion, {networks} networks with each rule")


def _end(row: dict[str, Any]) -> int:
    """Return the trial at which nothing more happens: all have learned, or the rest gave up."""
    return row["max_trials"] if None in row["trials"] else max(row["trials"])
