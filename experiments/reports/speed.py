"""Speed: tables of every benchmark, and which targets they meet."""

import operator
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from experiments.benchmark import summary
from experiments.common import files
from experiments.reports import named, runs

DEFAULT = "benchmark"

Q_AGREL_OVER_BACKPROP = 1.05
VS_TORCH_CPU = {"dense": 1.25, "conv": 1.15, "deep": 1.0, "locally_connected": 2.5}
VS_TORCH_ACCELERATOR = {"dense": 3.0, "conv": 3.0}
ROOFLINE = {"dense": 0.85}
TEN_SEEDS_CPU, TEN_SEEDS_ACCELERATOR = 10.0, 3.0
"""The targets: ratios, each measured in one run."""


def section(results: Path) -> str:
    """Return the Markdown on speed, of every ``results/benchmark*/benchmark.json``.

    Args:
      results: the folder of results.
    """
    found = sorted(results.glob("benchmark*/benchmark.json"))
    if not found:
        return f"`python -m experiments.benchmark --out {named(results / DEFAULT)}`: not run."
    return "\n\n".join(_benchmark(path) for path in found)


def aims(content: Mapping[str, Any]) -> list[tuple[str, float | None, bool | None]]:
    """Compare a benchmark with its targets.

    Args:
      content: of ``benchmark.json``.

    Returns:
      ``(target, measured value, whether it is met)``, None for what was not measured.
      Networks that the benchmark left out are left out.
    """
    cpu = content["device"].startswith("cpu")
    vs_torch = VS_TORCH_CPU if cpu else VS_TORCH_ACCELERATOR
    ten = TEN_SEEDS_CPU if cpu else TEN_SEEDS_ACCELERATOR
    rows = []

    def add(text: str, value: float | None, meets: Callable[[float], bool]) -> None:
        rows.append((text, value, None if value is None else meets(value)))

    for net in content["cells"]:
        add(
            f"{net}: step time, Q-AGREL / backprop ≤ {Q_AGREL_OVER_BACKPROP}",
            content["q_agrel_over_backprop"][net],
            lambda v: v <= Q_AGREL_OVER_BACKPROP,
        )
        for aim, key, text in (
            (vs_torch.get(net), "vs_torch", "images/s, ours / PyTorch"),
            (
                vs_torch.get(net) if cpu else None,
                "vs_torch_batch_on_cores",
                "images/s, ours / PyTorch, batch split over the cores,",
            ),
            (
                ROOFLINE.get(net) if cpu else None,
                "roofline_fraction",
                "matmul roofline / step time",
            ),
        ):
            if aim is not None:
                add(f"{net}: {text} ≥ {aim:g}", content[key][net], partial(operator.le, aim))
        ten_seeds = content["seeds_scaling"][net].get("10")
        if ten_seeds is not None:
            add(f"{net}: step time, 10 seeds / one seed ≤ {ten:g}", ten_seeds, lambda v: v <= ten)
    return rows


