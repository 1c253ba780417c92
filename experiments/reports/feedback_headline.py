"""The project's second headline: networks whose feedback weights are not their forward weights."""

from pathlib import Path
from typing import Any

from experiments.common import files
from experiments.feedback import summary
from experiments.reports import NOT_RUN, feedback, markdown, runs, small_weights

ACCURACY, ANGLE = "test accuracy\n%, mean (sd)", "hidden\nfeedback °"
"""Of ``summary.HEADINGS``."""

RULES = {runs.RULE: "Q-AGREL", "backprop": "backprop"}


def section(results: Path) -> str:
    """Return the slowdown from small weights, and a table of the kinds of feedback pathway."""
    parts = []
    slowdowns = small_weights.slowdowns(results)
    if len(slowdowns) > 1:
        said = "; ".join(f"{name} {value}" for name, value in slowdowns.items())
        parts.append(
            "Slowdown of Q-AGREL to 98 % of backprop's accuracy on MNIST, dense network, from the "
            f"papers' small weights: {said} "
            "([details](experiments/results/small_weights/README.md))."
        )
    content = files.read_json(results / feedback.FOLDER / "summary.json")
    if content is not None and content["results"]:
        parts.append(_table(content["results"]))
    return "\n\n".join(parts) or NOT_RUN


def _table(found: list[dict[str, Any]]) -> str:
    """Return accuracy of both rules by kind of feedback, for the first network that was run."""
    first = found[0]["config_name"]
    by_rule = {
        rule: {r["kind"]: r for r in found if (r["config_name"], r["rule"]) == (first, rule)}
        for rule in RULES
    }
    rows = []
    for kind in dict.fromkeys(r["kind"] for r in found if r["config_name"] == first):
        row = [kind.replace("_", " ")]
        for cells in by_rule.values():
            row += _cells(cells[kind], found) if kind in cells else ["–", "–"]
        rows.append(row)
    headings = ["feedback"]
    for name in RULES.values():
        headings += [f"{name}, test %", "hidden feedback, °"]
    note = (
        f"`{first}`: kinds of feedback pathway after the same number of epochs, and the angle "
        "between feedback and forward weights of hidden layers "
        "([details](experiments/results/feedback/README.md)):"
    )
    unfinished = "\\* Not finished."
    table = markdown.table(headings, rows)
    return "\n\n".join([note, table, *[unfinished] * ("\\*" in table)])


def _cells(result: dict[str, Any], found: list[dict[str, Any]]) -> list[str]:
    shown = dict(zip(summary.HEADINGS, summary.row(result, found), strict=True))
    mark = "" if result["finished"] else "\\*"
    return [shown[ACCURACY] + mark, shown[ANGLE]]
