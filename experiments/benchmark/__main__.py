"""How fast training runs: against backprop, against PyTorch, against the matmul roofline.

    python -m experiments.benchmark                      # the four networks, 1 to 10 seeds
    python -m experiments.benchmark --quick              # less of it, in less than four minutes
    python -m experiments.benchmark --cells conv,deep --seeds 1,10 --out DIR

Run it on a machine that does nothing else. In one process, after everything is compiled and warm,
each round times every way of training a network once; ratios are taken within rounds.

Cells: dense (MNIST's shape), conv, locally_connected, deep (CIFAR-10's shape), each with its paper
configuration; mnist_conv and mnist_locally_connected on request; digits, small, to try the command.
All train on random images, so no data set is needed. PyTorch is timed if it can be imported.

Then JAX's profiler watches a few calls of each network, to say which kind of work takes how long.

DIR gets benchmark.json, benchmark.png, time_shares.png and, for Perfetto or TensorBoard, traces/;
tables are printed. If it is interrupted, they have the networks that were finished.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.benchmark.settings import (
    CELLS,
    DEFAULT_CELLS,
    DEFAULT_SEEDS,
    QUICK_SEEDS_OF,
    Settings,
)
from experiments.common import cli, files, folders
from experiments.common.names import PRECISIONS

RESULTS = "benchmark.json"


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, measure, sum up."""
    arguments = _parser().parse_args(argv)
    settings = Settings(
        tuple(
            dict.fromkeys(name for names in arguments.cells or [DEFAULT_CELLS] for name in names)
        ),
        tuple(sorted({n for numbers in arguments.seeds for n in numbers}))
        if arguments.seeds
        else None,
        arguments.repeats or (5 if arguments.quick else 9),
        arguments.seconds or (0.3 if arguments.quick else 1.0),
        arguments.precision,
        arguments.quick,
    )
    folder = arguments.out or folders.default("benchmark")
    with cli.keeping(folder / RESULTS), folders.claimed(folder):
        try:
            run(settings, folder)
        except BaseException:  # what is left would be in the way of the same command
            if not (folder / RESULTS).exists():
                shutil.rmtree(folder / "traces", ignore_errors=True)
            raise


def run(settings: Settings, folder: Path) -> dict[str, Any]:
    """Measure, write ``RESULTS`` and the pictures into ``folder``, print the table.

    All of it after every network, so that an interruption loses one.
    """
    # Beside PyTorch on one accelerator, JAX must not take all of its memory in advance.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

    import jax

    # So that seconds of compiling are not those of reading a file.
    jax.config.update("jax_enable_compilation_cache", False)

    from experiments.benchmark import measure, pytorch, summary
    from experiments.common import devices, provenance

    devices.make_cpu_devices(pytorch.cores())
    environment = provenance.environment()  # of the code that runs, not of a later commit
    torch_device = None
    if pytorch.importable():
        import torch

        environment["versions"]["torch"] = torch.__version__  # type: ignore[index]
        torch_device = pytorch.device()
        pytorch.set_up(settings.precision)
    precise = (
        contextlib.nullcontext()
        if settings.precision == "bfloat16"
        else jax.default_matmul_precision(settings.precision)
    )
    began = time.perf_counter()
    how = {
        "quick": settings.quick,
        "repeats": settings.repeats,
        "seconds_a_round": settings.seconds,
        "precision": settings.precision,
        "seeds_run": "one after the other (lax.map)"
        if jax.default_backend() == "cpu"
        else "side by side (vmap)",
        "cores": pytorch.cores(),
        "torch_device": None if torch_device is None else str(torch_device),
    }
    cells: dict[str, Any] = {}
    with precise:
        for name in settings.cells:
            cells[name] = measure.measure(name, settings, torch_device, folder)
            how |= {
                "total_seconds": round(time.perf_counter() - began, 1),
                "not_measured": [other for other in settings.cells if other not in cells],
            }
            content = summary.summarize(cells, environment, how)
            _write(content, folder)
    summary.print_table(content, folder)
    return content


def _write(content: dict[str, Any], folder: Path) -> None:
    from experiments.benchmark import plots

    files.write_json(folder / RESULTS, content)
    plots.draw(content, folder / "benchmark.png")
    plots.draw_time_shares(content, folder / "time_shares.png")


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="python -m experiments.benchmark", description=__doc__)
    cell = cli.one_of("cell", tuple(CELLS))
    count = cli.number(int, 1, 10_000)
    add = parser.add_argument
    add(
        "--cells",
        nargs="+",
        type=lambda text: [cell(name) for name in text.split(",")],
        metavar="CELL",
        help=f"{', '.join(CELLS)}; default: {', '.join(DEFAULT_CELLS)}",
    )
    add(
        "--seeds",
        nargs="+",
        type=lambda text: [int(count(number)) for number in text.split(",")],
        metavar="N",
        help=f"how many seeds at once; default: {', '.join(map(str, DEFAULT_SEEDS))} "
        f"(with --quick only for {', '.join(QUICK_SEEDS_OF)}); 1 is always there",
    )
    folders.add_options(parser, "benchmark")
    add(
        "--quick",
        action="store_true",
        help="less of everything: rounds, seeds, rules, steps a call; not the cores as devices",
    )
    add("--repeats", type=count, metavar="N", help="rounds; default 9, with --quick 5")
    add(
        "--seconds",
        type=cli.number(float, 0, 3600, open_low=True),
        metavar="S",
        help="of each way in each round, at least one call; default 1, with --quick 0.3",
    )
    add(
        "--precision",
        type=cli.one_of("precision", PRECISIONS),
        default="float32",
        metavar="P",
        help=f"{', '.join(PRECISIONS)}; default float32; PyTorch's is set alike",
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
