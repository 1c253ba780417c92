"""Working memory: populations beside the paper's, settings beside each other, and speed."""

import statistics
from pathlib import Path
from typing import Any, NamedTuple

from scipy.stats import fisher_exact

from experiments.common.significance import rank_test
from experiments.reports import NOT_RUN, markdown
from experiments.train import folder as run_folder
from experiments.working_memory import plots as memory_plots


class Published(NamedTuple):
    """What Rombouts, Bohté & Roelfsema (2015) report of a task."""

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
LIMIT = 25_000
"""Training trials after which a network gives up the saccade task."""


def section(results: Path) -> str:
    """Return the tables of populations, feedback, the grid and speed; draw what needs no network.

    Args:
      results: ``experiments/results``.
    """
    folder = results / "working_memory"
    parts = [
        ("Populations", _populations(folder)),
        ("Tied against separate feedback", _feedback(folder)),
        ("Learning rate and tag decay", _grid(folder)),
        ("Speed", _speed(results / "memory_speed")),
    ]
    return "\n\n".join(f"**{title}**\n\n{text}" for title, text in parts)


def _populations(folder: Path) -> str:
    others = {path.parent.name for path in folder.glob("*/summary.json")}
    names = [*PAPER, *sorted(others - {*PAPER, *FEEDBACK, GRID})]
    runs = {name: _read(folder / name) for name in names}
    rows, commands, pictures = [], [], []
    for name, run in runs.items():
        if run is None:
            rows.append([name, "not run", *["–"] * 7])
            continue
        paper = PAPER[run["task"]]
        reached = sum(t is not None for t in run["trials"])
        odds = [[reached, run["networks"] - reached],
                [paper.converged, paper.networks - paper.converged]]  # fmt: skip
        rows.append(
            [
                name,
                _share(run),
                _percentage(paper.converged, paper.networks),
                markdown.p_value(fisher_exact(odds).pvalue),
                *_trials(run),
                f"{'about ' * paper.about}{paper.median:,}",
                _difference(run["median_trials"], paper.median),
                f"{run['seconds']:,.0f}",
            ]
        )
        commands.append(_provenance(run, f"working_memory/{name}"))
        memory_plots.converged(folder / name / "converged.png", run)
        pictures.append(
            f"![{name}: networks converged](results/working_memory/{name}/converged.png) "
            f"![{name}: activity of the units](results/working_memory/{name}/activity.png)"
        )
    headings = ("folder", "converged", "paper", "p", "median trials (quartiles)", "mean", "paper, "
                "median", "difference", "seconds")  # fmt: skip
    return "\n\n".join([markdown.table(headings, rows), _listed(commands), *pictures])


def _feedback(folder: Path) -> str:
    rows, commands = [], []
    for name in FEEDBACK:
        run = _read(folder / name)
        if run is None:
            rows.append([name.removesuffix("_feedback"), "not run", *["–"] * 4])
            continue
        tests = {_setting(test): test["p"] for test in run["feedback_mann_whitney"]}
        last = run["grid"][-1]["feedback"]
        for cell in run["grid"]:
            p = markdown.p_value(tests[_setting(cell)]) if cell["feedback"] == last else ""
            rows.append([run["task"], cell["feedback"], _share(cell), *_trials(cell), p])
        commands.append(_provenance(run, f"working_memory/{name}"))
        memory_plots.converged(folder / name / "converged.png", run)
        commands[-1] += f"\n\n  ![{name}](results/working_memory/{name}/converged.png)"
    headings = ("task", "feedback", "converged", "median trials (quartiles)", "mean", "p")
    return "\n\n".join([markdown.table(headings, rows), _listed(commands)]).strip()


def _grid(folder: Path) -> str:
    run = _read(folder / GRID)
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
        rows.append([*setting, _share(cell), *_trials(cell), p])
    memory_plots.grid(folder / GRID / "grid.png", run)
    memory_plots.converged(folder / GRID / "converged.png", run)
    headings = ("β", "λ", "converged", "median trials (quartiles)", "mean", "p")
    return "\n\n".join(
        [
            markdown.table(headings, rows),
            _listed([_provenance(run, f"working_memory/{GRID}")]),
            f"![The grid](results/working_memory/{GRID}/grid.png)",
        ]
    )


