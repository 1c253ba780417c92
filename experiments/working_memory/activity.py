"""The picture of what AuGMEnT's units do through a trial of each type."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.plots import figure, unit_activity
from qagrel_jax.population.recording import Recording
from qagrel_jax.tasks import base

ACTION_NAMES = ("fixate", "left", "right")


def draw(path: Path, title: str, task: base.Task, recordings: dict[str, Recording]) -> None:
    """Draw inputs, regular units, memory units and Q values through a trial of each type."""
    columns = len(recordings)
    grid = {"nrows": 4, "ncols": columns, "sharex": True, "sharey": "row", "squeeze": False}
    with figure(path, 2.9 * columns + 0.9, 8.5, **grid) as (drawing, axes):
        for column, (name, trial) in enumerate(recordings.items()):
            axes[0, column].set_title(
                f"{name}\n({'correct' if trial.correct else 'wrong'} response)"
            )
            axes[0, column].imshow(
                trial.observation.T, aspect="auto", cmap="Greys", vmin=0, vmax=1,
                interpolation="nearest",
            )  # fmt: skip
            axes[0, column].grid(False)
            for row, (kind, values) in enumerate((("R", trial.regular), ("M", trial.memory)), 1):
                names = [f"{kind}{unit + 1}" for unit in range(values.shape[1])]
                unit_activity(axes[row, column], values, names)
            # The last observation follows the trial's end; nothing is chosen any more.
            unit_activity(axes[3, column], trial.q_values[:-1], ACTION_NAMES)
            for row in range(4):
                go = f"go: {task.go_signal}"
                _mark_phases(axes[row, column], trial, go, shaded=row > 0, named=row == 1)
            axes[3, column].set_xlabel("step of the trial")
        _name_inputs(axes[0, 0], task.input_groups)
        for row, name in enumerate(("regular units", "memory units"), 1):
            axes[row, 0].set_ylabel(f"{name}\n(activity)")
        axes[0, 0].set_ylabel("inputs")
        axes[3, 0].set_ylabel("Q values\n(reward)")
        for row in (1, 2, 3):
            axes[row, -1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
        for row in (1, 2):
            axes[row, 0].set_ylim(-0.05, 1.05)
        drawing.suptitle(title)


def _name_inputs(axes: Any, groups: dict[str, int]) -> None:
    ends = np.cumsum(list(groups.values()))
    middles = ends - (np.array(list(groups.values())) + 1) / 2
    axes.set_yticks(middles, groups)
    axes.set_yticks(ends[:-1] - 0.5, minor=True)
    axes.tick_params(axis="y", which="major", length=0)
    if ends[-1] > 20:  # where rows are thin, the mark's name clears that of the group below
        axes.get_yticklabels()[0].set_verticalalignment("bottom")


def _mark_phases(axes: Any, trial: Recording, go: str, shaded: bool, named: bool) -> None:
    """Shade HOLD, where stimuli are shown and kept in memory, and draw a line at GO."""
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
