"""How fast training runs: against backprop, against PyTorch, against the bare products.

    python -m experiments.benchmark                      # the four networks, 1 to 10 seeds
    python -m experiments.benchmark --quick              # less of it, in less than four minutes
    python -m experiments.benchmark --cells conv,deep --seeds 1,10 --out DIR

Run it on a machine that does nothing else. In one process, after everything is compiled and warm,
each round times every way of training a network once; ratios are taken within rounds.

Cells: dense (MNIST's shape), conv, locally_connected, deep (CIFAR10's shape), each with its paper
configuration; mnist_conv and mnist_locally_connected on request; digits, small, to try the command.
All train on random images, so no data set is needed. PyTorch is timed if it can be imported.

Then JAX's profiler watches a few calls of each network, to say which kind of work takes how long.

DIR gets benchmark.json, benchmark.png, time_shares.png and, for Perfetto or TensorBoard, traces/;
tables are printed.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments import config as configs
from experiments.common import cli, files, folders


class Cell(NamedTuple):
    """A network to be timed."""

    config: str  # its configuration in experiments/configs
    image_shape: tuple[int, int, int]
    steps: int  # in one compiled call on CPU; each call also copies the weights in and out


CELLS = {
    "dense": Cell("mnist_dense", (28, 28, 1), 30),
    "conv": Cell("cifar10_conv", (32, 32, 3), 8),
    "locally_connected": Cell("cifar10_locally_connected", (32, 32, 3), 16),
    "deep": Cell("cifar10_deep", (32, 32, 3), 2),
    "mnist_conv": Cell("mnist_conv", (28, 28, 1), 8),
    "mnist_locally_connected": Cell("mnist_locally_connected", (28, 28, 1), 16),
    "digits": Cell("digits", (8, 8, 1), 50),
}
DEFAULT_CELLS = ("dense", "conv", "locally_connected", "deep")
DEFAULT_SEEDS = (1, 2, 5, 10)
PROFILED_CALLS = 3
QUICK_SEEDS_OF = ("dense",)
"""With --quick, only here are several seeds timed unless --seeds asks for them."""


class Settings(NamedTuple):
    """What the options say."""

    cells: tuple[str, ...]
    seeds: tuple[int, ...] | None
    repeats: int
    seconds: float  # of a subject in a round, at least one call
    precision: str
    quick: bool


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
    with cli.interrupted_says("nothing was written"), folders.claimed(folder):
        try:
            run(settings, folder)
        except KeyboardInterrupt:
            shutil.rmtree(folder / "traces", ignore_errors=True)
            raise


def run(settings: Settings, folder: Path) -> dict[str, Any]:
    """Measure, write ``benchmark.json`` and ``benchmark.png`` into ``folder``, print the table."""
    # Beside PyTorch on one accelerator, JAX must not take all of its memory in advance.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

    import jax

    # So that seconds of compiling are not those of reading a file.
    jax.config.update("jax_enable_compilation_cache", False)

    from experiments.benchmark import pytorch as benchmark_torch
    from experiments.benchmark import summary as benchmark_summary
    from experiments.common import devices as distributed
    from experiments.common import provenance

    distributed.make_cpu_devices(benchmark_torch.cores())
    environment = provenance.environment()  # of the code that runs, not of a later commit
    torch_device = None
    if benchmark_torch.importable():
        import torch

        environment["versions"]["torch"] = torch.__version__  # type: ignore[index]
        torch_device = benchmark_torch.device()
        benchmark_torch.set_up(settings.precision)
    precise = (
        contextlib.nullcontext()
        if settings.precision == "bfloat16"
        else jax.default_matmul_precision(settings.precision)
    )
    began = time.perf_counter()
    with precise:
        cells = {name: measure(name, settings, torch_device, folder) for name in settings.cells}
    content = benchmark_summary.summarise(
        cells,
        environment,
        {
            "quick": settings.quick,
            "repeats": settings.repeats,
            "seconds_a_round": settings.seconds,
            "precision": settings.precision,
            "seeds_run": "one after the other (lax.map)"
            if jax.default_backend() == "cpu"
            else "side by side (vmap)",
            "cores": benchmark_torch.cores(),
            "torch_device": None if torch_device is None else str(torch_device),
            "total_seconds": round(time.perf_counter() - began, 1),
        },
    )
    files.write_json(folder / "benchmark.json", content)

    from experiments.benchmark import plots as benchmark_plots

    benchmark_plots.draw(content, folder / "benchmark.png")
    benchmark_plots.draw_time_shares(content, folder / "time_shares.png")
    benchmark_summary.print_table(content, folder)
    return content


def measure(name: str, settings: Settings, torch_device: Any, folder: Path) -> dict[str, Any]:
    """Time every way of training the cell ``name``, then watch Q-AGREL's with the profiler.

    Returns:
      What ``benchmark_summary.summarise`` takes for one cell.
    """
    import jax.numpy as jnp

    from experiments.benchmark import cells as benchmark_cells
    from experiments.benchmark import profile as benchmark_profile
    from experiments.benchmark import pytorch as benchmark_torch
    from experiments.benchmark import roofline as benchmark_roofline
    from experiments.benchmark import timing as benchmark_timing
    from experiments.common.progress import Reporter

    cell = CELLS[name]
    # Random images and labels teach nothing; at the recipe's rate some networks diverge on them.
    changes = {"precision": settings.precision, "learning_rate": 1e-4}
    config = configs.replace(configs.load(cell.config), changes)
    seeds = settings.seeds or (
        (1,) if settings.quick and name not in QUICK_SEEDS_OF else DEFAULT_SEEDS
    )
    plan = [("q_agrel", 1), ("backprop", 1), *(("q_agrel", n) for n in seeds if n > 1)]
    torch_rules = ("q_agrel", "backprop")[: 1 if settings.quick else 2] if torch_device else ()
    meshes = [] if settings.quick else benchmark_cells.meshes_of_cores(config.batch_size)
    steps = max(2, cell.steps // 4) if settings.quick else cell.steps
    preparations = 2 + len(plan) + len(meshes) + len(torch_rules)
    with Reporter(name, preparations + settings.repeats) as reporter:
        subjects, calls, high_water, memory_format = [], [], {}, None

        def add(subject: benchmark_timing.Subject) -> None:
            benchmark_cells.reset_high_water()
            calls.append(benchmark_timing.warm_up(subject, settings.seconds))
            high_water[subject.name] = benchmark_cells.high_water()
            subjects.append(subject)

        reporter.update(0, "compiling the network", important=True)
        bench = benchmark_cells.Bench(config, cell.image_shape, steps)
        for rule, count in plan:
            reporter.update(1 + len(subjects), f"compiling {rule}, {count} seed{'s' * (count > 1)}")
            add(bench.subject(rule, count))
        for mesh in meshes:
            what = "a seed a core" if mesh.shape["seeds"] > 1 else "the batch over the cores"
            reporter.update(1 + len(subjects), f"compiling q_agrel, {what}")
            add(bench.subject("q_agrel", mesh.shape["seeds"], mesh))
        if torch_rules:
            reporter.update(1 + len(subjects), "PyTorch, which memory format")
            side = benchmark_torch.Side(
                config,
                bench.dataset.train_images,
                bench.dataset.train_labels,
                bench.rows(1)[0],
                bench.dataset.num_classes,
                torch_device,
            )
            memory_format = side.memory_format
        for rule in torch_rules:
            reporter.update(1 + len(subjects), f"PyTorch, {rule}")
            add(side.subject(rule))
        layers = benchmark_roofline.network_layers(
            bench.network, cell.image_shape, config.batch_size
        )
        add(
            benchmark_roofline.subject(
                layers,
                bench.steps,
                jnp.bfloat16 if settings.precision == "bfloat16" else jnp.float32,
                lambda done, of: reporter.update(
                    1 + len(subjects), f"bare products, {done} of {of}"
                ),
            )
        )
        seconds = benchmark_timing.interleave(
            subjects,
            calls,
            settings.repeats,
            lambda done: reporter.update(
                preparations + done, f"round {done} of {settings.repeats}"
            ),
        )
        reporter.update(preparations + settings.repeats, "the profiler")
        profile = benchmark_profile.profile(subjects[0], PROFILED_CALLS, folder / "traces" / name)
        reporter.finish("", "done")
    return {
        "config": cell.config,
        "architecture": config.architecture,
        "image_shape": list(cell.image_shape),
        "batch_size": config.batch_size,
        "steps_a_call": bench.steps,
        "flop_per_step": sum(layer.flop(first=i == 0) for i, layer in enumerate(layers)),
        "torch_memory_format": memory_format,
        "init_compile_seconds": bench.init_seconds,
        "profile": profile,
        "subjects": {
            subject.name: {
                "seconds_per_step": seconds[subject.name],
                "images_per_step": subject.images_per_step,
                "calls_a_round": count,
                "compile_seconds": subject.compile_seconds,
                "program_bytes": subject.program_bytes,
                "process_high_water_bytes": high_water[subject.name].process,
                "device_high_water_bytes": high_water[subject.name].device,
            }
            for subject, count in zip(subjects, calls, strict=True)
        },
    }


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
    add("--out", type=cli.path, metavar="DIR", help="default: runs/benchmark-TIME")
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
        type=cli.one_of("precision", configs.PRECISIONS),
        default="float32",
        metavar="P",
        help=f"{', '.join(configs.PRECISIONS)}; default float32; PyTorch's is set alike",
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
