"""The picture of what a network's units do through a trial of each type."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.plots import figure, unit_activity, whole_numbers
from qagrel_jax.population.recording import Recording
from qagrel_jax.tasks import base

LETTERS = {"regular": "R", "memory": "M", "gate": "G", "match": "match "}


def draw(
    path: Path,
    title: str,
    task: base.Task,
    units: dict[str, str],
    recordings: dict[str, Recording],
) -> None:
    """Draw inputs, every group of ``units`` and Q values through a trial of each type.

    Args:
      path: of the picture.
      title: above all.
      task: what was recorded.
      units: the groups of units in a ``Recording``, and what they are called.
      recordings: a column each, by name.
    """
    last = 1 + len(units)
    columns = len(recordings)
    grid: dict[str, Any] = {
        "nrows": last + 1,
        "ncols": columns,
        "sharex": True,
        "sharey": "row",
        "squeeze": False,
    }
    with figure(path, 2.9 * columns + 0.9, 2.1 * (last + 1) + 0.1, **grid) as (drawing, axes):
        for column, (name, trial) in enumerate(recordings.items()):
            # Not "wrong": a trial may have ended without a response.
            axes[0, column].set_title(f"{name}\n({'correct' if trial.correct else 'not correct'})")
            axes[0, column].imshow(
                trial.observation.T,
                aspect="auto",
                cmap="Greys",
                vmin=0,
                vmax=1,
                interpolation="nearest",
            )
            axes[0, column].grid(False)
            for row, group in enumerate(units, 1):
                values = trial.units[group]
                names = [f"{LETTERS[group]}{unit + 1}" for unit in range(values.shape[1])]
                unit_activity(axes[row, column], values, names)
            # The last observation follows the trial's end; nothing is chosen any more.
            unit_activity(axes[last, column], trial.q_values[:-1], task.action_names)
            for row in range(last + 1):
                go = f"go: {task.go_signal}"
                _mark_phases(axes[row, column], trial, go, shaded=row > 0, named=row == 1)
            axes[last, column].set_xlabel("step of the trial")
            whole_numbers(axes[last, column].xaxis)
        _name_inputs(axes[0, 0], task.input_groups)
        for row, name in enumerate(units.values(), 1):
            axes[row, 0].set_ylabel(f"{name}\n(activity)")
        axes[0, 0].set_ylabel("inputs")
        axes[last, 0].set_ylabel("Q values\n(reward)")
        for row in range(1, last + 1):
            lines = len(axes[row, -1].get_legend_handles_labels()[0])
            small = {"ncols": -(-lines // 7), "fontsize": 7} if lines > 7 else {}
            axes[row, -1].legend(loc="center left", bbox_to_anchor=(1, 0.5), **small)
        for row in range(1, last):
            axes[row, 0].set_ylim(-0.05, 1.05)
        drawing.suptitle(title)


def _name_inputs(axes: Any, groups: dict[str, int]) -> None:
    ends = np.cumsum(list(groups.values()))
    middles = ends - (np.array(list(groups.values())) + 1) / 2
    axes.set_yticks(middles, groups)
    axes.set_yticks(ends[:-1] - 0.5, minor=True)
    axes.tick_params(axis="y", which="major", length=0)
    if len(groups) > 6:
        axes.tick_params(axis="y", which="major", labelsize=7)
    if ends[-1] > 20:  # where rows are thin, the mark's name clears that of the group below
        axes.get_yticklabels()[0].set_verticalalignment("bottom")


def _mark_phases(axes: Any, trial: Recording, go: str, shaded: bool, named: bool) -> None:
    """Shade HOLD, where stimuli are shown and kept in memory, and draw a line at GO."""
    if not (trial.phase == base.HOLD).any():
        return
    for phase, name in ((base.HOLD, "stimuli, delay"), (base.GO, go)):
        at = np.flatnonzero(trial.phase == phase)
        if not at.size:
            continue
        if phase == base.HOLD and shaded:
            axes.axvspan(at[0] - 0.5, at[-1] + 0.5, color="0.9", zorder=0, alpha=0.5)
        axes.axvline(at[0] - 0.5, color="0.4", linewidth=0.9, linestyle=":")
        if named and phase == base.HOLD:
            axes.text(at[0] - 0.4, 1.03, name, fontsize=8, va="top", color="0.3")
        elif named:  # GO may be shorter than its name: to the left of the trial's end
            end = {"transform": axes.transAxes, "ha": "right", "va": "top"}
            axes.text(1.0, 0.9, name, fontsize=8, color="0.3", **end)
