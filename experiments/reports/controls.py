"""Controls: for each, its question, a table of every setting that was tried, and its pictures."""

from pathlib import Path
from typing import Any

from experiments.common import files
from experiments.controls import catalogue, settings, summary
from experiments.reports import NOT_RUN, markdown, runs

PICTURES = {"picture.png": "Result of the control", "angles.png": "Angles by layer and epoch"}


def section(results: Path) -> str:
    """Return a subsection for each control: question, command, table, angles, pictures."""
    parts = []
    for name in catalogue.names():
        parts.append(f"## `{name}`")
        path = results / "controls" / name / "summary.json"
        content = files.read_json(path)
        parts.append(NOT_RUN if content is None else _section(name, content))
        parts += [
            f"![{name}: {title}]({name}/{picture})"
            for picture, title in PICTURES.items()
            if (path.parent / picture).is_file()
        ]
    return "\n\n".join(parts)


def _section(name: str, content: dict[str, Any]) -> str:
    done = content["results"]
    config, (first, *rest) = done[0]["config"], done[0]["seeds"]
    seeds = f"seeds {first}–{rest[-1]}" if rest else f"seed {first}"
    commits = " and ".join(sorted({f"`{runs.short(r['commit'])}`" for r in done}))
    parts = [
        settings.shown(content["question"]),
        f"Command: `python -m experiments.controls {name}{_options(name, done[0])}`; "
        f"{config['dataset']}, {config['architecture']}; {config['epochs']} epochs; {seeds}; "
        f"{done[0]['device']}; commit {commits}. {_criterion(done)}",
        markdown.table(
            [heading.replace("\n", " ") for heading in summary.HEADINGS],
            [_row(result, done) for result in done],
            right=True,
        ),
    ]
    if content["missing"]:
        parts.append(f"Not run: {', '.join(map(settings.shown, content['missing']))}.")
    if any(result["last_angles"] for result in done):
        parts.append(_angles(done))
    return "\n\n".join(parts)


def _options(name: str, result: dict[str, Any]) -> str:
    """Return the options that a run with other seeds or epochs than the control's own was given."""
    own = catalogue.load(name, None, None).settings[0].config
    given = {"seeds": len(result["seeds"]), "epochs": result["config"]["epochs"]}
    changed = [f" --{key} {value}" for key, value in given.items() if value != getattr(own, key)]
    return "".join(changed)


def _criterion(results: list[dict[str, Any]]) -> str:
    """Say to which validation accuracy epochs are counted, and what chance is."""
    there = [r for r in results if r["criterion_accuracy"] is not None]
    by_classes = len({r["classes"] for r in there}) > 1
    targets: dict[str, str] = {}
    for r in there:
        group = f"{r['classes']} classes" if by_classes else f"batch {r['config']['batch_size']}"
        targets[group] = f"{100 * r['criterion_accuracy']:.2f} %"
    listed = ", ".join(f"{t} ({g})" if len(targets) > 1 else t for g, t in targets.items())
    whose = "backprop's" if any(r["rule"] == "backprop" for r in results) else ("any setting's")
    by_chance = dict.fromkeys(f"{100 / r['classes']:g} %" for r in results)
    best = f"98 % of the best of {whose} mean best validation accuracies"
    return f"Criterion: {listed}, {best}; chance: {', '.join(by_chance)}."


def _row(result: dict[str, Any], results: list[dict[str, Any]]) -> list[str]:
    cells = list(summary.cells(result))
    family = [
        r for r in results if (r["family"], r["classes"]) == (result["family"], result["classes"])
    ]
    if result["chosen"] and len(family) > 1:
        cells[0] = f"**{cells[0]}**"  # the one of its family that validation chose
    return cells


def _angles(results: list[dict[str, Any]]) -> str:
    kinds = {
        "update_angle_degrees": "Angle of the update to the true gradient of ½(r − q_s)²",
        "feedback_angle_degrees": "Angle of feedback to forward weights",
    }
    measured = [result for result in results if result["last_angles"]]  # none if it diverged
    parts = []
    for kind, title in kinds.items():
        layers = list(measured[0]["last_angles"][kind])
        rows = [
            [
                settings.shown(r["label"]),
                *(_degrees(r["last_angles"][kind][layer]) for layer in layers),
            ]
            for r in measured
        ]
        parts += [
            f"{title}, after the last epoch:",
            markdown.table(("setting", *layers), rows, right=True),
        ]
    return "\n\n".join(parts)


def _degrees(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}°"
