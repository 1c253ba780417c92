"""The project's second headline: networks whose feedback weights are not their forward weights."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.common import display, files
from experiments.common.significance import mean_sd
from experiments.feedback import cells, summary
from experiments.reports import NOT_RUN, feedback, markdown, runs, small_weights

RULES = (runs.RULE, "backprop")


def section(results: Path) -> str:
    """Return the slowdown from small weights, and a table of the kinds of feedback pathway."""
    parts = []
    slowdowns = small_weights.slowdowns(results)
    if len(slowdowns) > 1:
        said = "; ".join(f"{name} {value}" for name, value in slowdowns.items())
        parts.append(
            "Slowdown of Q-AGREL to 98 % of the accuracy of backprop with the published recipe "
            "(tied feedback) on MNIST, dense network, from the papers' small weights: "
            f"{said} "
            "([details](experiments/results/small_weights/README.md))."
        )
    content = files.read_json(results / feedback.FOLDER / "summary.json")
    if content is not None and content["results"]:
        parts.append(_table(content["results"]))
    return "\n\n".join(parts) or NOT_RUN


def _table(found: list[dict[str, Any]]) -> str:
    """Return a row a kind of feedback, a column a network and rule."""
    columns: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for result in sorted(found, key=lambda r: (r["config_name"], r["rule"] != runs.RULE)):
        if result["rule"] in RULES:
            column = columns.setdefault((result["config_name"], result["rule"]), {})
            column[result["kind"]] = result
    networks = {name: _network(kinds) for (name, _), kinds in columns.items()}
    alike = list(networks.values())
    headings = [
        f"{networks[name]}{f' ({name})' * (alike.count(networks[name]) > 1)}: {display.shown(rule)}"
        for name, rule in columns
    ]
    there = {result["kind"] for result in found}
    rows = [
        [
            display.shown(kind),
            *(_cell(kinds[kind]) if kind in kinds else "–" for kinds in columns.values()),
        ]
        for kind in cells.KINDS
        if kind in there
    ]
    note = (
        f"Kinds of feedback pathway: test accuracy in % after a fixed budget ({_budgets(found)}), "
        "mean (sd) of seeds, and the mean angle of hidden feedback weights to the forward weights. "
        "Recipe and rates of each cell are on "
        "[its page](experiments/results/feedback/README.md):"
    )
    unfinished = "\\* Not finished."
    table = markdown.table(["feedback", *headings], rows)
    return "\n\n".join([note, table, *[unfinished] * ("\\*" in table)])


def _budgets(found: list[dict[str, Any]]) -> str:
    epochs: dict[int, dict[str, None]] = {}
    for result in found:
        config = result["config"]
        network = f"{config['dataset']} {config['architecture'].replace('_', ' ')}"
        epochs.setdefault(result["epochs"], {})[network] = None
    return "; ".join(f"{n} epochs: {', '.join(names)}" for n, names in sorted(epochs.items()))


def _network(kinds: dict[str, dict[str, Any]]) -> str:
    config = next(iter(kinds.values()))["config"]
    return f"{config['dataset']}, {config['architecture'].replace('_', ' ')}"


def _cell(result: dict[str, Any]) -> str:
    angle = summary.last_angles(result)["hidden_feedback"]
    shown = "" if angle is None else f", {angle:.0f}°"
    accuracy = mean_sd(100 * np.array(result["test_accuracy"]))
    return accuracy + shown + "\\*" * (not result["finished"])
