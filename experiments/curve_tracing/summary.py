"""What a finished curve-tracing run says: who learned, in how many trials, and what else it can."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.curve_tracing.config import CurveConfig


def summarize(
    config: CurveConfig,
    lines: list[dict[str, Any]],
    lengths: list[int],
    tested: Sequence[Any],
    environment: dict[str, Any],
) -> dict[str, Any]:
    """Return what ``summary.json`` holds.

    Args:
      config: the run's.
      lines: of its frozen tests, in order.
      lengths: of the curves in the tests at the end.
      tested: in these, a ``learners.FrozenTest`` for each length.
      environment: device, versions, commit and command.
    """
    passed = {
        length: [_first(lines, n, length, config.accuracy) for n in range(config.networks)]
        for length in range(2, config.max_length + 1)
    }
    perfect = [_first(lines, n, config.max_length, 1.0) for n in range(config.networks)]
    trained = int(sum(config.test_every * sum(line["learning"]) for line in lines))
    seconds = sum(line["seconds"] for line in lines)
    return {
        "networks": config.networks,
        "max_length": config.max_length,
        "trials_are": "training trials of a network up to the first frozen test, of "
        f"{config.test_trials} trials, with this accuracy; null: there was none",
        "trials": passed[config.max_length],
        **describe(passed[config.max_length]),
        "trials_to_all_right": perfect,
        "all_right": describe(perfect),
        "trials_by_length": {str(length): trials for length, trials in passed.items()},
        "apart_is": "trials in which no pixel is beside both curves; null: there were none",
        **{
            name: {
                str(length): finite(getattr(test, name))
                for length, test in zip(lengths, tested, strict=True)
            }
            for name in ("accuracy", "apart", "accuracy_apart")
        },
        "training_trials_of_all_networks": trained,
        "seconds": seconds,
        "trials_per_second": trained / seconds if seconds else None,
        **environment,
        "config": config.to_json(),
    }


def describe(trials: list[int | None]) -> dict[str, Any]:
    """Return how many networks got there, and the mean and median of their trials."""
    there = [t for t in trials if t is not None]
    return {
        "converged": len(there),
        "mean_trials": statistics.fmean(there) if there else None,
        "median_trials": statistics.median(there) if there else None,
    }


def show(content: dict[str, Any], folder: Path) -> None:
    """Print the lines that end a run."""
    line = (
        f"{content['converged']} of {content['networks']} networks trace curves of "
        f"{content['max_length']} pixels"
    )
    if content["converged"]:
        line += f"; trials: mean {content['mean_trials']:,.0f}"
    print(line)
    for length, accuracy in content["accuracy"].items():
        print(f"  {length:>3} pixels: accuracy {', '.join(f'{a:.1%}' for a in accuracy)}")
    print(f"{content['seconds']:.1f} s; everything is in {folder}")


def finite(values: Any) -> list[float | None]:
    """Return numbers as JSON has them, to six digits; None: not a finite one."""
    values = np.asarray(values, float)
    return [float(f"{v:.6g}") if np.isfinite(v) else None for v in values]


def _first(lines: list[dict[str, Any]], network: int, length: int, accuracy: float) -> int | None:
    """Return the trials at the first test of this length with this accuracy."""
    for line in lines:
        here = line["length"][network] == length and line["learning"][network]
        if here and line["accuracy"][network] >= accuracy - 1e-6:
            return line["trials"]
    return None
