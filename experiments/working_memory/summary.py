"""What a finished working-memory run says: who learned, in how many trials, and does it matter?"""

import statistics
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.common.significance import rank_test
from experiments.working_memory.config import MemoryConfig
from qagrel_jax.population import Setup
from qagrel_jax.population.packing import Packed


def summarize(
    config: MemoryConfig,
    setup: Setup,
    packed: Packed,
    seconds: float,
    environment: dict[str, Any],
) -> dict[str, Any]:
    """Return what ``summary.json`` holds."""
    trials = packed.trials_to_convergence()
    ended = int(packed.networks.progress.trials.sum())
    gone = diverged(packed)
    summary = {
        "task": config.task,
        "networks": len(packed),
        **describe(trials),
        "diverged_networks": int(gone.sum()),
        "trials_are": "training trials to the criterion; null: not converged. Median, mean and "
        "quartiles are over the networks that converged",
        "frozen_tests_taken": int(packed.networks.progress.tests.sum()),
        "max_trials": setup.criterion.max_trials,
        "training_trials_of_all_networks": ended,
        "seconds": seconds,
        "trials_per_second": ended / seconds,
        **environment,
        "config": config.to_json(),
        "trials": trials,
    }
    passed = packed.networks.progress.passed
    if passed is not None:
        summary["levels"] = levels(np.asarray(passed))
    if len(config.settings) > 1:
        each = np.split(np.array(trials, dtype=object), len(config.settings))
        lost = np.split(gone, len(config.settings))
        summary["grid"] = [
            {"feedback": feedback, "learning_rate": rate, "tag_decay": decay}
            | {"networks": config.networks}
            | describe(list(cell))
            | {"diverged_networks": int(cell_lost.sum())}
            for (feedback, rate, decay), cell, cell_lost in zip(
                config.settings, each, lost, strict=True
            )
        ]
        if passed is not None:
            parts = np.split(np.asarray(passed), len(config.settings), axis=1)
            for cell, part in zip(summary["grid"], parts, strict=True):
                cell["levels"] = levels(part)
    if len(config.feedbacks) > 1:
        summary["feedback_mann_whitney"] = compare_feedbacks(summary)
    return summary


def levels(passed: np.ndarray) -> list[dict[str, Any]]:
    """Return, for every shaping level, how many networks passed it, and in how many trials.

    Args:
      passed: int[levels, networks], trials when each was passed, 0 if not, -1 if not known when.
    """
    before = np.concatenate([np.zeros_like(passed[:1]), passed[:-1]])
    rows = []
    for level, (now, earlier) in enumerate(zip(passed, before, strict=True)):
        known = (now > 0) & (earlier >= 0)
        needed = [int(n) for n in (now - earlier)[known]]
        told = describe([*needed, *[None] * (len(now) - len(needed))])
        del told["converged_fraction"]
        rows.append({"level": level + 1, "passed": int((now != 0).sum()), **told, "trials": needed})
    return rows


def diverged(packed: Packed) -> np.ndarray:
    """Return bool[networks], whether a network has weights that are not finite."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(packed.networks.learner.weights)]
    finite = [np.isfinite(leaf).reshape(-1, len(packed)).all(0) for leaf in leaves]
    return ~np.all(finite, axis=0)


def compare_feedbacks(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Test, for every β and λ, whether the feedbacks differ in trials; "never" ranks last."""
    halves = np.split(np.array([t or np.inf for t in summary["trials"]], dtype=float), 2)
    pairs = zip(*(np.split(half, len(summary["grid"]) // 2) for half in halves), strict=True)
    return [
        {"learning_rate": cell["learning_rate"], "tag_decay": cell["tag_decay"]}
        | {"p": rank_test(*pair)}
        for cell, pair in zip(summary["grid"], pairs, strict=False)
    ]


def describe(trials: list[int | None]) -> dict[str, Any]:
    """Return the converged fraction, and mean, median and quartiles of those that converged."""
    there = [t for t in trials if t is not None]
    quartiles = np.percentile(there, [25, 75]).tolist() if there else None
    return {
        "converged_fraction": len(there) / len(trials),
        "median_trials": statistics.median(there) if there else None,
        "mean_trials": statistics.fmean(there) if there else None,
        "quartiles_trials": quartiles,
    }


def show(summary: dict[str, Any], folder: Path) -> None:
    """Print the lines that end a run."""
    reached = sum(t is not None for t in summary["trials"])
    line = f"{summary['task']}: {reached} of {summary['networks']} networks converged"
    if reached:
        low, high = summary["quartiles_trials"]
        line += (
            f"; trials: median {summary['median_trials']:,.0f}, "
            f"mean {summary['mean_trials']:,.0f}, quartiles {low:,.0f} to {high:,.0f}"
        )
    if summary["diverged_networks"]:
        line += f"; {summary['diverged_networks']} diverged: their weights are not finite"
    print(line)
    print(f"{summary['seconds']:.1f} s; everything is in {folder}")
