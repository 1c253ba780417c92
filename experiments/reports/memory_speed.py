"""Speed of AuGMEnT compared with NumPy, for populations of several sizes."""

import statistics
from pathlib import Path
from typing import Any

from experiments.reports import NOT_RUN, markdown
from experiments.reports import memory_cells as cells
from experiments.working_memory import plots

LIMIT = 25_000
"""Training trials after which a network gives up the saccade task."""


def section(results: Path) -> str:
    """Return the table of ``results/memory_speed``, and draw it."""
    folder = results / "memory_speed"
    content = cells.read(folder, "memory_speed.json")
    if content is None:
        return f"{NOT_RUN} `python -m experiments.memory_speed`"
    rows = []
    for row in content["rows"]:
        ours, theirs = row["qagrel_jax"], row["numpy"]
        whole = LIMIT * row["networks"] / ours["trials_per_second"]
        rows.append(
            [
                f"{row['networks']:,}",
                f"{ours['trials_per_second']:,.0f}",
                f"{theirs['trials_per_second']:,.0f}",
                f"{row['qagrel_jax_over_numpy']:.2f} [{_range(ours, theirs)}]",
                f"{_each_cpu_second(ours):,.0f}, {_each_cpu_second(theirs):,.0f}",
                f"{ours['cores_busy']:.1f}, {theirs['cores_busy']:.1f}",
                f"{ours['first_turn_seconds']:.1f}",
                f"{whole:,.0f}",
            ]
        )
    plots.speed(folder / "memory_speed.png", content)
    headings = (
        "networks",
        "trials/s, qagrel_jax",
        "trials/s, NumPy",
        "ratio [range]",
        "trials per CPU second, both",
        "cores used, both",
        "first chunk, s",
        f"seconds for {LIMIT:,} trials each",
    )
    repeats = len(content["rows"][0]["numpy"]["pieces"])
    starved = any(
        row[name]["cores_busy"] < 0.8 for row in content["rows"] for name in ("qagrel_jax", "numpy")
    )
    busy = " **The machine was busy**: neither had a core of its own." * starved
    return "\n\n".join(
        [
            markdown.table(headings, rows),
            f"Medians of {repeats} alternating repeats. The ratio is the median of the ratios "
            "within a repeat. The first chunk includes compilation. The last column is computed "
            "from the first rate, not measured." + busy,
            cells.provenance(content, folder) + ".",
            "![Trials per second](memory_speed.png)",
        ]
    )


def _range(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """Return the least and the largest ratio within a repeat."""
    pairs = zip(ours["pieces"], theirs["pieces"], strict=True)
    ratios = [a["trials"] / a["seconds"] / (b["trials"] / b["seconds"]) for a, b in pairs]
    return f"{min(ratios):.2f}–{max(ratios):.2f}"


def _each_cpu_second(one: dict[str, Any]) -> float:
    return statistics.median(p["trials"] / p["cpu_seconds"] for p in one["pieces"])
