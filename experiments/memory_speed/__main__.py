"""How many trials a second do many AuGMEnT networks learn from, compiled and in plain NumPy?

    python -m experiments.memory_speed             # 1, 100, 1,000 and 10,000 networks; minutes
    python -m experiments.memory_speed --quick     # a short trial run: 1 and 100 networks
    python -m experiments.memory_speed --networks 128,1024 --repeats 9 --out DIR

Both learn the saccade task. ``qagrel_jax`` is the program of ``experiments.working_memory``,
criterion and packing included; ``numpy`` is ``experiments.memory_speed.numpy_baseline``, which
keeps no criterion.
Both start from the same networks, which have learned for some thousand trials, so that trials are
as long as they mostly are in a run; they keep learning while they are timed, and none converges.
Repeats of the two alternate. The first chunk of each, in which XLA compiles, is timed separately.

DIR gets memory_speed.json and memory_speed.png; if it is interrupted, with the repeats that were
finished.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.common import cli, files, folders

# In memory_speed.json a "turn" is a chunk of steps, a "piece" a timed repeat.

RESULTS = "memory_speed.json"
FULL: dict[str, Any] = {"networks": (1, 100, 1000, 10_000), "repeats": 7, "first_chunks": 40}
QUICK: dict[str, Any] = {"networks": (1, 100), "repeats": 3, "first_chunks": 4}
NETWORK_STEPS = 1_000_000
"""Steps of all networks in a timed repeat, about; in 1 to ``MOST_CHUNKS`` chunks."""
MOST_CHUNKS = 20
TRAINED = 128
"""Networks that learn beforehand; larger populations hold copies of them."""


Implementation = tuple[Callable[[], None], Callable[[], int]]
"""``(learn for another chunk, count the trials)``."""


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, time, write."""
    arguments = _parser().parse_args(argv)
    folder = arguments.out or folders.default("memory_speed")
    with cli.keeping(folder / RESULTS), folders.claimed(folder):
        _measure_all(arguments, folder)


def _measure_all(arguments: Any, folder: Path) -> None:
    from experiments.common import provenance
    from experiments.working_memory import plots  # slow to import

    environment = provenance.environment()
    given = {name: getattr(arguments, name) for name in ("networks", "repeats")}
    how = (QUICK if arguments.quick else FULL) | {k: v for k, v in given.items() if v is not None}
    content = {
        "task": "saccade",
        "seed": arguments.seed,
        "turns_learned_beforehand": how["first_chunks"],
        "trials_per_second_are": "ended training trials of all networks together over wall seconds;"
        " median of the repeats, the first chunk left out",
        **environment,
    }

    def write(rows: list[dict[str, Any]]) -> None:
        files.write_json(folder / RESULTS, content | {"rows": rows})
        plots.speed(folder / "memory_speed.png", content | {"rows": rows})

    rows = measure(how["networks"], how["repeats"], how["first_chunks"], arguments.seed, write)
    _print(rows, folder)