def _speed(folder: Path) -> str:
    content = _read(folder, "memory_speed.json")
    if content is None:
        return f"{NOT_RUN} `python -m experiments.memory_speed`"
    rows = []
    for row in content["rows"]:
        ours, theirs = row["qagrel_jax"], row["numpy"]
        whole = LIMIT * row["networks"] / ours["trials_per_second"]
        rows.append(
            [
                f"{row['networks']:,}",
                f"{ours['trials_per_second']:,.0f}",
                f"{theirs['trials_per_second']:,.0f}",
                f"{row['qagrel_jax_over_numpy']:.2f}",
                f"{_each_cpu_second(ours):,.0f}, {_each_cpu_second(theirs):,.0f}",
                f"{ours['cores_busy']:.1f}, {theirs['cores_busy']:.1f}",
                f"{ours['first_turn_seconds']:.1f}",
                f"{whole:,.0f}",
            ]
        )
    memory_plots.speed(folder / "memory_speed.png", content)
    headings = ("networks", "trials/s, qagrel_jax", "trials/s, NumPy", "ratio", "trials a CPU "
                "second, both", "cores busy, both", "first turn, s",
                f"seconds for {LIMIT:,} trials each")  # fmt: skip
    repeats = len(content["rows"][0]["numpy"]["pieces"])
    starved = any(row[name]["cores_busy"] < 0.8
                  for row in content["rows"] for name in ("qagrel_jax", "numpy"))  # fmt: skip
    busy = " **The machine was busy**: neither had a core of its own." * starved
    return "\n\n".join(
        [
            markdown.table(headings, rows),
            f"Medians of {repeats} alternating repeats; the ratio is the median of the repeats' "
            "ratios. The first turn includes compiling. The last column is worked out from "
            "the first rate, not run." + busy,
            _listed([_provenance(content, folder.name)]),
            f"![Trials a second](results/{folder.name}/memory_speed.png)",
        ]
    )


def _each_cpu_second(one: dict[str, Any]) -> float:
    return statistics.median(p["trials"] / p["cpu_seconds"] for p in one["pieces"])


def _read(folder: Path, name: str = "summary.json") -> dict[str, Any] | None:
    path = folder / name
    return run_folder.read_json(path)


def _setting(cell: dict[str, Any]) -> tuple[float, float]:
    return cell["learning_rate"], cell["tag_decay"]


def _share(cell: dict[str, Any]) -> str:
    networks = cell["networks"]
    return _percentage(round(cell["converged_fraction"] * networks), networks)


def _percentage(reached: int, networks: int) -> str:
    return f"{reached:,} of {networks:,} ({100 * reached / networks:.4g} %)"


def _trials(cell: dict[str, Any]) -> list[str]:
    """Return median with quartiles, and mean, of the networks that converged."""
    if cell["median_trials"] is None:
        return ["–", "–"]
    low, high = cell["quartiles_trials"]
    middle = f"{cell['median_trials']:,.0f} ({low:,.0f}–{high:,.0f})"
    return [middle, f"{cell['mean_trials']:,.0f}"]


def _difference(ours: float | None, theirs: float) -> str:
    return "–" if ours is None else f"{100 * (ours / theirs - 1):+.1f} %".replace("-", "−")


def _provenance(run: dict[str, Any], folder: str) -> str:
    seed = run["seed"] if "seed" in run else run["config"]["seed"]
    commit = (run["commit"] or "unknown").removesuffix("-dirty")[:7]
    dirty = " with uncommitted changes" if (run["commit"] or "").endswith("-dirty") else ""
    return (f"`{run['command']}`; seed {seed}; {run['device']}; commit `{commit}`{dirty}; folder "
            f"`results/{folder}/`")  # fmt: skip


def _listed(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
