"""The picture of a benchmark: throughput, and what more seeds cost. No JAX needed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import NullFormatter, ScalarFormatter

from experiments import plots
from experiments.benchmark import summary

WAYS = {
    "q_agrel": ("Q-AGREL", "o", 0),
    "backprop": ("backprop", "s", 1),
    "torch_q_agrel": ("PyTorch, Q-AGREL", "^", 2),
    "torch_backprop": ("PyTorch, backprop", "v", 3),
    "torch_compiled_q_agrel": ("PyTorch compiled, Q-AGREL", "2", 2),
    "torch_compiled_backprop": ("PyTorch compiled, backprop", "1", 3),
    "roofline": ("matmul roofline", "|", 6),
}


def draw(content: Mapping[str, Any], path: Path) -> None:
    """Draw ``benchmark.json``'s content: images/s by network, time per seed by N."""
    cells = content["cells"]
    scaling = {
        name: {int(n): value for n, value in of_cell.items()}
        for name, of_cell in content["seeds_scaling"].items()
        if len(of_cell) > 1
    }
    height = max(4.4, 2.0 + 0.6 * len(cells))
    columns = 2 if scaling else 1
    with plots.figure(path, 5 * columns + 0.5, height, ncols=columns) as (drawing, axes):
        left, *right = np.atleast_1d(axes)
        _throughput(left, cells)
        if right:
            _seeds(right[0], scaling)
        drawing.suptitle(f"training step, {content['device']}, {content['settings']['precision']}")


def draw_time_shares(content: Mapping[str, Any], path: Path) -> None:
    """Draw what the profiler saw: a bar per network, a part of it per kind of work."""
    shares = {n: of_cell for n, of_cell in content["time_shares"].items() if of_cell}
    if not shares:
        return
    with plots.figure(path, 8, 1.8 + 0.5 * len(shares)) as (drawing, axes):
        begin = np.zeros(len(shares))
        for index, part in enumerate(summary.parts_of(shares)):
            width = np.array([100 * of_cell.get(part, 0.0) for of_cell in shares.values()])
            axes.barh(
                range(len(shares)),
                width,
                left=begin,
                color=plots.COLORS[index % len(plots.COLORS)],
                edgecolor="white",
                label=summary.shown(part),
            )
            for row, (left, share) in enumerate(zip(begin, width, strict=True)):
                if share >= 3:
                    axes.text(
                        left + share / 2,
                        row,
                        f"{share:.0f}",
                        ha="center",
                        va="center",
                        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.8},
                    )
            begin += width
        axes.set_yticks(range(len(shares)), [name.replace("_", "\n") for name in shares])
        axes.invert_yaxis()
        axes.grid(visible=False)
        axes.set_xlim(0, 100)
        axes.set_xlabel("% of the time of a Q-AGREL step's operations")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=8)
        drawing.suptitle(content["device"])


def _throughput(axes: Any, cells: Mapping[str, Any]) -> None:
    shown = [way for way in WAYS if any(way in cell["subjects"] for cell in cells.values())]
    for index, way in enumerate(shown):
        label, marker, color = WAYS[way]
        rows = [row for row, cell in enumerate(cells.values()) if way in cell["subjects"]]
        subjects = [c["subjects"][way] for c in cells.values() if way in c["subjects"]]
        median = np.array([s["images_per_second"] for s in subjects])
        quartiles = np.array([s["images_per_second_quartiles"] for s in subjects]).T
        offset = 0.6 * ((index + 0.5) / len(shown) - 0.5)
        axes.errorbar(
            median,
            np.array(rows) + offset,
            xerr=np.abs(quartiles - median),
            fmt=marker,
            markersize=6 if marker != "|" else 10,
            markeredgewidth=2 if marker == "|" else 1,
            color=plots.COLORS[color],
            label=label,
        )
    axes.set_yticks(range(len(cells)), [name.replace("_", "\n") for name in cells])
    axes.set_ylim(len(cells) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.set_xlabel("images per second, median and quartiles")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=8)


def _seeds(axes: Any, scaling: Mapping[str, Mapping[int, float]]) -> None:
    counts = sorted({n for of_cell in scaling.values() for n in of_cell})
    axes.axhline(1, color="0.6", linewidth=1)
    for index, (name, of_cell) in enumerate(scaling.items()):
        axes.plot(
            list(of_cell),
            [value / n for n, value in of_cell.items()],
            color=plots.COLORS[index % len(plots.COLORS)],
            linestyle=plots.LINES[index % len(plots.LINES)],
            marker="osv^Dxp"[index % 7],
            label=name.replace("_", " "),
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks(counts)
    axes.set_ylim(0, 1.15 * axes.get_ylim()[1])
    axes.set_xlabel("seeds trained together, N")
    axes.set_ylabel("step time per seed / one seed's alone")
    axes.legend(loc="lower left", fontsize=8)
