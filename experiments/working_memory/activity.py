"""The picture of what a network's units do through a trial of each type."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.plots import LINES, figure, unit_activity, whole_numbers
from qagrel_jax.population.recording import Recording
from qagrel_jax.tasks import base

LETTERS = {"regular": "R", "memory": "M", "gate": "G", "match": "match "}
MAP = "cividis"


def draw(
    path: Path,
    title: str,
    task: base.Task,
    units: dict[str, str],
    recordings: dict[str, Recording],
) -> None:
    """Draw inputs, every group of ``units`` and Q values through a trial of each type.

    A group is drawn with a line a unit, a large one as a map with a row a unit.

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
    sizes = {group: max(t.units[group].shape[1] for t in recordings.values()) for group in units}
    highest = {
        group: max(np.nan_to_num(t.units[group]).max() for t in recordings.values()) or 1.0
        for group in units
    }
    maps = {row for row, size in enumerate(sizes.values(), 1) if size > len(LINES)}
    with figure(path, 2.9 * columns + 0.9, 2.1 * (last + 1) + 0.1, **grid) as (drawing, axes):
        for column, (name, trial) in enumerate(recordings.items()):
            # Not "wrong": a trial may have ended without a response.
            axes[0, column].set_title(f"{name}\n({'correct' if trial.correct else 'not correct'})")
            _map(axes[0, column], trial.observation, "Greys", 1)
            for row, group in enumerate(units, 1):
                if row in maps:
                    _map(axes[row, column], trial.units[group], MAP, highest[group])
                else:
                    names = [f"{LETTERS[group]}{unit + 1}" for unit in range(sizes[group])]
                    unit_activity(axes[row, column], trial.units[group], names)
            # The last observation follows the trial's end; nothing is chosen any more.
            unit_activity(axes[last, column], trial.q_values[:-1], task.action_names)
            _mark_phases(axes[0, column], trial)
            for row in range(1, last + 1):
                style = {"color": "1.0"} if row in maps else {"shaded": True}
                _mark_phases(axes[row, column], trial, **style)
            _name_phases(axes[1, column], trial, task.go_signal, above=1 in maps)
            axes[last, column].set_xlabel("step of the trial")
            whole_numbers(axes[last, column].xaxis)
        _name_inputs(axes[0, 0], task.input_groups)
        axes[0, 0].set_ylabel("inputs")
        axes[last, 0].set_ylabel("Q values\n(reward)")
        for row, (group, name) in enumerate(units.items(), 1):
            axes[row, 0].set_ylabel(f"{name}\n(activity)")
            if row in maps:
                _name_units(drawing, axes[row], LETTERS[group], sizes[group])
            else:
                axes[row, 0].set_ylim(-0.05, 1.05)
        for row in set(range(1, last + 1)) - maps:
            axes[row, -1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
        drawing.suptitle(title)


def _map(axes: Any, values: np.ndarray, colors: str, highest: float) -> None:
    """Draw values [steps, units], from 0 to ``highest``, with a row a unit."""
    style = {"aspect": "auto", "interpolation": "nearest", "cmap": colors}
    axes.imshow(values.T, vmin=0, vmax=highest, **style)
    axes.grid(False)


def _name_units(drawing: Any, axes: Any, letter: str, size: int) -> None:
    """Name every fifth unit of a row of maps, and say at its end what the colors mean."""
    named = [0, *range(4, size, 5)]
    axes[0].set_yticks(named, [f"{letter}{unit + 1}" for unit in named])
    axes[0].tick_params(axis="y", labelsize=8)
    beside = axes[-1].inset_axes((1.05, 0, 0.05, 1))
    drawing.colorbar(axes[-1].images[0], cax=beside)


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


def _mark_phases(axes: Any, trial: Recording, color: str = "0.4", shaded: bool = False) -> None:
    """Draw a line at HOLD, where stimuli are shown and kept in memory, and at GO; shade HOLD."""
    for name, begin, end in _phases(trial):
        if name == base.HOLD and shaded:
            axes.axvspan(begin, end, color="0.9", zorder=0, alpha=0.5)
        axes.axvline(begin, color=color, linewidth=0.9, linestyle=":")


def _name_phases(axes: Any, trial: Recording, go: str, above: bool) -> None:
    """Name HOLD and GO in the upper part of ``axes``, or ``above`` them."""
    style = {"fontsize": 8, "color": "0.3", "va": "bottom" if above else "top"}
    for name, begin, _ in _phases(trial):
        if name == base.HOLD:
            place = axes.get_xaxis_transform()
            height = 1.12 if above else 0.98
            axes.text(begin + 0.1, height, "stimuli, delay", transform=place, **style)
        else:  # GO may be shorter than its name: to the left of the trial's end
            height = 1.01 if above else 0.86
            axes.text(1.0, height, f"go: {go}", transform=axes.transAxes, ha="right", **style)


def _phases(trial: Recording) -> list[tuple[int, float, float]]:
    """Return HOLD and GO with their begin and end; nothing of a trial without HOLD."""
    at = {phase: np.flatnonzero(trial.phase == phase) for phase in (base.HOLD, base.GO)}
    if not at[base.HOLD].size:
        return []
    return [(phase, s[0] - 0.5, s[-1] + 0.5) for phase, s in at.items() if s.size]
