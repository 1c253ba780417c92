"""AGREL: trials to criterion against error-backpropagation on the same three-layer networks."""

from pathlib import Path
from typing import Any

from experiments.agrel.__main__ import compare
from experiments.common import files
from experiments.reports import NOT_RUN, markdown, runs

FOLDERS = {
    "agrel": "Tied feedback",
    "agrel_reciprocal": "Independent feedback weights that receive the updates of the forward "
    "weights (Kolen–Pollack)",
    "agrel_digits_fast": "Digits, five times the learning rate above",
}
"""``results/`` folders; the page is that of the first."""
PATTERNS = {
    "xor": "xor",
    "count_ones": "count_ones (3 bits)",
    "orientation": "orientation",
    "digits": "digits",
}
LAYERS = {"xor": (2, 2), "count_ones": (3, 4), "orientation": (12, 2), "digits": (64, 10)}
"""Inputs and outputs of each task's network."""


def section(results: Path) -> str:
    """Return a table a folder: medians, quartiles, converged fractions, and p."""
    parts = []
    for folder, title in FOLDERS.items():
        content = files.read_json(results / folder / "summary.json")
        parts.append(f"**{title}**")
        parts.append(NOT_RUN if content is None else _section(folder, content))
    return "\n\n".join(parts)


def _section(folder: str, content: dict[str, Any]) -> str:
    rules = {(row["task"], row["rule"]): row for row in content["results"]}
    rows = []
    for task in dict.fromkeys(task for task, _ in rules):
        agrel, backprop = rules[task, "agrel"], rules[task, "backprop"]
        comparison = compare(agrel, backprop)
        inputs, outputs = LAYERS[task]
        rows.append(
            [
                PATTERNS[task],
                f"{inputs} – {agrel['hidden']} – {outputs}",
                f"{agrel['learning_rate']:g}",
                _trials(agrel),
                _trials(backprop),
                _ratio(comparison["median_ratio_agrel_to_backprop"]),
                markdown.p_value(comparison["wilcoxon_p"]),
            ]
        )
    headings = (
        "task",
        "network",
        "learning rate",
        "AGREL, trials",
        "backprop, trials",
        "ratio of medians",
        "p",
    )
    config = content["config"]
    first = next(iter(rules.values()))
    return "\n\n".join(
        [
            f"Command: `{content['command']}`; {first['networks']} networks with each rule, seed "
            f"{config['seed']}; {content['device']}; commit `{runs.short(content['commit'])}`.",
            markdown.table(headings, rows),
            f"![Trials to criterion]({runs.link(folder, 'agrel')}trials_to_criterion.png)",
        ]
    )


def _trials(row: dict[str, Any]) -> str:
    converged = sum(trials is not None for trials in row["trials"])
    share = f"{converged} of {row['networks']}"
    if row["median_trials"] is None:
        return (
            f"{share} networks reach the criterion; mean expected reward after "
            f"{row['max_trials']:,}: {row['last_mean_reward']:.2f}"
        )
    low, middle, high = (
        f"{row[k]:,.0f}" if row[k] is not None else "∞"
        for k in ("first_quartile_trials", "median_trials", "third_quartile_trials")
    )
    text = f"{middle} ({low}–{high})"
    return text if converged == row["networks"] else f"{text}; {share} networks"


def _ratio(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f}"