def _benchmark(path: Path) -> str:
    content = files.read_json(path) or {}
    settings, versions = content["settings"], content["versions"]
    torch = f", torch {versions['torch']}" if "torch" in versions else ", without PyTorch"
    lines = [
        f"`{content['command']}`: {content['device']}, jax {versions['jax']}{torch}, "
        f"{settings['precision']}, {settings['repeats']} rounds, seeds run "
        f"{settings['seeds_run']}, {settings['total_seconds']:.0f} s in all, commit "
        f"`{runs.short(content['commit'])}` (`{named(path.parent)}/`).",
        "",
        "Images per second: median (quartiles) over the rounds. GFLOP/s of Q-AGREL's matrix "
        "products, compile time of its training step, and memory of the compiled program:",
        "",
        "| network (images, batch) | Q-AGREL | backprop | PyTorch, Q-AGREL | matmul roofline | "
        "GFLOP/s | compile time | memory |",
        "|---|---|---|---|---|---|---|---|",
        *(_speeds(net, cell) for net, cell in content["cells"].items()),
        "",
        "Ratios: medians over the rounds of the ratio within a round:",
        "",
        "| network | step time, Q-AGREL / backprop | images/s, ours / PyTorch, Q-AGREL | images/s, "
        "ours / PyTorch, backprop | images/s, ours / compiled PyTorch, Q-AGREL | matmul roofline / "
        "step time | step time, N seeds / one seed | images/s, one seed per core / one seed on all "
        "cores | images/s, batch split over the cores / one seed on all cores |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_ratios(net, content) for net in content["cells"]),
        "",
        "| target | measured | |",
        "|---|---|---|",
        *(
            f"| {text} | {_number(value)} | "
            f"{ {True: 'met', False: '**missed**', None: 'not run'}[met] } |"
            for text, value, met in aims(content)
        ),
    ]
    lines += _time_shares(content["time_shares"])
    for picture, text in (
        ("benchmark.png", "Training speed"),
        ("time_shares.png", "Share of each kind of operation in a step's time"),
    ):
        if (path.parent / picture).is_file():
            lines += ["", f"![{text}]({runs.link(path.parent.name, DEFAULT)}{picture})"]
    return "\n".join(lines)


def _time_shares(shares: Mapping[str, Mapping[str, float] | None]) -> list[str]:
    seen = {net: of_net for net, of_net in shares.items() if of_net}
    if not seen:
        return []
    parts = summary.parts_of(seen)
    return [
        "",
        "Share of each kind of operation in the time of a Q-AGREL step, %, as JAX's profiler "
        "measures it (`profile` in `benchmark.json` has it by layer):",
        "",
        f"| network | {' | '.join(map(summary.shown, parts))} |",
        f"|---|{'---|' * len(parts)}",
        *(
            f"| {net} | {' | '.join(f'{100 * of_net.get(part, 0):.0f}' for part in parts)} |"
            for net, of_net in seen.items()
        ),
    ]


def _speeds(net: str, cell: Mapping[str, Any]) -> str:
    subjects = cell["subjects"]
    q_agrel = subjects["q_agrel"]
    shape = "×".join(map(str, cell["image_shape"]))
    ways = ("q_agrel", "backprop", "torch_q_agrel", "roofline")
    memory = q_agrel["program_bytes"]
    cells = [
        f"{net} ({shape}, {cell['batch_size']})",
        *(_throughput(subjects.get(way)) for way in ways),
        f"{q_agrel['gflop_per_second']:,.0f}",
        f"{q_agrel['compile_seconds']:.1f} s",
        "–" if memory is None else f"{memory / 1e6:,.0f} MB",
    ]
    return f"| {' | '.join(cells)} |"


def _ratios(net: str, content: Mapping[str, Any]) -> str:
    ratios = {
        key: content.get(key, {}).get(net)  # benchmarks of before did not compile PyTorch's network
        for key in (
            "q_agrel_over_backprop",
            "vs_torch",
            "vs_torch_backprop",
            "vs_torch_compiled",
            "roofline_fraction",
        )
    }
    scaling = content["seeds_scaling"][net]
    seeds = ", ".join(f"{n}: {value:.2f}" for n, value in scaling.items() if n != "1")
    on_cores = (_number(content[key][net]) for key in ("seeds_on_cores", "batch_on_cores"))
    cells = [net, *map(_number, ratios.values()), seeds or "not run", *on_cores]
    return f"| {' | '.join(cells)} |"


def _throughput(subject: Mapping[str, Any] | None) -> str:
    if subject is None:
        return "not run"
    low, high = subject["images_per_second_quartiles"]
    return f"{subject['images_per_second']:,.0f} ({low:,.0f}–{high:,.0f})"


def _number(value: float | None) -> str:
    return "not run" if value is None else f"{value:.2f}"
