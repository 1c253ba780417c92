"""What a finished run says: accuracy, epochs to criterion, and the slowdown against backprop."""

import itertools
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from experiments import config as configs
from experiments.common import console, display
from experiments.common.cli import UserError
from experiments.common.significance import mean_sd
from experiments.config import Config
from experiments.train import folder as run_folder

CONTROL = "backprop"
HEADINGS = (
    "rule",
    "test accuracy %,\nmean (sd)",
    "epochs to\ncriterion",
    "epochs\nrun",
    "images/s",
)


def summarize(
    config: Config,
    results: list[dict[str, Any]],
    metrics: list[dict[str, Any]],
    environments: list[dict[str, Any]],
    timings: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Combine the rules' results.

    A seed's epochs to criterion are the first epoch after which its monitored accuracy reaches
    ``config.criterion`` × the mean, over seeds, of backprop's best monitored accuracy. Without
    backprop in the run, the first rule's own best takes its place, and the summary says so.

    Args:
      config: the experiment.
      results: what ``one_rule.run_rule`` returned for each rule.
      metrics: the lines of ``metrics.jsonl``.
      environments: ``provenance.environment()`` of each session; the first names the run.
      timings: the lines of ``timings.jsonl``, which say in which session a rule began.

    Returns:
      A JSON-ready dictionary; ``["results"]`` holds one entry a rule.
    """
    reference = next((r for r in results if r["rule"] == CONTROL), results[0])
    target = config.criterion * statistics.fmean(reference["best_monitored_accuracy"])
    entries = []
    for result in results:
        curves = accuracy_curves(metrics, result["rule"])
        began = run_folder.session(timings, environments, result["rule"])
        entries.append(
            {
                "rule": result["rule"],
                "dataset": config.dataset,
                "architecture": config.architecture,
                "feedback": config.feedback,
                **result,
                "epochs_to_criterion": [first_reaching(curve, target) for curve in curves.T],
                "diverged_in_epoch": diverged(metrics, result["rule"]),
                "device": began["device"],
                "versions": began["versions"],
                "commit": began["commit"],
            }
        )
    return {
        "name": config.name,
        "command": environments[0]["command"],
        "sessions": [{k: e[k] for k in ("commit", "device", "command")} for e in environments],
        "config": configs.to_json(config),
        "protocol": config.protocol,
        "test_accuracy_is": "of the epoch a held-out validation split picked; test set read once"
        if config.protocol == "clean"
        else "the best over epochs, picked on the test set itself (the papers' protocol)",
        "criterion_accuracy": target,
        "criterion_is": f"{config.criterion:g} x mean best {config.monitored} accuracy of "
        f"{reference['rule']}",
        "slowdown": slowdown(entries, "epochs_to_criterion"),
        "slowdown_by_best_epoch": slowdown(entries, "best_epoch"),
        "results": entries,
    }


def images_per_second(timings: Sequence[dict[str, Any]]) -> float:
    """Return the median over lines of ``timings.jsonl``; of those that do not tell it, 0.

    The first epoch of a session compiles, and counts only where there is no other.
    """
    told = [t for t in timings if {"images", "seconds"} <= t.keys()]
    later = [t for a, t in itertools.pairwise(told) if a.get("session") == t.get("session")]
    speeds = [t["images"] / t["seconds"] for t in later or told]
    return float(np.median(speeds)) if speeds else 0.0


def accuracy_curves(
    metrics: list[dict[str, Any]], rule: str, path: Path = Path("metrics.jsonl")
) -> np.ndarray:
    """Return the monitored accuracy of ``rule``, float[epochs, seeds], NaN where stopped.

    Args:
      metrics: the lines of all rules.
      rule: its name.
      path: of the lines, for errors.

    Raises:
      UserError: a line without it, or of another number of seeds; epochs that do not follow one
        another.
    """
    lines = [line for line in metrics if line["rule"] == rule]
    if not lines:
        return np.empty((0, 0))
    lacking = next((n for n, line in enumerate(lines, 1) if line.get("epoch") != n), None)
    if lacking is not None:
        raise UserError(
            f"{path} lacks epoch {lacking} of {rule}, or has its lines in another order: "
            "copy it again, or move the run away"
        )
    key = "validation_accuracy" if "validation_accuracy" in lines[0] else "test_accuracy"
    try:
        curves = np.array([line[key] for line in lines], dtype=float)
    except (KeyError, TypeError, ValueError):
        curves = np.empty(0)
    if curves.ndim != 2:
        raise UserError(f"{path} has damaged lines of {rule}: move the run away")
    return curves


def diverged(metrics: list[dict[str, Any]], rule: str) -> list[int | None]:
    """Return the epoch in which each seed of ``rule`` diverged; None: it did not.

    That is the last of its epochs, with an accuracy (most often 0: outputs that are no numbers are
    no choice), but an error that is no number.
    """
    found: list[int | None] = []
    for line in (line for line in metrics if line["rule"] == rule):
        accuracy = line.get("validation_accuracy", line.get("test_accuracy", []))
        pairs = zip(accuracy, line.get("error", accuracy), strict=False)
        lost = [a is not None and error is None for a, error in pairs]
        found = found or [None] * len(lost)
        found = [line["epoch"] if now else e for now, e in zip(lost, found, strict=True)]
    return found


def all_classes_known(metrics: list[dict[str, Any]], rule: str) -> np.ndarray:
    """Return 1 where ``rule`` knew every class, else 0 or NaN, float[epochs, seeds].

    A class is known if half of its monitored images are classified correctly. Empty: files of older
    versions, which do not say how many classes there are.
    """
    lines = [line for line in metrics if line["rule"] == rule]
    if not all("class_accuracy" in line and "classes_learned" in line for line in lines):
        return np.empty((0, 0))
    shares = [
        np.array(line["classes_learned"], float) / len(line["class_accuracy"]) for line in lines
    ]
    return np.array([share == 1 for share in shares], float)


def first_reaching(curve: ArrayLike, target: float | None) -> int | None:
    """Return the first epoch (from 1) whose accuracy is at least ``target``, or None."""
    if target is None:
        return None
    reached = np.flatnonzero(np.asarray(curve) >= target)
    return int(reached[0]) + 1 if reached.size else None


def slowdown(entries: list[dict[str, Any]], measure: str) -> float | None:
    """Mean epochs of Q-AGREL over backprop's; None unless all seeds got there and none diverged.

    ``measure`` is "best_epoch", the papers' figure, or "epochs_to_criterion", which is stricter.
    """
    both = {e["rule"]: e for e in entries if e["rule"] in ("q_agrel", CONTROL)}
    if len(both) < 2 or any(set(e["diverged_in_epoch"]) - {None} for e in both.values()):
        return None
    epochs = {rule: e[measure] for rule, e in both.items()}
    if None in epochs["q_agrel"] + epochs[CONTROL]:
        return None
    return statistics.fmean(epochs["q_agrel"]) / statistics.fmean(epochs[CONTROL])


def print_table(content: dict[str, Any]) -> None:
    """Print the small table that sums a run up."""
    rows = [
        (
            entry["rule"],
            mean_sd([100 * a for a in entry["test_accuracy"]]),
            reached(entry["epochs_to_criterion"]),
            str(entry["epochs"]),
            f"{entry['images_per_second']:,.0f}",
        )
        for entry in content["results"]
    ]
    title = f"{content['name']} ({content['protocol']} protocol)"
    console.table(title, HEADINGS, rows)
    seeds = len(content["results"][0]["seeds"])
    print(
        f"{display.counted(seeds, 'seed')}; criterion {100 * content['criterion_accuracy']:.2f} % "
        f"({content['criterion_is']})"
    )
    measures = {
        "slowdown_by_best_epoch": "the best epoch (probably the papers')",
        "slowdown": "the criterion",
    }
    for entry in content["results"]:
        if told := told_diverged(entry["seeds"], entry.get("diverged_in_epoch", [])):
            print(f"{entry['rule']} diverged: {told}; its accuracy is that of the best epoch")
    for key, measure in measures.items():
        if (factor := content.get(key)) is not None:
            print(f"slowdown to {measure}: {factor:.2f} x backprop's epochs")


def told_diverged(seeds: Sequence[int], epochs: Sequence[int | None]) -> str:
    """Return which seeds diverged, and when.

    >>> told_diverged([3, 4, 5], [None, 2, 7])
    'seed 4 in epoch 2, seed 5 in epoch 7'
    """
    there = [(s, e) for s, e in zip(seeds, epochs, strict=False) if e is not None]
    return ", ".join(f"seed {seed} in epoch {epoch}" for seed, epoch in there)


def reached(epochs: list[int | None]) -> str:
    """Return the mean of the epochs at which seeds got there, and how many did if not all."""
    there = [e for e in epochs if e is not None]
    if not there:
        return "not reached"
    note = "" if len(there) == len(epochs) else f" ({len(there)} of {len(epochs)} seeds)"
    return f"{statistics.fmean(there):.1f}{note}"
