"""What the measurements say together: mean and standard deviation over seeds, and a table."""

import statistics
from typing import Any

from experiments.common import console
from experiments.update_statistics.settings import OBJECTIVES, RULES, Plan

ALL = "all layers"
HEADINGS = (
    "rule",
    "° to cross-\nentropy",
    "° to\n½(r − q)²",
    "variance",
    "choices'\npart",
    "alignment",
)
"""A line break where a console may break them."""
NAMES = (
    "angle",
    "norm_ratio",
    "bias",
    "variance",
    "image_variance",
    "choice_variance",
    "alignment",
)


def summarize(plan: Plan, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Combine the lines of ``measurements.jsonl``.

    Returns:
      A JSON-ready dictionary. ``["results"]`` has an entry for each rule, number of classes, stage
      and batch size, with ``["objective"]["layer"]["statistic"]``: mean and standard deviation over
      the seeds where it is a number, and (``standard_error``) of the mean that the sampling leaves;
      ``seeds`` where it is a number in fewer than all, and ``at_limit``, in how many of them a
      sampled angle or bias was estimated to be 0 or less.
    """
    keys = dict.fromkeys((line["rule"], line["classes"], line["stage"]) for line in lines)
    results = [
        _entry([x for x in lines if (x["rule"], x["classes"], x["stage"]) == key], str(size))
        for key in keys
        for size in plan.batch_sizes
    ]
    return {
        "objectives": {
            "cross_entropy": "-log softmax(q)_label",
            "prediction_error": "1/2 (r - q_s)^2, the mean over the policy, which is held fixed",
            "expected_reward": "minus the expected reward of a softmax policy",
        },
        "statistics": {
            "angle": "degrees between the expected update and the gradient",
            "norm_ratio": "norm of the expected update over that of the gradient",
            "bias": "norm of their difference over that of the gradient",
            "variance": "of one update, over the square of the expected update's norm",
            "image_variance": "the part of it that the images of a batch bring",
            "choice_variance": "the part that actions and noise add",
            "alignment": "cosine of one update with the gradient, in the mean-square sense",
        },
        "results": results,
    }


def _entry(lines: list[dict[str, Any]], size: str) -> dict[str, Any]:
    one, batches = lines[0], [line["batches"][size] for line in lines]
    entry = {key: one[key] for key in ("rule", "weights", "classes", "stage", "exact")}
    entry |= {
        "batch_size": int(size),
        "seeds": [line["seed"] for line in lines],
        "accuracy": [line["accuracy"] for line in lines],
    }
    for objective in OBJECTIVES:
        layers = one["batches"][size]["statistics"][objective]
        entry[objective] = {
            layer: {
                name: _over_seeds(batches, objective, layer, name, one["exact"]) for name in NAMES
            }
            for layer in layers
        }
    return entry


def _over_seeds(
    batches: list[dict[str, Any]], objective: str, layer: str, name: str, exact: bool
) -> dict[str, float] | None:
    def values(kind: str) -> list[float]:
        found = (b[kind][objective][layer][name] for b in batches if b[kind] is not None)
        return [value for value in found if value is not None]

    there = values("statistics")
    if not there:
        return None
    result = {"mean": _short(statistics.fmean(there))}
    if len(there) > 1:
        result["sd"] = _short(statistics.stdev(there))
    if errors := values("standard_errors"):
        result["standard_error"] = _short(sum(e * e for e in errors) ** 0.5 / len(errors))
    if len(there) < len(batches):
        result["seeds"] = len(there)
    if not exact and name in ("angle", "bias") and 0.0 in there:
        result["at_limit"] = there.count(0.0)
    return result


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def print_table(plan: Plan, results: list[dict[str, Any]]) -> None:
    """Print the last stage, all layers together; alignment with the rule's own objective."""
    last, classes = max(plan.stages), max(r["classes"] for r in results)
    size = plan.batch_sizes[0]
    rows = []
    for r in results:
        if (r["stage"], r["classes"], r["batch_size"]) == (last, classes, size):
            entropy, prediction = r["cross_entropy"][ALL], r["prediction_error"][ALL]
            values = (
                entropy["angle"],
                prediction["angle"],
                entropy["variance"],
                entropy["choice_variance"],
                r[RULES[r["rule"]].objective][ALL]["alignment"],
            )
            angles, others = values[:2], values[2:]
            # In float32 an angle below 0.03° is rounding.
            rows.append([r["rule"], *(_cell(v, "{:.1f}") for v in angles), *map(_cell, others)])
    console.table(f"epoch {last}, {classes} classes, batch {size}, all layers", HEADINGS, rows)


def _cell(value: dict[str, float] | None, form: str = "{:.3g}") -> str:
    return "–" if value is None else form.format(round(value["mean"], 6) + 0.0)
