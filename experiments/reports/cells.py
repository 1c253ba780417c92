"""The papers' cells: accuracy, epochs to criterion and slowdown, and what was published."""

from pathlib import Path

from experiments.common import display
from experiments.reports import markdown, runs
from experiments.reproduce.published import CELLS
from experiments.train import results as run_results
from experiments.train.results import CONTROL, RunResults

PROTOCOLS = ("paper", "clean")


def section(results: Path) -> str:
    """Return the tables, the figure and the list of what was not run."""
    folder = results / "cells"
    found = {path.name for path in folder.iterdir() if path.is_dir()} if folder.is_dir() else set()
    names = [*CELLS, *sorted(found - CELLS.keys())]
    cells = {
        (name, protocol): run_results.read(folder / name / protocol)
        for name in names
        for protocol in PROTOCOLS
    }
    there = {key: run for key, run in cells.items() if run is not None}
    missing = _missing(cells)
    if not there:
        return missing
    _draw(folder / "learning_curves.png", there)
    return "\n\n".join(
        [
            "**Accuracy on the test images, %**: mean (sd) [lowest–highest] over the seeds; the "
            "difference with its 95 % interval (paired t test over the seeds).",
            _accuracy_table(there),
            *_late_table(there),
            "**Epochs** until the monitored accuracy first reaches 95, 98 and 99 % of backprop's "
            "accuracy (the mean over seeds of its best monitored accuracy), and the epoch of the "
            "best accuracy: mean (sd). Slowdown: ratio of the means, with its 95 % interval over "
            "the seeds (Fieller, paired). "
            f"{runs.PAPERS_EPOCHS} {runs.KNOWN} Published slowdown: 1.5–2.5 (2018), 1–3.5 (2020). "
            f"{runs.NO_INTERVAL}",
            _epoch_table(there),
            *_unfinished(there),
            *runs.notes(*there.values()),
            "![Learning curves of every cell](learning_curves.png)",
            "Monitored: the test images under protocol `paper`, the validation split under "
            "`clean`. Lines are means over the seeds, bands their range; a seed that has stopped "
            "keeps its last accuracy. Each folder has its own `learning_curves.png`.",
            "**Runs**",
            _run_table(there),
            missing,
        ]
    )


def _accuracy_table(there: dict[tuple[str, str], RunResults]) -> str:
    rows = []
    for (name, protocol), run in there.items():
        published = CELLS.get(name)
        shown = "not known to us"
        if name.startswith("tiny_imagenet100") or name not in CELLS:
            shown = "none"
        elif published and protocol == "paper":
            shown = f"{published.accuracy:.2f} ({published.accuracy_sd:.2f})"
        accuracies = [
            markdown.spread(100 * run.accuracy(rule)) if run.ran(rule) else "not run"
            for rule in (runs.RULE, CONTROL)
        ]
        seeds = str(run.config.seeds)
        rows.append([_cell(name, run), protocol, seeds, *accuracies, *runs.difference(run), shown])
    headings = (
        "cell",
        "protocol",
        "seeds",
        "Q-AGREL",
        "backprop",
        "Q-AGREL − backprop, points",
        "p",
        "published Q-AGREL",
    )
    return markdown.table(headings, rows)


def _late_table(there: dict[tuple[str, str], RunResults]) -> list[str]:
    rows = [
        [_cell(name, run), protocol, *runs.late(run)]
        for (name, protocol), run in there.items()
        if runs.chosen_by_test(run)
    ]
    headings = ("cell", "protocol", "Q-AGREL", "backprop", "Q-AGREL − backprop, points", "p")
    title = f"**Without the choice of an epoch**: the same {runs.LATE}, %."
    return [title, markdown.table(headings, rows)] if rows else []


def _epoch_table(there: dict[tuple[str, str], RunResults]) -> str:
    rows = []
    for (name, protocol), run in there.items():
        published = CELLS.get(name)
        for row in runs.epoch_rows(run):
            beside = "–"
            if (
                row[0] == "the best epoch"
                and published
                and published.epochs
                and protocol == "paper"
            ):
                beside = f"{published.epochs:g} ({published.epochs_sd:g})"
            rows.append([_cell(name, run), protocol, *row, beside])
    headings = (
        "cell",
        "protocol",
        "criterion",
        "accuracy, %",
        "Q-AGREL, epochs",
        "backprop, epochs",
        "slowdown",
        "published epochs",
    )
    return markdown.table(headings, rows)


def _run_table(there: dict[tuple[str, str], RunResults]) -> str:
    rows = []
    for (name, protocol), run in there.items():
        state = "" if run.finished else "not finished: "
        rows.append(
            [
                name,
                protocol,
                runs.seeds(run),
                state + runs.progress(run),
                runs.devices(run),
                runs.commits(run),
                "<br>".join(runs.commands(run)),
            ]
        )
    headings = ("cell", "protocol", "seeds", "epochs run", "device", "commit", "command")
    return markdown.table(headings, rows)


def _unfinished(there: dict[tuple[str, str], RunResults]) -> list[str]:
    lines = []
    for (name, protocol), run in there.items():
        if run.finished:
            continue
        line = f"- {name}, {protocol}: {runs.so_far(run)}."
        if run.failure:
            line += f" It cannot be resumed: {run.failure}."
        lines.append(line)
    if not lines:
        return []
    return [
        "\\* **Not finished**: accuracies are the best so far on the monitored images, and the "
        "criteria are fractions of backprop's best so far.",
        "\n".join(lines),
    ]


def _missing(cells: dict[tuple[str, str], RunResults | None]) -> str:
    names: dict[str, list[str]] = {}
    for (name, protocol), run in cells.items():
        if run is None:
            names.setdefault(name, []).append(protocol)
    if not names:
        return "Every cell was run."
    listed = [
        name if len(protocols) == len(PROTOCOLS) else f"{name} ({protocols[0]})"
        for name, protocols in names.items()
    ]
    return f"Not run: {', '.join(listed)}."


def _cell(name: str, run: RunResults) -> str:
    return name + runs.marks(run)


def _draw(path: Path, there: dict[tuple[str, str], RunResults]) -> None:
    from experiments import plots

    panels = []
    for (name, protocol), run in there.items():
        plots.learning_curves(run.folder, run.folders)
        seeds = display.counted(run.config.seeds, "seed")
        title = f"{name}, {protocol}, {seeds}" + ("" if run.finished else ",\nnot finished")
        published = CELLS.get(name) if protocol == "paper" else None
        line = published.accuracy if published else None
        panels.append((title, {r: c for r, c in run.curves.items() if len(c)}, line))
    plots.panels_of_curves(path, panels)
