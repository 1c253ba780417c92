"""The picture of what AuGMEnT's units do through a trial of each type."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.plots import COLOURS, LINES, figure
from qagrel_jax.recording import Recording
from qagrel_jax.tasks import base

ACTION_NAMES = ("fixate", "left", "right")


def draw(path: Path, title: str, recordings: dict[str, Recording]) -> None:
    """Draw inputs, regular units, memory units and Q values through a trial of each type."""
    rows = ("input", "regular units", "memory units", "Q values")
    columns = len(recordings)
    grid = {"nrows": 4, "ncols": columns, "sharex": True, "sharey": "row", "squeeze": False}
    with figure(path, 2.9 * columns + 0.9, 8.5, **grid) as (drawing, axes):
        for column, (name, trial) in enumerate(recordings.items()):
            steps = np.arange(len(trial.phase))
            axes[0, column].set_title(
                f"{name}\n({'correct' if trial.correct else 'wrong'} response)"
            )
            axes[0, column].imshow(
                trial.observation.T, aspect="auto", cmap="Greys", vmin=0, vmax=1,
                interpolation="nearest",
            )  # fmt: skip
            axes[0, column].grid(False)
            axes[0, column].yaxis.get_major_locator().set_params(integer=True)
            _lines(axes[1, column], steps, trial.regular, "R")
            _lines(axes[2, column], steps, trial.memory, "M")
            # The last observation follows the trial's end; nothing is chosen any more.
            _lines(axes[3, column], steps[:-1], trial.q_values[:-1], "", ACTION_NAMES)
            for row in range(4):
                _mark_phases(axes[row, column], trial, shaded=row > 0, named=row == 1)
            axes[3, column].set_xlabel("step of the trial")
        for row, name in enumerate(rows):
            axes[row, 0].set_ylabel(f"{name}\n(unit)" if row == 0 else f"{name}\n(activity)")
        axes[3, 0].set_ylabel("Q values\n(reward)")
        for row in (1, 2, 3):
            axes[row, -1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
        for row in (1, 2):
            axes[row, 0].set_ylim(-0.05, 1.05)
        drawing.suptitle(title)


def _lines(axes: Any, steps: np.ndarray, values: np.ndarray, prefix: str, names: Any = ()) -> None:
    for unit in range(values.shape[1]):
        label = names[unit] if unit < len(names) else f"{prefix}{unit + 1}"
        style = {"color": COLOURS[unit % 7], "linestyle": LINES[unit % 7]}
        axes.plot(steps, values[:, unit], marker=".", markersize=5, label=label, **style)


def _mark_phases(axes: Any, trial: Recording, shaded: bool, named: bool) -> None:
    """Shade HOLD, where stimuli are shown and kept in memory, and draw a line at GO."""
    for phase, name in ((base.HOLD, "stimuli, delay"), (base.GO, "go")):
        at = np.flatnonzero(trial.phase == phase)
        if not at.size:
            continue
        if phase == base.HOLD and shaded:
            axes.axvspan(at[0] - 0.5, at[-1] + 0.5, color="0.9", zorder=0, alpha=0.5)
        axes.axvline(at[0] - 0.5, color="0.4", linewidth=0.9, linestyle=":")
        if named:
            axes.text(at[0] - 0.4, 1.03, name, fontsize=8, va="top", color="0.3")
