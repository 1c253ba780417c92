"""Kinds of feedback pathway: a table for each network and rule, and the pictures."""

from pathlib import Path
from typing import Any

from experiments.common import display, files
from experiments.feedback import summary
from experiments.reports import NOT_RUN, markdown, runs

FOLDER = "feedback"


def section(results: Path) -> str:
    """Return a subsection for each network and rule, and the settings in which cells differ.

    Args:
      results: ``experiments/results``.
    """
    content = files.read_json(results / FOLDER / "summary.json")
    if content is None:
        return NOT_RUN
    found = content["results"]
    parts = [
        _section(name, rule, rows, found) for (name, rule), rows in summary.tables(found).items()
    ]
    parts += [
        f"![{name}: {title}]({name}/{picture}.png)"
        for name in dict.fromkeys(result["config_name"] for result in found)
        for picture, title in _pictures(found, name)
        if (results / FOLDER / name / f"{picture}.png").is_file()
    ]
    return "\n\n".join(parts)


def _section(name: str, rule: str, rows: list[dict[str, Any]], found: list[dict[str, Any]]) -> str:
    headings = [heading.replace("\n", " ") for heading in summary.HEADINGS]
    marked = [[cell.replace("*", r"\*") for cell in summary.row(r, found)] for r in rows]
    # Further seeds have a command and a commit each; earlier summaries name the first alone.
    commands = dict.fromkeys(c for r in rows for c in r.get("commands", [r["command"]]) if c)
    began = [commit for r in rows for commit in r.get("commits", [r["commit"]])]
    commits = dict.fromkeys(f"`{runs.short(commit)}`" for commit in began)
    devices = dict.fromkeys(r["device"] for r in rows if r["device"])
    parts = [
        f"### `{name}`, {display.shown(rule)}",
        f"{summary.title(rows)}; {', then '.join(devices)}; commit {', '.join(commits)}.",
        markdown.table(headings, marked, right=True),
        summary.NOTE.replace("*", r"\*"),
    ]
    if settings := summary.settings(rows):
        shown = markdown.table(settings[0], settings[1:])
        parts += ["Settings in which the rows differ:", shown]
    listed = "\n".join(f"- `{command}`" for command in commands)
    return "\n\n".join([*parts, f"Commands:\n\n{listed}"])


def _pictures(found: list[dict[str, Any]], name: str) -> list[tuple[str, str]]:
    rules = dict.fromkeys(r["rule"] for r in found if r["config_name"] == name)
    return [("accuracy", "accuracy by kind of feedback")] + [
        (f"angles_{rule}", f"angles by layer and epoch, {display.shown(rule)}") for rule in rules
    ]
