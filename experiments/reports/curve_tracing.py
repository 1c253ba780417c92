"""Curve tracing with RELEARNN: trials to trace curves, published trials, and longer curves."""

import statistics
from pathlib import Path
from typing import Any

from experiments.common import files
from experiments.reports import NOT_RUN, markdown, runs

FOLDER, FILE = "curve_tracing", "summary.json"
PUBLISHED = {7: "5 of 5 (2026), mean 23,200, all correct"}
"""By the length of the last curves: Mollard, Bohté & Roelfsema, PLoS CB 22(4), 2026."""


def section(results: Path) -> str:
    """Return a table of the runs, one of longer curves, and the pictures.

    Args:
      results: ``experiments/results``.
    """
    parts = [_section(link, content) for link, content in read(results).items()]
    return "\n\n".join(parts) or NOT_RUN


def read(results: Path) -> dict[str, dict[str, Any]]:
    """Return the runs that are there, by their folder from the page's own, "" for that one."""
    base = results / FOLDER
    folders = {"": base} | {f"{p.parent.name}/": p.parent for p in sorted(base.glob(f"*/{FILE}"))}
    found = {link: files.read_json(path / FILE) for link, path in folders.items()}
    return {link: content for link, content in found.items() if content}


def _section(link: str, content: dict[str, Any]) -> str:
    config, networks = content["config"], content["networks"]
    length = content["max_length"]
    criterion = (f"{config['accuracy']:.0%} of a frozen test correct", content)
    ended = config.get("final_accuracy", 1)
    note = f" (training ended at {ended:.0%})" if ended < 1 else ""
    perfect = (f"all of a frozen test correct{note}", content["all_right"])
    rows = [
        [
            what,
            f"{described['converged']} of {networks}",
            _trials(described["mean_trials"]),
            _trials(described["median_trials"]),
        ]
        for what, described in (criterion, perfect)
    ]
    lengths = list(content["accuracy"])
    accuracies = content["accuracy"].values()
    tests = [["mean", *map(_mean, accuracies)]]
    tests += [["lowest", *(f"{100 * min(row):.1f}" for row in accuracies)]]
    apart = content.get("accuracy_apart")
    if apart and not config.get("apart"):
        tests += [["mean, no pixel beside both curves", *map(_mean, apart.values())]]
    headings = ("curves of " + f"{length} pixels", "networks", "trials, mean", "trials, median")
    weights = "shared" if config["shared"] else "unshared"
    where = ", no pixel beside both curves" * config.get("apart", False)
    parts = [
        f"Command: `{content['command']}`; {networks} networks, {weights} weights, "
        f"{config['feedback']} feedback{where}, seed {config['seed']}; {content['device']}; commit "
        f"`{runs.short(content['commit'])}`.",
        markdown.table(headings, rows),
    ]
    if length in PUBLISHED:
        parts.append(f"Published: {PUBLISHED[length]}.")
    parts += [
        f"Frozen tests at the end, {config['test_trials']} trials each, mean and lowest of the "
        "networks (accuracy, %):",
        markdown.table(("pixels", *lengths), tests),
        *(
            f"![{title}]({link}{picture}.png)"
            for title, picture in (
                ("Trials to each curve length", "learning"),
                ("Accuracy on longer curves", "generalization"),
                ("Activity spreads along the target curve", "activity"),
            )
        ),
    ]
    return "\n\n".join(parts)


def _mean(accuracy: list[float | None]) -> str:
    there = [a for a in accuracy if a is not None]
    return f"{100 * statistics.fmean(there):.1f}" if there else "–"


def _trials(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"
