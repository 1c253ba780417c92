"""AuGMEnT's successors: RECOLLECT's delays, WorkMATe's levels, and 12AX with different leaks."""

from pathlib import Path
from typing import Any, NamedTuple

from scipy.stats import fisher_exact

from experiments import new_letters as letters
from experiments.reports import NOT_RUN, markdown, named
from experiments.reports import memory_cells as cells
from experiments.working_memory import config as memory_config
from experiments.working_memory import plots


class Published(NamedTuple):
    """What Martinolli, Gerstner & Gilra (2018) report of 12AX."""

    converged: int
    networks: int
    mean: int | None


PUBLISHED = {
    "standard": Published(0, 100, None),
    "leaky": Published(100, 100, 24_150),
    "hybrid": Published(60, 60, 31_132),
}


BY_LEVELS = ("match_to_sample", "twelve_ax_levels")
OTHER_TASKS = ("twelve_ax", "reversal_bandit", *BY_LEVELS)
"""Tasks that are not AuGMEnT's own four."""
PLAIN = {"workmate": "the authors' settings", "augment": "its own settings"}
"""What a run is called that differs in nothing from its rule's defaults."""


def is_one(run: dict[str, Any]) -> bool:
    """Say whether a run belongs here and not among AuGMEnT's own four tasks."""
    return run["task"] in OTHER_TASKS or _rule(run) != "augment"


def recollect(folder: Path) -> str:
    """Return the table of RECOLLECT's runs; draw how they converged."""
    runs = {name: run for name, run in _runs(folder).items() if _rule(run) == "recollect"}
    if not runs:
        return NOT_RUN
    rows = [
        [
            name,
            run["task"],
            _delay(run),
            _variant(run),
            cells.share(run),
            *cells.trials(run),
            f"{run['max_trials']:,}",
        ]
        for name, run in sorted(runs.items(), key=lambda item: (item[1]["task"], _steps(item[1])))
    ]
    headings = (
        "folder",
        "task",
        "delay, steps",
        "variant",
        "converged",
        "trials, median (quartiles)",
        "trials, mean",
        "limit, trials",
    )
    return _with_pictures(folder, markdown.table(headings, rows), runs)


def workmate(folder: Path) -> str:
    """Return the table of WorkMATe's runs, and of other rules in its tasks; draw their levels."""
    runs = {
        name: run
        for name, run in _runs(folder).items()
        if _rule(run) == "workmate" or (run["task"] in BY_LEVELS and _rule(run) == "augment")
    }
    if not runs:
        return NOT_RUN
    order = sorted(runs.items(), key=lambda item: (item[1]["task"], _rule(item[1]) != "workmate"))
    rows = [
        [
            name,
            run["task"],
            plots.RULES[_rule(run)],
            ", ".join(_changed(run)) or PLAIN[_rule(run)],
            cells.share(run),
            *cells.trials(run),
            f"{run['max_trials']:,}",
            _levels(run),
        ]
        for name, run in order
    ]
    headings = (
        "folder",
        "task",
        "rule",
        "variant",
        "converged",
        "trials, median (quartiles)",
        "trials, mean",
        "limit, trials",
        "trials at each level, median (networks that passed it)",
    )
    return _with_pictures(folder, markdown.table(headings, rows), dict(order))


def new_letters(folder: Path) -> str:
    """Return the table of match-to-sample networks tested on letters they have never seen."""
    content = cells.read(folder / "new_letters", letters.FILE)
    if content is None:
        return NOT_RUN
    lines = content["runs"]
    plots.new_letters(folder / "new_letters" / "new_letters.png", lines)
    headings = ("folder", "rule", "networks tested", *letters.HEADINGS)
    return "\n\n".join(
        [
            markdown.table(
                [heading.replace("\n", " ") for heading in headings],
                [[line["run"], plots.RULES[line["rule"]], *letters.cells(line)] for line in lines],
            ),
            "Accuracies in %, mean (sd) over the networks that have learned all sets: the mean of "
            "that of the same and of the different pairs, of which 50 % is chance for a network "
            "that always gives the same response.",
            f"- `{content['command']}`; {content['device']}; commit "
            f"`{(content['commit'] or 'unknown')[:7]}`; folder "
            f"`{named(folder / 'new_letters')}/`",
            "![Accuracy on letters never seen](new_letters/new_letters.png)",
        ]
    )


