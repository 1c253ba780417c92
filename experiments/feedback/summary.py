"""What the cells say together: accuracy by kind, differences to tied feedback, angles."""

import statistics
import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from experiments import config as configs
from experiments.common import console, display, fields, files
from experiments.common.cli import UserError
from experiments.common.significance import mean_sd, paired_difference
from experiments.config import Config
from experiments.feedback import cells
from experiments.feedback.cells import OUTPUT_ONLY, TIED
from experiments.train import folder as run_folder
from experiments.train import layer_names
from experiments.train.results import RunResults

MEASURES = ("feedback_angle_degrees", "update_angle_degrees", "update_norm_ratio")
HEADINGS = (
    "feedback",
    "test accuracy\n%, mean (sd)",
    "minus tied,\npoints\n[95 %]",
    "minus\noutput\nlayer only",
    "best\nepoch",
    "hidden\nfeedback °",
    "output\nfeedback °",
    "hidden\nupdate °",
)
"""A line break where a console may break them."""

MARKS = "* not finished: best validation accuracy so far. ** another number of epochs than tied."
NOTE = (
    "Angles after the last epoch, mean of seeds (of layers, where hidden): feedback to forward "
    "weights, and update to true gradient. Nothing runs down from the first layer. Differences "
    f"are paired, over the seeds that both have. {MARKS}"
)

SHOWN_ELSEWHERE = ("name", "rules", "feedback", "seeds", "first_seed", "trained_layers")
"""Fields of ``Config`` that a table's title, rows and commands tell."""


def summarize(out: Path) -> dict[str, Any]:
    """Return what ``summary.json`` holds of every cell in ``out``, JSON-ready."""
    results = [_result(*cell) for cell in cells.found(out)]
    for result in results:
        for name, kind in (("minus_tied", TIED), ("minus_output_layer_only", OUTPUT_ONLY)):
            result[name] = _difference(result, _partner(result, kind, results))
    return {
        "accuracy_is": "of the epoch the monitored images picked; of a cell that is not finished, "
        "the best monitored accuracy so far",
        "difference_is": "paired over the seeds that both have, in points of accuracy, with its "
        "95 % interval; of as many epochs and the same protocol only",
        "results": results,
    }


def _result(name: str, kind: str, rule: str, run: RunResults) -> dict[str, Any]:
    config = run.config
    try:
        angles = _side_by_side([_by_layer(files.read_metrics(folder)) for folder in run.folders])
    except (TypeError, ValueError, AttributeError):
        raise UserError(f"{run.folder}: metrics.jsonl is damaged: move the run away") from None
    first = run.sessions[0] if run.sessions else {}
    began = [session for f in run.folders for session in run_folder.sessions_begun(f, rule)]
    return {
        "config_name": name,
        "kind": kind,
        "rule": rule,
        "finished": run.finished,
        "failure": run.failure,
        "diverged_in_epoch": run.diverged[rule],
        "epochs": len(run.curves[rule]),
        "seeds": list(range(config.first_seed, config.first_seed + config.seeds)),
        "test_accuracy": [float(a) for a in run.accuracy(rule)],
        "best_epoch": [int(e) for e in run.best_epoch(rule)],
        "accuracy_by_epoch": [_rounded(row) for row in run.curves[rule]],
        "angles_by_epoch": angles,
        "config": configs.to_json(config),
        "device": first.get("device"),
        "commit": first.get("commit"),
        "command": first.get("command"),
        "commands": [session["command"] for session in began],
        "commits": [session["commit"] for session in began],
    }


def _by_layer(lines: list[dict[str, Any]]) -> dict[str, dict[str, list[Any]]]:
    """Return ``{measure: {layer: [epochs][seeds]}}``, layers from input to output.

    Raises:
      TypeError, ValueError, AttributeError: a damaged line.
    """
    found: dict[str, dict[str, list[Any]]] = {}
    for measure in MEASURES:
        rows = [line.get(measure, {}) for line in lines]
        layers = layer_names.in_order({layer for row in rows for layer in row})
        found[measure] = {layer: [_rounded(row.get(layer, [])) for row in rows] for layer in layers}
    return found


def _side_by_side(
    parts: list[dict[str, dict[str, list[Any]]]],
) -> dict[str, dict[str, list[Any]]]:
    """Put the angles of further seeds beside those of the first, as far as all have come."""
    first = parts[0]
    return {
        measure: {
            layer: [
                [value for row in rows for value in row]
                for rows in zip(*(part[measure].get(layer, []) for part in parts), strict=False)
            ]
            for layer in first[measure]
        }
        for measure in first
    }


def _rounded(values: Any) -> list[float | None]:
    return [None if v is None or np.isnan(v) else round(float(v), 5) for v in values]


def _partner(
    result: dict[str, Any], kind: str, results: list[dict[str, Any]]
) -> dict[str, Any] | None:
    cell = (result["config_name"], kind, result["rule"])
    there = (r for r in results if (r["config_name"], r["kind"], r["rule"]) == cell)
    return next(there, None)


