"""Bias and variance of one update: each rule beside the gradients of three objectives."""

from pathlib import Path
from typing import Any

from experiments.common import display, files
from experiments.reports import NOT_RUN, markdown, runs

FOLDER = "update_statistics"
SAMPLED = "mnist_dense"
"""Subfolder of a run on a network that is too large to enumerate every action."""

ALL = "all layers"
COLUMNS = (
    ("angle to cross-entropy, °", "cross_entropy", "angle"),
    ("angle to ½(r − q)², °", "prediction_error", "angle"),
    ("bias, of cross-entropy", "cross_entropy", "bias"),
    ("bias, of ½(r − q)²", "prediction_error", "bias"),
    ("variance", "cross_entropy", "variance"),
    ("of which choices and noise", "cross_entropy", "choice_variance"),
)


def section(results: Path) -> str:
    """Return the exact statistics on the digits, by number of classes, and the sampled ones."""
    exact = files.read_json(results / FOLDER / "summary.json")
    if exact is None:
        return NOT_RUN
    parts = [*_by_stage(exact, ""), *_by_classes(results / FOLDER / "classes")]
    sampled = files.read_json(results / FOLDER / SAMPLED / "summary.json")
    if sampled is not None:
        parts += ["## MNIST, the dense network", *_by_stage(sampled, f"{SAMPLED}/")]
    return "\n\n".join(parts)


def _by_stage(content: dict[str, Any], folder: str) -> list[str]:
    """Return the last stage of training in full, the angle at every stage, and the picture."""
    plan, entries = content["plan"], content["results"]
    size, stages = plan["batch_sizes"][0], plan["stages"]
    classes = max(entry["classes"] for entry in entries)
    shown = [e for e in entries if (e["batch_size"], e["classes"]) == (size, classes)]
    last = [entry for entry in shown if entry["stage"] == max(stages)]
    rules = list(dict.fromkeys(entry["rule"] for entry in shown))
    by_stage = [
        [
            display.shown(rule),
            *(_mean_sd(_at(shown, rule, stage), "cross_entropy", "angle") for stage in stages),
        ]
        for rule in rules
    ]
    return [
        _source(content, entries),
        f"Epoch {max(stages)} of training, {classes} classes, batches of {size}, all layers "
        "together:",
        markdown.table(
            ("rule", *(heading for heading, _, _ in COLUMNS)),
            [
                [display.shown(e["rule"]), *(_mean_sd(e, o, name) for _, o, name in COLUMNS)]
                for e in last
            ],
        ),
        "Angle to the gradient of the cross-entropy, degrees, by epoch of training:",
        markdown.table(("rule", *map(str, stages)), by_stage),
        "Mean (sd) over the seeds; ± the standard error of the mean that sampling leaves, where "
        "batches are sampled. ‡ Estimates of 0, which stand for all of 0 or less (a cosine above "
        "1, a squared difference below 0): the samples do not tell them from 0, and their sd and "
        "standard error say little.",
        f"![Angle to the gradient against variance, a point a rule]({folder}bias_and_variance.png)",
    ]


def _by_classes(folder: Path) -> list[str]:
    """Return a table for each of three statistics, a column for each number of classes."""
    content = files.read_json(folder / "summary.json")
    if content is None:
        return []
    size, stage = content["plan"]["batch_sizes"][0], max(content["plan"]["stages"])
    shown = (e for e in content["results"] if e["batch_size"] == size)
    entries = [entry for entry in shown if entry["stage"] == stage]
    numbers = sorted({entry["classes"] for entry in entries})
    rules = list(dict.fromkeys(entry["rule"] for entry in entries))
    of = {(entry["rule"], entry["classes"]): entry for entry in entries}
    parts = [
        f"**By number of classes** (the first so many), epoch {stage} of training, batches of "
        f"{size}. {_source(content, entries)}"
    ]
    for heading, objective, name in (COLUMNS[0], *COLUMNS[4:]):
        rows = [
            [display.shown(r), *(_mean_sd(of.get((r, n)), objective, name) for n in numbers)]
            for r in rules
        ]
        parts += [
            f"{heading[0].upper()}{heading[1:]}:",
            markdown.table(("rule", *map(str, numbers)), rows),
        ]
    return parts


def _source(content: dict[str, Any], entries: list[dict[str, Any]]) -> str:
    """Say where the numbers come from."""
    seeds = len(entries[0]["seeds"])
    command = f"Command: `{content['command']}`; {display.counted(seeds, 'seed')}; "
    return f"{command}{content['device']}; commit `{runs.short(content['commit'])}`."


def _at(entries: list[dict[str, Any]], rule: str, stage: int) -> dict[str, Any] | None:
    found = (e for e in entries if (e["rule"], e["stage"]) == (rule, stage))
    return next(found, None)


def _mean_sd(entry: dict[str, Any] | None, objective: str, name: str) -> str:
    value = entry and entry[objective][ALL][name]
    if not (entry and value):
        return "–"
    # Rounding of a float32 cosine makes an angle of 0 a hundredth of a degree.
    mean = f"{value['mean']:.1f}" if name == "angle" else f"{value['mean']:.3g}"
    digits = ".1f" if name == "angle" else ".2g"
    if "sd" in value:
        mean += f" ({value['sd']:{digits}})"
    exact = entry.get("exact", False)
    if "standard_error" in value and not exact:
        mean += f" ± {value['standard_error']:{digits}}"
    # Of one seed there is no sd: earlier summaries do not say of how many a value is.
    there = value.get("seeds", len(entry["seeds"]) if "sd" in value else 1)
    limit = name in ("angle", "bias") and value.get("at_limit", value["mean"] == 0)
    mean += "‡" * bool(limit and not exact)
    return mean + f", {there} of {len(entry['seeds'])} seeds" * (there < len(entry["seeds"]))