def measure(
    sizes: Sequence[int],
    repeats: int,
    first_chunks: int,
    seed: int = 0,
    on_repeat: Callable[[list[dict[str, Any]]], None] | None = None,
) -> list[dict[str, Any]]:
    """Time both implementations at every size; return a row for each size.

    Args:
      sizes: networks.
      repeats: timed repeats of each.
      first_chunks: chunks that the networks learn beforehand.
      seed: of all random numbers.
      on_repeat: called after every repeat with the rows as they are.
    """
    import jax

    from experiments.common.progress import Reporter
    from qagrel_jax.population.packing import Packed
    from qagrel_jax.random_keys import root_key

    key = root_key(seed)
    with Reporter("memory_speed", len(sizes) * (repeats + 1)) as reporter:
        reporter.update(0, f"{TRAINED} networks learn beforehand", important=True)
        trained: Packed = _population(TRAINED, jax.random.fold_in(key, 0))
        for _ in range(first_chunks):
            trained.advance()
        weights = trained.networks.learner.weights

        pairs: list[dict[str, Implementation]] = []
        rows: list[dict[str, Any]] = []
        for size in sizes:
            pairs.append(_start(size, weights, jax.random.fold_in(key, 1), seed, trained.steps))
            row: dict[str, Any] = {"networks": size, "steps_a_turn": trained.steps}
            row |= {
                name: {"first_turn_seconds": _timed(*one, 1)["seconds"], "pieces": []}
                for name, one in pairs[-1].items()
            }
            rows.append(row)
            reporter.update(len(rows), f"{size:,} networks have run their first chunk")
        for repeat in range(repeats):
            for size, pair, row in zip(sizes, pairs, rows, strict=True):
                chunks = max(1, min(MOST_CHUNKS, NETWORK_STEPS // (size * trained.steps)))
                for name, one in pair.items():
                    row[name]["pieces"].append(_timed(*one, chunks))
                done = len(sizes) + repeat * len(sizes) + sizes.index(size) + 1
                reporter.update(done, f"repeat {repeat + 1}, {size:,} networks")
                _sum_up(row)
            if on_repeat:
                on_repeat(rows)
        reporter.finish("", "done")
    return rows


def _population(size: int, key: Any) -> Any:
    import dataclasses

    import numpy as np

    from experiments.working_memory.config import MemoryConfig
    from experiments.working_memory.run import make_setup
    from qagrel_jax.population.packing import Packed

    setup = make_setup(MemoryConfig("saccade", size))
    # An accuracy that no exploring network has over 200 trials: nobody converges, or is tested.
    criterion = dataclasses.replace(setup.criterion, accuracy=1.0, max_trials=2**31 - 1)
    setup = dataclasses.replace(setup, criterion=criterion)
    config = setup.config
    return Packed(setup, key, np.full(size, config.learning_rate), np.full(size, config.tag_decay))


def _start(size: int, weights: Any, key: Any, seed: int, steps: int) -> dict[str, Implementation]:
    """Both implementations with these weights: ``(learn for a chunk, count the trials)``."""
    import jax
    import numpy as np

    from experiments.memory_speed import numpy_baseline

    copies = jax.tree.map(lambda w: w[..., np.arange(size) % w.shape[-1]], weights)
    packed = _population(size, key)
    learner = packed.networks.learner._replace(weights=jax.tree.map(np.copy, copies))
    packed.networks = packed.networks._replace(learner=learner)
    plain = numpy_baseline.Population(copies, seed)
    return {
        "qagrel_jax": (packed.advance, lambda: int(packed.networks.progress.trials.sum())),
        "numpy": (lambda: plain.advance(steps), lambda: plain.trials),
    }


def _timed(advance: Callable[[], None], trials: Callable[[], int], chunks: int) -> dict[str, float]:
    before, cpu, wall = trials(), time.process_time(), time.perf_counter()
    for _ in range(chunks):
        advance()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"turns": chunks, "seconds": wall, "cpu_seconds": cpu, "trials": trials() - before}


def _sum_up(row: dict[str, Any]) -> None:
    """Add medians over the repeats, in place; the ratio is the median of the pairs' ratios."""
    rates = {}
    for name in ("qagrel_jax", "numpy"):
        repeats = row[name]["pieces"]
        rates[name] = [one["trials"] / one["seconds"] for one in repeats]
        steps = [row["networks"] * row["steps_a_turn"] * p["turns"] / p["seconds"] for p in repeats]
        busy = [one["cpu_seconds"] / one["seconds"] for one in repeats]
        row[name]["trials_per_second"] = statistics.median(rates[name])
        row[name]["network_steps_per_second"] = statistics.median(steps)
        row[name]["cores_busy"] = statistics.median(busy)
    ratios = [a / b for a, b in zip(rates["qagrel_jax"], rates["numpy"], strict=True)]
    row["qagrel_jax_over_numpy"] = statistics.median(ratios)


def _print(rows: list[dict[str, Any]], folder: Path) -> None:
    print("trials a second, all networks together (median)")
    for row in rows:
        ours, theirs = row["qagrel_jax"], row["numpy"]
        print(
            f"{row['networks']:>7,} networks: qagrel_jax {ours['trials_per_second']:>9,.0f}, "
            f"numpy {theirs['trials_per_second']:>9,.0f}, ratio {row['qagrel_jax_over_numpy']:.2f}"
        )
    print(f"everything is in {folder}")


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="python -m experiments.memory_speed", description=__doc__)
    add = parser.add_argument
    add(
        "--networks",
        type=cli.several(cli.number(int, 1, 1_000_000)),
        metavar="N[,N]",
        help=f"default {','.join(map(str, FULL['networks']))}",
    )
    add(
        "--repeats",
        type=cli.number(int, 1, 1000),
        metavar="R",
        help=f"timed repeats of each implementation at each size; default {FULL['repeats']}",
    )
    add("--seed", type=cli.number(int, 0, 2**31 - 1), default=0, metavar="S", help="default 0")
    add("--quick", action="store_true", help="a short trial run: 1 and 100 networks, 3 repeats")
    folders.add_options(parser, "memory_speed")
    return parser


if __name__ == "__main__":
    cli.run(main)