def _levels(run: dict[str, Any]) -> str:
    told = [
        f"{level['median_trials']:,.0f} ({level['passed']})"
        if level["median_trials"] is not None
        else f"– ({level['passed']})"
        for level in run.get("levels", ())
    ]
    return ", ".join(told) or "–"


def twelve_ax(folder: Path) -> str:
    """Return the table of 12AX and the published figures; draw how networks converged."""
    found = {
        name: run
        for name, run in _runs(folder).items()
        if run["task"] == "twelve_ax" and _rule(run) == "augment"
    }
    rows = []
    for kind, paper in PUBLISHED.items():
        published = cells.percentage(paper.converged, paper.networks)
        mean = f"{paper.mean:,}" if paper.mean else "–"
        runs = [run for run in found.values() if _kind(run["config"]["leak"]) == kind]
        if not runs:
            rows.append([kind, "–", "not run", published, *["–"] * 3, mean, "–"])
        rows += [_leak_row(kind, run, paper, published, mean) for run in runs]
    if not found:
        return NOT_RUN
    headings = (
        "memory",
        "leak",
        "converged",
        "published",
        "p",
        "trials, median (quartiles)",
        "trials, mean",
        "published mean",
        "limit, trials",
    )
    return _with_pictures(folder, markdown.table(headings, rows), found)


def _leak_row(
    kind: str, run: dict[str, Any], paper: Published, published: str, mean: str
) -> list[str]:
    reached = sum(t is not None for t in run["trials"])
    odds = [
        [reached, run["networks"] - reached],
        [paper.converged, paper.networks - paper.converged],
    ]
    return [
        ", ".join([kind, *_changed(run, ("task_parameters", "leak"))]),
        _leak(run["config"]["leak"]),
        cells.share(run),
        published,
        markdown.p_value(fisher_exact(odds).pvalue),
        *cells.trials(run),
        mean,
        f"{run['max_trials']:,}",
    ]


def _with_pictures(folder: Path, table: str, runs: dict[str, dict[str, Any]]) -> str:
    commands, pictures = [], []
    for name, run in runs.items():
        commands.append(cells.provenance(run, folder / name))
        passed = any(level["passed"] for level in run.get("levels", ()))
        if not passed and all(trial is None for trial in run["trials"]):
            continue  # nothing to see
        first = "converged.png"
        if "levels" in run:
            first = "levels.png"
            plots.levels(folder / name / first, run)
        else:
            plots.converged(folder / name / first, run)
        what = "trials at each level" if "levels" in run else "networks converged"
        pictures.append(
            f"![{name}: {what}]({name}/{first}) "
            f"![{name}: activity of the units]({name}/activity.png)"
        )
    return "\n\n".join([table, cells.listed(commands), *pictures]).strip()


def _runs(folder: Path) -> dict[str, dict[str, Any]]:
    found = {path.parent.name: cells.read(path.parent) for path in folder.glob("*/summary.json")}
    return {name: run for name, run in sorted(found.items()) if run}


def _rule(run: dict[str, Any]) -> str:
    return run["config"].get("rule", "augment")  # older runs do not name it


def _steps(run: dict[str, Any]) -> int:
    return run["config"]["task_parameters"].get("delay_steps", 2)


def _delay(run: dict[str, Any]) -> str:
    return "–" if run["task"] == "reversal_bandit" else str(_steps(run))


def _variant(run: dict[str, Any]) -> str:
    """Name what differs from the published settings."""
    config = run["config"]
    said = {
        "end-of-trial input": config["end_input"],
        "corrected slope": config["slope"] == "corrected",
        "curriculum": config["task_parameters"].get("curriculum", False),
        "max-Boltzmann": config["policy"] == "max_boltzmann",
        f"{', '.join(config['feedbacks'])} feedback": config["feedbacks"] != ["tied"],
    }
    named = [name for name, holds in said.items() if holds]
    told = ("end_input", "slope", "policy", "feedbacks", "task_parameters")
    return ", ".join([*named, *_changed(run, told)]) or "published"


def _changed(run: dict[str, Any], told: tuple[str, ...] = ()) -> list[str]:
    return memory_config.changed(_rule(run), run["task"], run["config"], told)


def _kind(leak: float | list[float]) -> str:
    if isinstance(leak, list):
        return "hybrid"
    return "standard" if leak == 1 else "leaky"


def _leak(leak: float | list[float]) -> str:
    return ", ".join(f"{part:g}" for part in (leak if isinstance(leak, list) else [leak]))
