"""What the settings of a control say together: who stands for its family, time to criterion."""

import statistics
import textwrap
from typing import Any

from experiments.common import console
from experiments.common.significance import mean_sd
from experiments.controls.settings import shown
from experiments.train.summary import first_reaching, reached

CRITERION = 0.98
"""Fraction of the reference's accuracy that counts as learned, as in ``experiments.train``."""

LEVELS = (0.95, 0.98)
"""Fractions of the reference's accuracy, for the images presented until then."""

LONG = (
    "validation_accuracy",
    "class_accuracy",
    "active_classes",
    "update_angle_degrees",
    "feedback_angle_degrees",
)
"""What ``settings.jsonl`` holds by epoch and ``summary.json`` leaves out."""


def summarize(
    name: str, question: str, lines: list[dict[str, Any]], planned: list[str]
) -> dict[str, Any]:
    """Combine the lines of ``settings.jsonl``.

    Within a family the setting of the highest mean best validation accuracy is ``chosen``. A seed's
    epochs to criterion are the first epoch whose validation accuracy reaches 98 % of the reference,
    the mean best validation accuracy of backprop (its best setting), or of the best of all settings
    where backprop is not among them; ``None`` if never. Slowdown is the mean of a setting's epochs
    to criterion over that of the fastest backprop setting. Only settings with as many classes and
    the same batch size are compared.

    Args:
      name: the control's.
      question: what it asks.
      lines: of the settings done so far.
      planned: labels of all settings.

    Returns:
      A JSON-ready dictionary.
    """
    chosen = chosen_labels(lines)
    results: list[dict[str, Any]] = []
    for line in lines:
        target = criterion(line, lines)
        curves = zip(*line["validation_accuracy"], strict=True)
        epochs = [first_reaching(curve, target) for curve in curves]
        results.append(
            {key: value for key, value in line.items() if key not in LONG}
            | {
                "chosen": line["label"] in chosen,
                "criterion_accuracy": target,
                "epochs_to_criterion": epochs,
                "images_to_criterion": images_to_criterion(line, lines),
                "last_angles": last_angles(line),
            }
        )
    for result in results:
        result["slowdown"] = slowdown(result, results)
    return {
        "name": name,
        "question": question,
        "missing": [label for label in planned if label not in {r["label"] for r in results}],
        "chosen_is": "of its family, the setting of the highest mean best validation accuracy",
        "criterion_is": f"{CRITERION:g} x the mean best validation accuracy of backprop's best "
        "setting (without backprop: of the best setting)",
        "images_to_criterion_are": "images presented to each seed until its validation accuracy "
        "reaches so much of the same reference",
        "slowdown_is": "mean epochs to criterion over those of the fastest backprop setting",
        "test_accuracy_is": "of the epoch the validation split picked; no choice was made by it",
        "results": results,
    }


def chosen_labels(lines: list[dict[str, Any]]) -> set[str]:
    """Return the label of the best setting of each family (and of each number of classes)."""
    best: dict[tuple, tuple[float, str]] = {}
    for line in lines:
        if line["diverged"] is None:
            key = (line["family"], line["classes"])
            best[key] = max(best.get(key, (-1.0, "")), (accuracy(line), line["label"]))
    return {label for _, label in best.values()}


def accuracy(line: dict[str, Any]) -> float:
    """Mean best validation accuracy of a setting that did not diverge."""
    return statistics.fmean(line["best_validation_accuracy"])


def criterion(line: dict[str, Any], lines: list[dict[str, Any]]) -> float | None:
    """Return the accuracy that counts as learned for ``line``; None if all have diverged."""
    alike = [other for other in lines if _alike(line, other) and other["diverged"] is None]
    reference = [other for other in alike if other["rule"] == "backprop"] or alike
    return CRITERION * max(map(accuracy, reference)) if reference else None


def images_to_criterion(
    line: dict[str, Any], lines: list[dict[str, Any]]
) -> dict[str, list[int | None]]:
    """Return the images presented to each seed until it has so much of the reference's accuracy."""
    reference = criterion(line, lines)
    if reference is None or "images_an_epoch" not in line:
        return {}
    curves = list(zip(*line["validation_accuracy"], strict=True))
    found = {}
    for level in LEVELS:
        epochs = [first_reaching(curve, level / CRITERION * reference) for curve in curves]
        found[f"{level:g}"] = [e and e * line["images_an_epoch"] for e in epochs]
    return found


def mean_epochs(result: dict[str, Any]) -> float | None:
    """Mean epochs to criterion of a result; None unless every seed got there."""
    epochs = result["epochs_to_criterion"]
    return None if not epochs or None in epochs else statistics.fmean(epochs)


def slowdown(result: dict[str, Any], results: list[dict[str, Any]]) -> float | None:
    """Epochs to criterion over those of the fastest backprop setting; None if one is missing."""
    own = mean_epochs(result)
    control = [
        mean_epochs(other)
        for other in results
        if other["rule"] == "backprop" and _alike(result, other)
    ]
    fastest = min((epochs for epochs in control if epochs), default=None)
    return own / fastest if own and fastest else None


def last_angles(line: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """Mean over seeds, after the last epoch, of every angle there is."""
    return {
        kind: {layer: _mean(rows[-1]) for layer, rows in line[kind].items()}
        for kind in ("update_angle_degrees", "feedback_angle_degrees")
        if kind in line
    }


HEADINGS = (
    "setting",
    "best validation\n%, mean (sd)",
    "test %,\nmean (sd)",
    "epochs to\ncriterion",
    "slowdown",
)
"""A line break where a console may break them."""


def cells(result: dict[str, Any]) -> tuple[str, ...]:
    """Return a result's cells, one for each of ``HEADINGS``."""
    if result["diverged"] is not None:
        return shown(result["label"]), "diverged", "–", "–", "–"
    return (
        shown(result["label"]),
        mean_sd([100 * a for a in result["best_validation_accuracy"]]),
        mean_sd([100 * a for a in result["test_accuracy"]]),
        reached(result["epochs_to_criterion"]),
        "–" if result["slowdown"] is None else f"{result['slowdown']:.2f}",
    )


def print_table(content: dict[str, Any]) -> None:
    """Print a control's question and its table."""
    print(textwrap.fill(f"{content['name']}: {content['question']}", 79))
    console.table(None, HEADINGS, [cells(result) for result in content["results"]])


def _alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    same_batch = one["config"]["batch_size"] == other["config"]["batch_size"]
    return same_batch and one["classes"] == other["classes"]


def _mean(values: list[float | None]) -> float | None:
    there = [v for v in values if v is not None]
    return round(statistics.fmean(there), 1) if there else None
