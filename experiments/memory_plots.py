"""Pictures of working-memory runs: who learned by when, what the units do, which settings work."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.plots import COLOURS, LINES, figure
from qagrel_jax.recording import Recording
from qagrel_jax.tasks import base

ACTION_NAMES = ("fixate", "left", "right")


def converged(path: Path, summary: dict[str, Any]) -> None:
    """Draw the fraction of networks that have converged, against trials."""
    groups = {f"all {summary['networks']} networks": summary["trials"]}
    if "grid" in summary:
        per = summary["config"]["networks"]
        groups = {
            _setting(summary["grid"], cell): summary["trials"][i * per : (i + 1) * per]
            for i, cell in enumerate(summary["grid"])
        }
    wide = len(groups) > 1
    with figure(path, 8.0 if wide else 6.0, 4.5 if wide else 4.0) as (_, axes):
        longest = max((t for t in summary["trials"] if t is not None), default=1)
        for index, (name, trials) in enumerate(groups.items()):
            there = np.sort([t for t in trials if t is not None])
            x = np.concatenate([[0], there, [longest * 1.05]])
            y = np.concatenate([np.arange(len(there) + 1), [len(there)]]) / len(trials)
            style = {"color": COLOURS[index % 7], "linestyle": LINES[index // 7 % 7]}
            axes.step(x, y, where="post", label=name, **style)
        if not wide and summary["median_trials"] is not None:
            axes.axvline(summary["median_trials"], color="0.4", linestyle=":", linewidth=1.2)
            axes.annotate(
                f"median of the converged {summary['median_trials']:,.0f}",
                (summary["median_trials"], 0.02),
                xytext=(5, 0),
                textcoords="offset points",
                color="0.3",
            )
        axes.set_xlabel("training trials")
        axes.set_ylabel("fraction of networks converged")
        axes.set_ylim(0, 1.02)
        axes.set_xlim(left=0)
        axes.set_title(f"{summary['task']}: {100 * summary['converged_fraction']:.2f} % converged")
        if wide:
            axes.legend(fontsize=7, handlelength=4, loc="center left", bbox_to_anchor=(1, 0.5))


def _setting(grid: list[dict[str, Any]], cell: dict[str, Any]) -> str:
    """Name a cell by what differs within the grid."""
    forms = {"feedback": "{} feedback", "learning_rate": "β {:g}", "tag_decay": "λ {:g}"}
    varied = [name for name in forms if len({other[name] for other in grid}) > 1]
    return ", ".join(forms[name].format(cell[name]) for name in varied)


def activity(path: Path, title: str, recordings: dict[str, Recording]) -> None:
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


def grid(path: Path, summary: dict[str, Any]) -> None:
    """Draw converged fraction and median trials by learning rate and tag decay; rows: feedbacks."""
    config, cells = summary["config"], summary["grid"]
    feedbacks, rates, decays = (
        config[name] for name in ("feedbacks", "learning_rates", "tag_decays")
    )
    shape = len(feedbacks), len(rates), len(decays)
    fraction = np.reshape([cell["converged_fraction"] for cell in cells], shape)
    median = np.reshape(np.array([cell["median_trials"] for cell in cells], dtype=float), shape)
    panels = (
        (fraction, "fraction converged", "{:.2f}", {"vmin": 0, "vmax": 1}),
        (median, "median trials of the converged", "{:,.0f}", _limits(median)),
    )
    size = 5.0 + 1.3 * len(decays), 0.6 + (1.2 + 0.6 * len(rates)) * len(feedbacks)
    with figure(path, *size, nrows=len(feedbacks), ncols=2, squeeze=False) as (drawing, rows):
        for (row, column), axes in np.ndenumerate(rows):
            values, name, form, limits = panels[column]
            title = name if len(feedbacks) == 1 else f"{feedbacks[row]}: {name}"
            _heat_map(drawing, axes, values[row], form, limits)
            axes.set_xticks(range(len(decays)), [f"{d:g}" for d in decays])
            axes.set_yticks(range(len(rates)), [f"{r:g}" for r in rates])
            axes.set_xlabel("tag decay λ")
            axes.set_ylabel("learning rate β")
            axes.set_title(title)
        drawing.suptitle(
            f"{summary['task']}, {' and '.join(feedbacks)} feedback: "
            f"{config['networks']} networks a setting"
        )


def speed(path: Path, content: dict[str, Any]) -> None:
    """Draw trials per second against the number of networks, for both implementations."""
    sizes = [row["networks"] for row in content["rows"]]
    with figure(path, 6.0, 4.0) as (_, axes):
        for index, (key, name) in enumerate((("qagrel_jax", "qagrel_jax"), ("numpy", "NumPy"))):
            pieces = [row[key]["pieces"] for row in content["rows"]]
            rates = [[p["trials"] / p["seconds"] for p in of_size] for of_size in pieces]
            middle = [row[key]["trials_per_second"] for row in content["rows"]]
            style = {"color": COLOURS[index], "linestyle": LINES[index], "marker": "os"[index]}
            axes.plot(sizes, middle, label=name, **style)
            low, high = (list(map(f, rates)) for f in (min, max))
            axes.fill_between(sizes, low, high, color=COLOURS[index], alpha=0.2, linewidth=0)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("networks")
        axes.set_ylabel("trials / s, all networks together")
        axes.set_title(f"{content['task']}: median and range, {content['device']}")
        axes.legend(loc="lower right")


def _heat_map(drawing: Any, axes: Any, values: np.ndarray, form: str, limits: dict) -> None:
    picture = axes.imshow(values, origin="lower", cmap="cividis", aspect="auto", **limits)
    drawing.colorbar(picture, ax=axes)
    for (row, column), value in np.ndenumerate(values):
        dark = picture.norm(value) < 0.5 if np.isfinite(value) else False
        text = form.format(value) if np.isfinite(value) else "–"
        axes.text(column, row, text, ha="center", va="center", color="w" if dark else "k")
    axes.grid(False)


def _limits(values: np.ndarray) -> dict[str, float]:
    there = values[np.isfinite(values)]
    return {"vmin": there.min(), "vmax": there.max()} if there.size else {}


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
