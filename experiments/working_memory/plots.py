"""Pictures of working-memory runs: convergence, settings, speed."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import NullLocator

from experiments.common import display
from experiments.common.names import FEEDBACK_ALIASES
from experiments.plots import (
    COLORS,
    LINES,
    color_and_line,
    figure,
    legend_below,
    plain_log,
    spread,
    whole_numbers,
)
from experiments.working_memory.config import changed

RULES = {"augment": "AuGMEnT", "recollect": "RECOLLECT", "workmate": "WorkMATe"}
LEVELS = {"match_to_sample": "set of stimuli"}
"""What a task's shaping levels are."""


def converged(path: Path, summary: dict[str, Any]) -> None:
    """Draw the fraction of networks that have converged, against trials; a large grid by β."""
    panels = _panels(summary)
    several = len(panels) > 1
    reached = [t for t in summary["trials"] if t is not None]
    end = 1.05 * max(reached, default=np.inf)
    end = min(end, summary.get("max_trials", end))
    rows = 1 + several
    layout = {"nrows": rows, "ncols": -(-len(panels) // rows), "squeeze": False}
    wide = several or len(next(iter(panels.values()))) > 1
    size = (8.0, 6.0) if several else (8.0, 4.5) if wide else (6.0, 4.0)
    with figure(path, *size, sharex=True, sharey=True, **layout) as (drawing, all_axes):
        for axes, (title, groups) in zip(all_axes.flat, panels.items(), strict=False):
            for index, (name, trials) in enumerate(groups.items()):
                there = np.sort([t for t in trials if t is not None])
                x = np.concatenate([[0], there, [end]])
                y = np.concatenate([np.arange(len(there) + 1), [len(there)]]) / len(trials)
                color, line = color_and_line(index)
                axes.step(x, y, where="post", label=name, color=color, linestyle=line)
            axes.set_title(title)
            axes.set_ylim(-0.02, 1.02)
            axes.set_xlim(0, end)
            axes.xaxis.set_major_formatter("{x:,.0f}")
            whole_numbers(axes.xaxis)
            axes.set_xlabel("training trials")
            axes.set_ylabel("fraction converged")
            axes.label_outer()
        for axes in all_axes.flat[len(panels) :]:
            axes.set_visible(False)
        if wide:
            legend_below(drawing, all_axes.flat[: len(panels)], fontsize=8, handlelength=4)
        if several:
            drawing.suptitle(_title(summary))
        elif not wide and summary["median_trials"] is not None:
            median = summary["median_trials"]
            axes = all_axes[0, 0]
            axes.axvline(median, color="0.4", linestyle=":", linewidth=1.2)
            left = median < end / 2
            axes.annotate(
                f"median of the converged {median:,.0f}",
                (median, 0.02 if left else 0.92),
                xytext=(5 if left else -5, 0),
                ha="left" if left else "right",
                textcoords="offset points",
                color="0.3",
            )


def levels(path: Path, summary: dict[str, Any]) -> None:
    """Draw the trials that each shaping level took the networks that passed it, by setting."""
    grid = [cell for cell in summary.get("grid", ()) if "levels" in cell]
    apart = {_setting(grid, cell): cell["levels"] for cell in grid if len(grid) <= len(LINES)}
    every = summary["levels"]
    with figure(path, 6.0, 4.5 if apart else 4.0) as (drawing, axes):
        for index, (name, group) in enumerate((apart or {"all": every}).items()):
            rows = [row for row in group if row["median_trials"] is not None]
            if not rows:
                continue
            color, line = color_and_line(index)
            numbers = [row["level"] for row in rows]
            low, high = zip(*(row["quartiles_trials"] for row in rows), strict=True)
            medians = [row["median_trials"] for row in rows]
            axes.plot(numbers, medians, marker="o", color=color, linestyle=line, label=name)
            spread(axes, numbers, list(low), list(high), color)
        if axes.lines:
            axes.set_yscale("log")
            axes.yaxis.set_minor_locator(NullLocator())
            plain_log(axes.yaxis, *axes.get_ylim())
        else:
            none = f"no network passed in {summary['max_trials']:,} trials"
            axes.text(0.5, 0.5, none, ha="center", transform=axes.transAxes)
            axes.set_yticks([])
        if apart:
            legend_below(drawing, [axes], fontsize=8, handlelength=4)
        axes.set_xlim(0.5, len(every) + 0.5)
        named = [f"{row['level']}\n{row['passed']} of {summary['networks']}" for row in every]
        axes.set_xticks([row["level"] for row in every], named)
        axes.set_xlabel(f"{LEVELS.get(summary['task'], 'shaping level')}, networks that passed it")
        axes.set_ylabel("training trials at it (median, quartiles)")
        axes.set_title(_title(summary))


def new_letters(path: Path, lines: list[dict[str, Any]]) -> None:
    """Draw each network's accuracy on the letters learned last and on new ones, a panel a run."""
    size = max(6.0, 4.2 * len(lines)), 3.6
    with figure(path, *size, ncols=len(lines), sharey=True, squeeze=False) as (drawing, (row,)):
        for axes, line in zip(row, lines, strict=True):
            last, *new = line["sets"]
            for place, tested in enumerate(line["sets"].values()):
                accuracy = np.round(50 * np.add(tested["same"], tested["different"]), 1)
                values, counts = np.unique(accuracy, return_counts=True)
                # The area of a ring is the number of networks.
                axes.scatter(
                    np.full(len(values), place), values, 6 * counts, "none", edgecolors=COLORS[0]
                )
                if accuracy.size:
                    axes.plot([place - 0.35, place + 0.35], [accuracy.mean()] * 2, color=COLORS[1])
            axes.axhline(50, color="0.6", linewidth=0.8)
            named = [f"{last}\nlearned last", *(f"{letters}\nnew" for letters in new)]
            axes.set_xticks(range(len(named)), named)
            axes.set_xlim(-0.6, len(named) - 0.4)
            axes.set_ylim(-5, 108)
            axes.set_title(f"{line['run']}:\n{len(line['learned'])} networks", fontsize=10)
        row[0].set_ylabel("accuracy (%; gray: chance)")
        drawing.suptitle("rings: networks, their area how many; bar: mean", fontsize=10)


GRID = ("feedbacks", "learning_rates", "tag_decays")
"""Settings that may have several values, which the pictures tell apart."""


def task_and_rule(task: str, rule: str) -> str:
    """Name the task, and the rule if it is not AuGMEnT."""
    return task if rule == "augment" else f"{task}, {RULES[rule]}"


def with_settings(title: str, task: str, config: dict[str, Any]) -> str:
    """Put the settings that are not the rule's and task's own below ``title``."""
    swept = tuple(name for name in GRID if len(config.get(name, ())) > 1)
    settings = changed(config.get("rule", "augment"), task, config, ("task", "rule", *swept))
    words = ", ".join(settings).replace("_", " ")
    return "\n".join([title, *textwrap.wrap(display.shown(words), 60)])


def _named(summary: dict[str, Any]) -> str:
    # Earlier summaries tell no rule.
    return task_and_rule(summary["task"], summary.get("config", {}).get("rule", "augment"))


def _title(summary: dict[str, Any], more: str = "") -> str:
    return with_settings(_named(summary) + more, summary["task"], summary.get("config", {}))


def _panels(summary: dict[str, Any]) -> dict[str, dict[str, list[int | None]]]:
    """Return {panel: {line: trials of its networks}}; more lines than styles go apart, by β."""
    task, trials = _named(summary), summary["trials"]
    if "grid" not in summary:
        percent = 100 * summary["converged_fraction"]
        return {
            _title(summary, f": {percent:.2f} % converged"): {f"all {summary['networks']}": trials}
        }
    cells, per = summary["grid"], summary["config"]["networks"]
    apart = len(cells) > len(LINES) and len({cell["learning_rate"] for cell in cells}) > 1
    panels: dict[str, dict[str, list[int | None]]] = {}
    for i, cell in enumerate(cells):
        panel = f"learning rate β {cell['learning_rate']:g}" if apart else task
        alike = [c for c in cells if not apart or c["learning_rate"] == cell["learning_rate"]]
        lines = panels.setdefault(panel, {})
        lines[_setting(alike, cell)] = trials[i * per : (i + 1) * per]
    return panels


def feedback(kind: str) -> str:
    """Name a kind of feedback; earlier summaries have earlier names."""
    return display.shown(FEEDBACK_ALIASES.get(kind, kind))


def _setting(grid: list[dict[str, Any]], cell: dict[str, Any]) -> str:
    """Name a cell by what differs within the grid."""
    forms = {"feedback": "{} feedback", "learning_rate": "β {:g}", "tag_decay": "λ {:g}"}
    varied = [name for name in forms if len({other[name] for other in grid}) > 1]
    named = cell | {"feedback": feedback(cell["feedback"])}
    return ", ".join(forms[name].format(named[name]) for name in varied)


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
    named = [feedback(kind) for kind in feedbacks]
    size = max(8.0, 5.0 + 1.3 * len(decays)), 0.6 + (1.4 + 0.6 * len(rates)) * len(feedbacks)
    with figure(path, *size, nrows=len(feedbacks), ncols=2, squeeze=False) as (drawing, rows):
        for (row, column), axes in np.ndenumerate(rows):
            values, name, form, limits = panels[column]
            title = name if len(feedbacks) == 1 else f"{named[row]}:\n{name}"
            _heat_map(drawing, axes, values[row], form, limits)
            axes.set_xticks(range(len(decays)), [f"{d:g}" for d in decays])
            axes.set_yticks(range(len(rates)), [f"{r:g}" for r in rates])
            axes.set_xlabel("tag decay λ")
            axes.set_ylabel("learning rate β")
            axes.set_title(title, fontsize=10)
        drawing.suptitle(
            f"{_named(summary)}, {' and '.join(named)} feedback: "
            f"{config['networks']} networks per setting"
        )


def speed(path: Path, content: dict[str, Any]) -> None:
    """Draw trials per second against the number of networks, for both implementations."""
    sizes = [row["networks"] for row in content["rows"]]
    with figure(path, 6.0, 4.0) as (_, axes):
        for index, (key, name) in enumerate((("qagrel_jax", "qagrel_jax"), ("numpy", "NumPy"))):
            pieces = [row[key]["pieces"] for row in content["rows"]]
            rates = [[p["trials"] / p["seconds"] for p in of_size] for of_size in pieces]
            middle = [row[key]["trials_per_second"] for row in content["rows"]]
            style = {"color": COLORS[index], "linestyle": LINES[index], "marker": "os"[index]}
            axes.plot(sizes, middle, label=name, **style)
            low, high = (list(map(f, rates)) for f in (min, max))
            spread(axes, sizes, low, high, COLORS[index])
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.xaxis.set_minor_locator(NullLocator())
        plain_log(axes.yaxis, *axes.get_ylim())
        axes.set_xlabel("networks")
        axes.set_ylabel("trials / s, all networks together")
        axes.set_title(f"{content['task']}: median and range, {content['device']}")
        axes.legend()


def _heat_map(drawing: Any, axes: Any, values: np.ndarray, form: str, limits: dict) -> None:
    picture = axes.imshow(values, origin="lower", cmap="cividis", aspect="auto", **limits)
    if np.isfinite(values).any():
        drawing.colorbar(picture, ax=axes)
    for (row, column), value in np.ndenumerate(values):
        dark = picture.norm(value) < 0.5 if np.isfinite(value) else False
        text = form.format(value) if np.isfinite(value) else "–"
        axes.text(column, row, text, ha="center", va="center", color="w" if dark else "k")
    axes.grid(False)


def _limits(values: np.ndarray) -> dict[str, float]:
    there = values[np.isfinite(values)]
    if not there.size:
        return {}
    # Of a single value a color bar would show decimals around it.
    varied = there.min() < there.max()
    return {"vmin": there.min() if varied else 0, "vmax": there.max()}
