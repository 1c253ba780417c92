"""One cell measured: compile, warm up, time in rounds, then watch with the profiler."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.sharding import Mesh

from experiments import config as configs
from experiments.benchmark import cells, profile, pytorch, roofline, timing
from experiments.benchmark.settings import CELLS, DEFAULT_SEEDS, QUICK_SEEDS_OF, Cell, Settings
from experiments.common import display
from experiments.common.progress import Reporter
from experiments.config import Config

PROFILED_CALLS = 3


class Plan(NamedTuple):
    """What is timed in one cell, beside the matmul roofline."""

    steps: int  # in one compiled call
    runs: tuple[tuple[str, int], ...]  # (rule, seeds) on one device
    meshes: tuple[Mesh, ...]  # of the cores, for Q-AGREL
    torch_rules: tuple[tuple[str, bool], ...]  # (rule, through torch.compile)

    @property
    def preparations(self) -> int:
        """How many steps of progress it takes until the first round."""
        return 2 + len(self.runs) + len(self.meshes) + len(self.torch_rules)


class Warm:
    """Subjects that are compiled and warm, with the peak memory that each has needed."""

    def __init__(self, seconds: float, reporter: Reporter) -> None:
        self.subjects: list[timing.Subject] = []
        self.calls: list[int] = []  # of each in a round
        self.peak: dict[str, cells.PeakMemory] = {}
        self._seconds, self._reporter = seconds, reporter

    def add(self, subject: timing.Subject) -> None:
        """Warm ``subject`` up."""
        cells.reset_peak_memory()
        self.calls.append(timing.warm_up(subject, self._seconds))
        self.peak[subject.name] = cells.peak_memory()
        self.subjects.append(subject)

    def report(self, state: str) -> None:
        """Say what is being prepared."""
        self._reporter.update(1 + len(self.subjects), state)


def measure(name: str, settings: Settings, torch_device: Any, folder: Path) -> dict[str, Any]:
    """Time every way of training the cell ``name``, then watch Q-AGREL's with the profiler.

    Args:
      name: of the cell.
      settings: what the options say.
      torch_device: PyTorch's; None: without PyTorch.
      folder: gets the profiler's trace, below ``traces``.

    Returns:
      What ``summary.summarize`` takes for one cell.
    """
    cell = CELLS[name]
    # Random images and labels teach nothing; at the recipe's rate some networks diverge on them.
    changes = {"precision": settings.precision, "learning_rate": 1e-4}
    config = configs.replace(configs.load(cell.config), changes)
    compiled = torch_device is not None and not settings.quick and pytorch.compiles(torch_device)
    plan = make_plan(name, settings, config, with_torch=torch_device is not None, compiled=compiled)
    with Reporter(name, plan.preparations + settings.repeats) as reporter:
        reporter.update(0, "compiling the network", important=True)
        bench = cells.Bench(config, cell.image_shape, plan.steps)
        layers = roofline.network_layers(bench.network, cell.image_shape, config.batch_size)
        warm = Warm(settings.seconds, reporter)
        for subject in _jax_subjects(bench, plan, warm):
            warm.add(subject)
        side: Any = _torch_side(bench, torch_device, warm) if plan.torch_rules else None
        for rule, through_compile in plan.torch_rules:
            warm.report(f"PyTorch, {rule}{', compiling' * through_compile}")
            warm.add(side.subject(rule, through_compile))
        warm.add(_roofline_subject(layers, bench.steps, settings.precision, warm))
        seconds = timing.interleave(
            warm.subjects,
            warm.calls,
            settings.repeats,
            lambda done: reporter.update(
                plan.preparations + done, f"round {done} of {settings.repeats}"
            ),
        )
        reporter.update(plan.preparations + settings.repeats, "the profiler")
        watched = profile.profile(warm.subjects[0], PROFILED_CALLS, folder / "traces" / name)
        reporter.finish("", "done")
    return {
        **_describe(cell, config, bench),
        "flop_per_step": sum(layer.flop(first=i == 0) for i, layer in enumerate(layers)),
        "torch_memory_format": side.memory_format if side else None,
        "profile": watched,
        "subjects": _timings(warm, seconds),
    }


def make_plan(
    name: str, settings: Settings, config: Config, *, with_torch: bool, compiled: bool = False
) -> Plan:
    """Say what is timed in the cell ``name``; less of it with ``--quick``.

    Args:
      name: of the cell.
      settings: what the options say.
      config: of the cell.
      with_torch: PyTorch is there.
      compiled: its networks are timed compiled, too.
    """
    steps, quick = CELLS[name].steps, settings.quick
    seeds = settings.seeds or ((1,) if quick and name not in QUICK_SEEDS_OF else DEFAULT_SEEDS)
    several = tuple(("q_agrel", n) for n in seeds if n > 1)
    rules = ("q_agrel",) if quick else ("q_agrel", "backprop")
    torch_rules = tuple(
        (rule, c) for c in ((False, True) if compiled else (False,)) for rule in rules
    )
    return Plan(
        steps=max(2, steps // 4) if quick else steps,
        runs=(("q_agrel", 1), ("backprop", 1), *several),
        meshes=() if quick else tuple(cells.meshes_of_cores(config.batch_size)),
        torch_rules=torch_rules if with_torch else (),
    )


def _jax_subjects(bench: cells.Bench, plan: Plan, warm: Warm) -> Iterator[timing.Subject]:
    for rule, count in plan.runs:
        warm.report(f"compiling {rule}, {display.counted(count, 'seed')}")
        yield bench.subject(rule, count)
    for mesh in plan.meshes:
        seeds = mesh.shape["seeds"]
        what = "a seed a core" if seeds > 1 else "the batch over the cores"
        warm.report(f"compiling q_agrel, {what}")
        yield bench.subject("q_agrel", seeds, mesh)


def _torch_side(bench: cells.Bench, device: Any, warm: Warm) -> Any:
    warm.report("PyTorch, which memory format")
    dataset = bench.dataset
    return pytorch.Side(
        bench.config,
        dataset.train_images,
        dataset.train_labels,
        bench.rows(1)[0],
        dataset.num_classes,
        device,
    )


def _roofline_subject(layers: list[Any], steps: int, precision: str, warm: Warm) -> timing.Subject:
    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    return roofline.subject(
        layers, steps, dtype, lambda done, of: warm.report(f"matmul roofline, {done} of {of}")
    )


def _describe(cell: Cell, config: Config, bench: cells.Bench) -> dict[str, Any]:
    return {
        "config": cell.config,
        "architecture": config.architecture,
        "image_shape": list(cell.image_shape),
        "batch_size": config.batch_size,
        "steps_a_call": bench.steps,
        "init_compile_seconds": bench.init_seconds,
    }


def _timings(warm: Warm, seconds: dict[str, list[float]]) -> dict[str, Any]:
    return {
        subject.name: {
            "seconds_per_step": seconds[subject.name],
            "images_per_step": subject.images_per_step,
            "calls_a_round": count,
            "compile_seconds": subject.compile_seconds,
            "program_bytes": subject.program_bytes,
            "process_high_water_bytes": warm.peak[subject.name].process,
            "device_high_water_bytes": warm.peak[subject.name].device,
        }
        for subject, count in zip(warm.subjects, warm.calls, strict=True)
    }
