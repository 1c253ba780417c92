"""What streaming costs: images per second streamed from disk, beside the same images in memory.

    python -m experiments.streaming_speed                  # MNIST- and CIFAR-sized, some minutes
    python -m experiments.streaming_speed --cells conv --repeats 9 --out DIR

Each cell trains a network on random images (speed does not depend on what they show), in memory and
mapped from a file (``qagrel_jax.data.streaming``), in alternating epochs, after one of each that
compiles; both in chunks of ten steps, so that an epoch here is many, as it is with large data. The
figure is the median over repeats of time in memory / time streamed in the same repeat: 1 means that
streaming is free. The file is in the operating system's cache; a disk that delivers less than the
network consumes would show. Both end in the same parameters, bit for bit, or the command fails. DIR
gets streaming_speed.json.
"""

import contextlib
import statistics
import tempfile
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from experiments.common import cli, files, folders, interrupts, provenance
from experiments.common.cli import UserError


class Cell(NamedTuple):
    """One network and the images it sees."""

    architecture: str
    shape: tuple[int, int, int]
    images: int
    seeds: int


CELLS = {
    "dense": Cell("dense", (28, 28, 1), 6_400, 1),
    "dense_seeds": Cell("dense", (28, 28, 1), 1_920, 4),
    "conv": Cell("conv", (32, 32, 3), 640, 1),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, measure, print a table."""
    parser = cli.Parser(prog="python -m experiments.streaming_speed", description=__doc__)
    parser.add_argument(
        "--cells",
        type=cli.several(cli.one_of("cell", tuple(CELLS))),
        default=tuple(CELLS),
        metavar="NAME[,NAME]",
        help=f"default: {','.join(CELLS)}",
    )
    parser.add_argument(
        "--repeats",
        type=cli.number(int, 1, 1000),
        default=5,
        metavar="N",
        help="repeats measured (default: 5)",
    )
    parser.add_argument(
        "--out",
        type=cli.path,
        metavar="DIR",
        help="where the figures go (default: they are only printed)",
    )
    arguments = parser.parse_args(argv)
    claimed = folders.claimed(arguments.out) if arguments.out else contextlib.nullcontext()
    results: dict[str, Any] = {}

    def what() -> str:
        return "what was measured is printed above" if results else "nothing was measured"

    with cli.interrupted_says(what), claimed:
        _measure_all(arguments, results)


def _measure_all(arguments: Any, results: dict[str, Any]) -> None:
    environment = provenance.environment()
    print(f"{'images/s':12} {'in memory':>12} {'streamed':>12}  streamed / in memory")
    for name in arguments.cells:
        found = results[name] = measure(CELLS[name], arguments.repeats)
        print(
            f"{name:12} {found['resident_images_per_second']:12,.0f} "
            f"{found['streamed_images_per_second']:12,.0f} {found['streamed_over_resident']:20.3f}",
            flush=True,
        )
        if arguments.out:
            left = [name for name in arguments.cells if name not in results]
            content = {"results": results, "not_measured": left, "repeats": arguments.repeats}
            files.write_json(arguments.out / "streaming_speed.json", content | environment)


def measure(cell: Cell, repeats: int) -> dict[str, Any]:
    """Train on images in memory and on streamed ones, alternating.

    Returns:
      Median images per second (of all seeds together) either way, and the median of the ratios.
    """
    import jax.numpy as jnp
    import numpy as np

    from qagrel_jax.data import streaming
    from qagrel_jax.training import fitting

    random = np.random.default_rng(0)
    labels = random.integers(0, 10, cell.images).astype(np.int32)
    with tempfile.TemporaryFile() as file:
        mapped = np.memmap(file, np.uint8, "w+", shape=(cell.images, *cell.shape))
        mapped[:] = random.integers(0, 256, mapped.shape, np.uint8)
        seconds = _alternate(
            cell,
            repeats,
            in_memory=fitting.Examples(jnp.asarray(np.array(mapped)), labels),
            streamed=fitting.Examples(streaming.HostImages(mapped), labels),
        )
    seen = cell.images // 128 * 128 * cell.seeds
    pairs = zip(seconds["in_memory"], seconds["streamed"], strict=True)
    return {
        "resident_images_per_second": seen / statistics.median(seconds["in_memory"]),
        "streamed_images_per_second": seen / statistics.median(seconds["streamed"]),
        "streamed_over_resident": statistics.median(m / s for m, s in pairs),
        "architecture": cell.architecture,
        "image_shape": list(cell.shape),
        "images": cell.images,
        "seeds": cell.seeds,
    }


def _alternate(cell: Cell, repeats: int, **sources: Any) -> dict[str, list[float]]:
    """Train an epoch on each of ``sources``, alternating; return the seconds of each, by name.

    Raises:
      UserError: the parameters at the end differ.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    from qagrel_jax import networks, rules, training
    from qagrel_jax.random_keys import root_keys
    from qagrel_jax.training import fitting

    trainer = training.make_trainer(
        rules.q_agrel(),
        networks.make_network(cell.architecture, 10),
        optax.sgd(0.01),
        image_shape=cell.shape,
        num_classes=10,
    )
    few = fitting.Examples(np.zeros((10, *cell.shape), np.uint8), np.arange(10, dtype=np.int32))
    keys = root_keys(jnp.arange(cell.seeds))
    epochs = {
        name: fitting.fit(
            trainer,
            fitting.start(trainer, keys),
            examples,
            few,
            epochs=repeats + 1,
            patience=repeats + 1,
            chunk_steps=10,
        )
        for name, examples in sources.items()
    }
    runs: dict[str, fitting.Fit] = {}
    seconds: dict[str, list[float]] = {name: [] for name in sources}
    for repeat in range(repeats + 1):
        for name in sources:
            interrupts.check()
            began = time.perf_counter()
            runs[name], _ = next(epochs[name])
            if repeat:  # the first compiles
                seconds[name].append(time.perf_counter() - began)
    for a, b in zip(*(jax.tree.leaves(run.states.params) for run in runs.values()), strict=True):
        if not (a == b).all():
            raise UserError("streamed images and those in memory gave different parameters")
    return seconds


if __name__ == "__main__":
    cli.run(main)
