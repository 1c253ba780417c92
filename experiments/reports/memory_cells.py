"""Cells of the working-memory tables: shares, trials, and where a run comes from."""

from pathlib import Path
from typing import Any

from experiments.common import files
from experiments.reports import named


def read(folder: Path, name: str = "summary.json") -> dict[str, Any] | None:
    """Return the content of ``folder / name``, None if there is none."""
    return files.read_json(folder / name)


def share(cell: dict[str, Any]) -> str:
    """Return how many networks converged, of how many."""
    networks = cell["networks"]
    return percentage(round(cell["converged_fraction"] * networks), networks)


def percentage(reached: int, networks: int) -> str:
    """Return a count with its percentage."""
    return f"{reached:,} of {networks:,} ({100 * reached / networks:.4g} %)"


def trials(cell: dict[str, Any]) -> list[str]:
    """Return median with quartiles, and mean, of the networks that converged."""
    if cell["median_trials"] is None:
        return ["–", "–"]
    low, high = cell["quartiles_trials"]
    middle = f"{cell['median_trials']:,.0f} ({low:,.0f}–{high:,.0f})"
    return [middle, f"{cell['mean_trials']:,.0f}"]


def difference(ours: float | None, theirs: float) -> str:
    """Return by how many percent ours is more than theirs."""
    return "–" if ours is None else f"{100 * (ours / theirs - 1):+.1f} %".replace("-", "−")


def provenance(run: dict[str, Any], folder: Path) -> str:
    """Return command, seed, device, commit and folder of a run."""
    seed = run["seed"] if "seed" in run else run["config"]["seed"]
    commit = (run["commit"] or "unknown").removesuffix("-dirty")[:7]
    dirty = " with uncommitted changes" if (run["commit"] or "").endswith("-dirty") else ""
    return (
        f"`{run['command']}`; seed {seed}; {run['device']}; commit `{commit}`{dirty}; folder "
        f"`{named(folder)}/`"
    )


def listed(lines: list[str]) -> str:
    """Return a Markdown list."""
    return "\n".join(f"- {line}" for line in lines)
