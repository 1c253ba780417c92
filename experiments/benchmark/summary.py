"""From raw seconds to ratios, and to the table a benchmark ends with. No JAX needed."""

import collections
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from experiments.benchmark.profile import PRODUCTS
from experiments.benchmark.timing import Spread, ratio, spread
from experiments.common import console, display

DEFINITIONS = {
    "q_agrel_over_backprop": "time of a Q-AGREL step over that of a backprop step; "
    "median over rounds of the ratio within a round",
    "vs_torch": "our images/s over PyTorch's with the same rule (Q-AGREL), likewise; null without "
    "PyTorch. vs_torch_backprop: the same for backprop",
    "vs_torch_compiled": "the same with PyTorch's network through torch.compile (Q-AGREL); null "
    "where that does not work. vs_torch_compiled_backprop: the same for backprop",
    "roofline_fraction": "time of the step's matrix products alone (or, on an accelerator, "
    "convolutions) over the time of the Q-AGREL step, likewise; see "
    "experiments/benchmark/roofline.py",
    "seeds_scaling": "time of one step of N seeds together over that of one seed, likewise",
    "seeds_on_cores": "images/s of as many seeds as cores (at most 8), a core each, over those of "
    "one seed on all of them, likewise; null on an accelerator",
    "batch_on_cores": "images/s of one seed whose batches are divided over the cores, likewise. "
    "vs_torch_batch_on_cores: the same over PyTorch's",
    "program_bytes": "what the compiled training call needs by the compiler's account: arguments + "
    "results - what they share + temporaries",
    "process_high_water_bytes": "most memory the whole process (all ways of training of the cell, "
    "and the libraries) had resident while this one warmed up; null where it cannot be told",
    "device_high_water_bytes": "most accelerator memory allocated by JAX since the process began",
    "time_shares": "of the time of all operations of a Q-AGREL step as JAX's profiler sees them, "
    "the part of each kind of work; null where it sees none. profile: the same by layer, way and "
    "kind; see experiments/benchmark/profile.py",
    "compile_seconds": "tracing and compiling the training call; not in any other time",
}