def _difference(
    result: dict[str, Any], other: dict[str, Any] | None
) -> dict[str, float | None] | None:
    """Return mean, low and high in points; None without a partner of the same budget and protocol.

    Protocols differ in what the accuracy is: of the epoch that a validation split picked, or the
    best on the test set itself.
    """
    if other is None or other is result or not (result["finished"] and other["finished"]):
        return None
    if result["epochs"] != other["epochs"]:
        return None
    if result["config"]["protocol"] != other["config"]["protocol"]:
        return None
    ours, theirs = (dict(zip(r["seeds"], r["test_accuracy"], strict=True)) for r in (result, other))
    seeds = [seed for seed in ours if seed in theirs]
    if not seeds:
        return None
    a, b = (100 * np.array([by_seed[s] for s in seeds]) for by_seed in (ours, theirs))
    found = paired_difference(a, b)._asdict() | {"seeds": len(seeds)}
    return {name: None if np.isnan(value) else value for name, value in found.items()}


def last_angles(result: dict[str, Any]) -> dict[str, float | None]:
    """Return the angles after the last epoch: of hidden and output feedback, of hidden updates."""
    feedback, updates, _ = (_last(result["angles_by_epoch"][m]) for m in MEASURES)
    between = [angle for angle in feedback[1:-1] if angle is not None]  # none below the first
    hidden = [angle for angle in updates[:-1] if angle is not None]
    return {
        "hidden_feedback": statistics.fmean(between) if between else None,
        "output_feedback": feedback[-1] if feedback else None,
        "hidden_update": statistics.fmean(hidden) if hidden else None,
    }


def _last(by_layer: dict[str, list[Any]]) -> list[float | None]:
    """Return the mean over seeds of each layer after the last epoch."""
    means = []
    for rows in by_layer.values():
        there = [v for v in (rows[-1] if rows else []) if v is not None]
        means.append(statistics.fmean(there) if there else None)
    return means


def row(result: dict[str, Any], results: list[dict[str, Any]]) -> list[str]:
    """Return a result's cells, one for each of ``HEADINGS``."""
    apart = result["minus_output_layer_only"]
    return [
        display.shown(result["kind"]) + mark(result, results),
        mean_sd(100 * np.array(result["test_accuracy"])),
        _interval(result["minus_tied"]),
        "–" if apart is None else f"{apart['mean']:+.2f}",
        f"{statistics.fmean(result['best_epoch']):.1f}",
        *("–" if angle is None else f"{angle:.1f}" for angle in last_angles(result).values()),
    ]


def mark(result: dict[str, Any], results: list[dict[str, Any]]) -> str:
    """Return what follows a kind's name if its accuracy is not like the others'; see ``NOTE``."""
    if result["failure"] is not None:
        return " (diverged)"
    epochs = result.get("diverged_in_epoch", [])  # missing in files of older versions
    if lost := sum(epoch is not None for epoch in epochs):
        return f" ({lost} of {len(epochs)} seeds diverged)"
    tied = _partner(result, TIED, results)
    other_budget = tied is not None and tied["epochs"] != result["epochs"]
    return "*" * (not result["finished"]) or "**" * other_budget


def _interval(difference: dict[str, float | None] | None) -> str:
    if difference is None:
        return "–"
    text = f"{difference['mean']:+.2f}"
    if difference["low"] is not None:
        text += f" [{difference['low']:+.2f}, {difference['high']:+.2f}]"
    return text


def tables(results: list[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Return the results of each table, ``{(config, rule): results}``."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for result in results:
        found.setdefault((result["config_name"], result["rule"]), []).append(result)
    return found


def title(results: list[dict[str, Any]]) -> str:
    """Return what the results of a table have in common: data, network, rule, epochs, seeds."""
    first = results[0]
    config = first["config"]
    sizes = "" if config["hidden"] is None else " " + "–".join(map(str, config["hidden"]))
    epochs = _counted([r["epochs"] for r in results], "epoch")
    seeds = _counted([len(r["seeds"]) for r in results], "seed")
    return (
        f"{display.image_set(config['dataset'])}, {config['architecture']}{sizes}, "
        f"{display.shown(first['rule'])}, {epochs}, {seeds}"
    )


def _counted(numbers: list[int], what: str) -> str:
    """Return the lowest and the highest of ``numbers``, and what they count."""
    lowest, highest = min(numbers), max(numbers)
    return "–".join(dict.fromkeys(map(str, (lowest, highest)))) + f" {what}{'s' * (highest > 1)}"


def settings(results: list[dict[str, Any]]) -> list[list[str]]:
    """Return headings and rows of the settings that differ within a table; empty if none do."""
    given = [configs.from_json(result["config"]) for result in results]
    different = [
        name
        for name in Config.__dataclass_fields__
        if name not in SHOWN_ELSEWHERE and len({getattr(config, name) for config in given}) > 1
    ]
    if not different:
        return []
    rows = [
        [display.shown(result["kind"]), *(fields.shown(getattr(config, n)) for n in different)]
        for result, config in zip(results, given, strict=True)
    ]
    return [["feedback", *different], *rows]


def print_tables(content: dict[str, Any]) -> None:
    """Print a table for each network and rule."""
    for results in tables(content["results"]).values():
        rows = [row(result, content["results"]) for result in results]
        console.table(title(results), HEADINGS, rows)
        if differing := settings(results):
            console.table("settings in which the rows differ", differing[0], differing[1:])
    print(textwrap.fill(NOTE, 79))
