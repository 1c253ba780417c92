"""Working memory: populations compared with the paper's, and settings with each other."""

from pathlib import Path
from typing import Any, NamedTuple

from scipy.stats import fisher_exact

from experiments.common.significance import rank_test
from experiments.reports import NOT_RUN, markdown, memory_successors
from experiments.reports import memory_cells as cells
from experiments.working_memory import plots


class Published(NamedTuple):
    """What Rombouts, Bohte & Roelfsema (2015) report of a task."""

    converged: int
    networks: int
    median: int
    about: bool = False


PAPER = {
    "saccade": Published(9945, 10_000, 4100, about=True),
    "match_to_category": Published(100, 100, 11_550),
    "probabilistic": Published(99, 100, 55_234),
    "vibrotactile": Published(100, 100, 3036),
}
FEEDBACK = ("saccade_feedback", "vibrotactile_feedback")
GRID = "saccade_grid"
PAPERS_SETTING = {"learning_rate": 0.15, "tag_decay": 0.2}


def section(results: Path) -> str:
    """Return the tables of populations, feedback and the grid; draw what needs no network.

    Args:
      results: ``experiments/results``.
    """
    folder = results / "working_memory"
    parts = [
        ("Populations", _populations(folder)),
        ("Gated memory: RECOLLECT", memory_successors.recollect(folder)),
        ("Memory in blocks: WorkMATe", memory_successors.workmate(folder)),
        ("Letters never seen: tests of frozen networks", memory_successors.new_letters(folder)),
        ("12AX: standard, leaky and hybrid AuGMEnT", memory_successors.twelve_ax(folder)),
        ("Tied and Kolen–Pollack feedback", _feedback(folder)),
        ("Learning rate and tag decay", _grid(folder)),
    ]
    return "\n\n".join(f"**{title}**\n\n{text}" for title, text in parts)


def _populations(folder: Path) -> str:
    others = {path.parent.name for path in folder.glob("*/summary.json")}
    successors = {
        name for name in others if memory_successors.is_one(cells.read(folder / name) or {})
    }
    names = [*PAPER, *sorted(others - {*PAPER, *FEEDBACK, GRID} - successors)]
    runs = {name: cells.read(folder / name) for name in names}
    rows, commands, pictures = [], [], []
    for name, run in runs.items():
        if run is None:
            rows.append([name, "not run", *["–"] * 7])
            continue
        paper = PAPER[run["task"]]
        reached = sum(t is not None for t in run["trials"])
        odds = [
            [reached, run["networks"] - reached],
            [paper.converged, paper.networks - paper.converged],
        ]
        rows.append(
            [
                name,
                cells.share(run),
                cells.percentage(paper.converged, paper.networks),
                markdown.p_value(fisher_exact(odds).pvalue),
                *cells.trials(run),
                f"{'about ' * paper.about}{paper.median:,}",
                cells.difference(run["median_trials"], paper.median),
                f"{run['seconds']:,.0f}",
            ]
        )
        commands.append(cells.provenance(run, folder / name))
        plots.converged(folder / name / "converged.png", run)
        pictures.append(
            f"![{name}: networks converged]({name}/converged.png) "
            f"![{name}: activity of the units]({name}/activity.png)"
        )
    headings = (
        "folder",
        "converged",
        "paper, converged",
        "p",
        "trials, median (quartiles)",
        "trials, mean",
        "paper, median",
        "difference",
        "seconds",
    )
    return "\n\n".join([markdown.table(headings, rows), cells.listed(commands), *pictures])


def _feedback(folder: Path) -> str:
    rows, commands = [], []
    for name in FEEDBACK:
        run = cells.read(folder / name)
        if run is None:
            rows.append([name.removesuffix("_feedback"), "not run", *["–"] * 4])
            continue
        tests = {_setting(test): test["p"] for test in run["feedback_mann_whitney"]}
        last = run["grid"][-1]["feedback"]
        for cell in run["grid"]:
            p = markdown.p_value(tests[_setting(cell)]) if cell["feedback"] == last else ""
            kind = plots.feedback(cell["feedback"])
            rows.append([run["task"], kind, cells.share(cell), *cells.trials(cell), p])
        commands.append(cells.provenance(run, folder / name))
        plots.converged(folder / name / "converged.png", run)
        commands[-1] += f"\n\n  ![{name}]({name}/converged.png)"
    headings = ("task", "feedback", "converged", "trials, median (quartiles)", "trials, mean", "p")
    return "\n\n".join([markdown.table(headings, rows), cells.listed(commands)]).strip()


def _grid(folder: Path) -> str:
    run = cells.read(folder / GRID)
    if run is None:
        return NOT_RUN
    per = run["config"]["networks"]
    groups = [run["trials"][i * per : (i + 1) * per] for i in range(len(run["grid"]))]
    ranks = [[float("inf") if t is None else t for t in group] for group in groups]
    here = [_setting(cell) == _setting(PAPERS_SETTING) for cell in run["grid"]]
    own = ranks[here.index(True)] if any(here) else None
    rows = []
    for cell, group, papers in zip(run["grid"], ranks, here, strict=True):
        p = "(the paper's)" if papers else "–"
        if own is not None and not papers:
            p = markdown.p_value(rank_test(group, own))
        setting = [f"{cell['learning_rate']:g}", f"{cell['tag_decay']:g}"]
        rows.append([*setting, cells.share(cell), *cells.trials(cell), p])
    plots.grid(folder / GRID / "grid.png", run)
    plots.converged(folder / GRID / "converged.png", run)
    headings = ("β", "λ", "converged", "trials, median (quartiles)", "trials, mean", "p")
    return "\n\n".join(
        [
            markdown.table(headings, rows),
            cells.listed([cells.provenance(run, folder / GRID)]),
            f"![The grid]({GRID}/grid.png)",
        ]
    )


def _setting(cell: dict[str, Any]) -> tuple[float, float]:
    return cell["learning_rate"], cell["tag_decay"]