def summarize(
    cells: Mapping[str, Mapping[str, Any]],
    environment: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Work out every ratio.

    Args:
      cells: by name, what ``benchmark.measure`` returned.
      environment: ``provenance.environment()``.
      settings: what was asked for.

    Returns:
      The content of ``benchmark.json``.
    """
    ratios = {name: cell_ratios(cell["subjects"]) for name, cell in cells.items()}

    def medians(key: str) -> dict[str, float | None]:
        spreads = {name: ratio[key] for name, ratio in ratios.items()}
        return {name: None if s is None else s.median for name, s in spreads.items()}

    return {
        **environment,
        "settings": dict(settings),
        "q_agrel_over_backprop": medians("q_agrel_over_backprop"),
        "vs_torch": medians("vs_torch"),
        "vs_torch_backprop": medians("vs_torch_backprop"),
        "vs_torch_compiled": medians("vs_torch_compiled"),
        "vs_torch_compiled_backprop": medians("vs_torch_compiled_backprop"),
        "vs_torch_batch_on_cores": medians("vs_torch_batch_on_cores"),
        "roofline_fraction": medians("roofline_fraction"),
        "seeds_scaling": {
            name: {str(n): value.median for n, value in seeds_scaling(cell["subjects"]).items()}
            for name, cell in cells.items()
        },
        "seeds_on_cores": medians("seeds_on_cores"),
        "batch_on_cores": medians("batch_on_cores"),
        "time_shares": {name: time_shares(cell["profile"]) for name, cell in cells.items()},
        "quartiles": {
            name: {k: [v.low, v.high] if v else None for k, v in of_cell.items()}
            for name, of_cell in ratios.items()
        },
        "definitions": DEFINITIONS,
        "cells": {name: _with_medians(cell) for name, cell in cells.items()},
    }


def cell_ratios(subjects: Mapping[str, Mapping[str, Any]]) -> dict[str, Spread | None]:
    """The ratios of one cell; None where one of its two sides was not measured.

    Args:
      subjects: by name, at least ``seconds_per_step``, one value a round.
    """

    def over(numerator: str, denominator: str, images: bool = False) -> Spread | None:
        if not {numerator, denominator} <= subjects.keys():
            return None
        above, below = subjects[numerator], subjects[denominator]
        scale = below["images_per_step"] / above["images_per_step"] if images else 1
        seconds = [scale * one for one in above["seconds_per_step"]]
        return ratio(seconds, below["seconds_per_step"])

    return {
        "q_agrel_over_backprop": over("q_agrel", "backprop"),
        "vs_torch": over("torch_q_agrel", "q_agrel"),
        "vs_torch_backprop": over("torch_backprop", "backprop"),
        "vs_torch_compiled": over("torch_compiled_q_agrel", "q_agrel"),
        "vs_torch_compiled_backprop": over("torch_compiled_backprop", "backprop"),
        "vs_torch_batch_on_cores": over("torch_q_agrel", "q_agrel_batch_on_cores"),
        "seeds_on_cores": over("q_agrel", "q_agrel_seeds_on_cores", images=True),
        "batch_on_cores": over("q_agrel", "q_agrel_batch_on_cores"),
        "roofline_fraction": over("roofline", "q_agrel"),
    }


PATCHES = "cutting and adding patches"
SHOWN = {PRODUCTS: "matrix products", PATCHES: "patches, transforms"}
"""What tables and figures call two of the kinds of work; ``benchmark.json`` keeps its keys."""


def time_shares(profile: Mapping[str, Any] | None) -> dict[str, float] | None:
    """Add up a profile by kind of work, as parts of one, largest first.

    Args:
      profile: what ``benchmark.profile.profile`` returned.

    Returns:
      By kind: products, what layers with kernels do beside them, BatchNorm and Dropout, and what no
      layer does, as the profile names it.
    """
    if profile is None:
        return None
    spent: dict[str, float] = collections.defaultdict(float)
    for place in profile["places"]:
        layer = place["layer"].split("_")[0]
        kernels = layer in ("Dense", "Conv", "LocallyConnected")
        part = PRODUCTS if place["kind"] == PRODUCTS else PATCHES if kernels else layer
        spent[part] += place["seconds_per_step"]
    largest_first = sorted(spent.items(), key=lambda item: -item[1])
    return {part: seconds / sum(spent.values()) for part, seconds in largest_first}


def seeds_scaling(subjects: Mapping[str, Mapping[str, Any]]) -> dict[int, Spread]:
    """Time of a step of N seeds over that of one, by N in ascending order."""
    one = subjects["q_agrel"]["seconds_per_step"]
    counts = {1: subjects["q_agrel"]} | {
        int(name.split("_")[-2]): subject
        for name, subject in subjects.items()
        if name.startswith("q_agrel_") and name.endswith("_seeds")
    }
    return {n: ratio(counts[n]["seconds_per_step"], one) for n in sorted(counts)}


def parts_of(shares: Mapping[str, Mapping[str, float] | None]) -> list[str]:
    """List the kinds of work of all cells, those of the largest sum of shares first."""
    total: dict[str, float] = collections.defaultdict(float)
    for of_cell in shares.values():
        for part, share in (of_cell or {}).items():
            total[part] += share
    return sorted(total, key=lambda part: -total[part])


def shown(part: str) -> str:
    """Return a kind of work as tables and figures call it."""
    return SHOWN.get(part, part)


def print_table(content: Mapping[str, Any], folder: Path) -> None:
    """Print images/s, ratios and costs of every cell."""
    ways = {
        "Q-AGREL": "q_agrel",
        "backprop": "backprop",
        "PyTorch Q-AGREL": "torch_q_agrel",
        "matmul roofline": "roofline",
    }
    speeds, ratios, costs = [], [], []
    for name, cell in content["cells"].items():
        subjects = cell["subjects"]
        speeds.append(
            (
                name,
                *(_number(subjects.get(s, {}).get("images_per_second"), 0) for s in ways.values()),
            )
        )
        scaling = content["seeds_scaling"][name]
        ratios.append(
            (
                name,
                _number(content["q_agrel_over_backprop"][name], 2),
                _eager_and_compiled(content["vs_torch"][name], content["vs_torch_compiled"][name]),
                _number(content["roofline_fraction"][name], 2),
                "\n".join(f"{n}: {value:.2f}" for n, value in scaling.items() if n != "1") or "–",
                _number(content["seeds_on_cores"][name], 2),
                _number(content["batch_on_cores"][name], 2),
            )
        )
        q_agrel = subjects["q_agrel"]
        costs.append(
            (
                name,
                _number(q_agrel["compile_seconds"], 1),
                _number(q_agrel["program_bytes"], 0, 1e-6),
                _number(q_agrel["process_high_water_bytes"], 0, 1e-6),
            )
        )
    console.table(f"images/s, median; {content['device']}", ("network", *_broken(ways)), speeds)
    console.table("median ratios within rounds", RATIOS, ratios)
    console.table("costs of Q-AGREL", COSTS, costs)
    shares = content["time_shares"]
    if parts := parts_of(shares):
        rows = [
            (name, *(_number((of_cell or {}).get(part), 0, 100) for part in parts))
            for name, of_cell in shares.items()
        ]
        console.table(
            "share of each kind of operation in a Q-AGREL step, %",
            ("network", *_broken(map(shown, parts))),
            rows,
        )
    settings = content["settings"]
    missing = "" if "torch" in content["versions"] else "; PyTorch is not installed: not compared"
    print(
        f"{display.counted(settings['repeats'], 'round')}, "
        f"{settings['precision']}, seeds run "
        f"{settings['seeds_run']}{missing}"
    )
    print(f"everything is in {folder}")


RATIOS = (
    "network",
    "step time\nQ-AGREL /\nbackprop",
    "speed /\nPyTorch's\n(compiled)",
    "matmul\nroofline /\nstep time",
    "step time\nof N seeds\n/ one's",
    "speed, a\nseed a core\n/ one",
    "speed,\nbatch over\ncores / one",
)
COSTS = ("network", "compiling (s)", "program (MB)", "process (MB)")


def _broken(headings: Iterable[str]) -> list[str]:
    return [heading.replace(" ", "\n") for heading in headings]


def _with_medians(cell: Mapping[str, Any]) -> dict[str, Any]:
    subjects = {}
    for name, subject in cell["subjects"].items():
        seconds = spread(subject["seconds_per_step"])
        images = subject["images_per_step"]
        subjects[name] = {
            "images_per_second": images / seconds.median,
            "images_per_second_quartiles": [images / seconds.high, images / seconds.low],
            "median_seconds_per_step": seconds.median,
            "gflop_per_second": cell["flop_per_step"]
            * (images / cell["batch_size"])
            / seconds.median
            / 1e9,
            **subject,
        }
    return {**cell, "subjects": subjects}


def _eager_and_compiled(eager: float | None, compiled: float | None) -> str:
    return _number(eager, 2) if compiled is None else f"{_number(eager, 2)} ({compiled:.2f})"


def _number(value: float | None, digits: int, scale: float = 1.0) -> str:
    return "–" if value is None else f"{scale * value:,.{digits}f}"
