"""How long a training image takes, from results that are stored: a plan answers without computing.

The epochs of the cells that were run (``timings.jsonl``) tell it of themselves, the benchmark of
the rest; a cell that neither has takes as long as one of the same network, pixel for pixel.
"""

import statistics
from pathlib import Path
from typing import NamedTuple

from experiments import config as configs
from experiments.common import files
from experiments.config import Config

RESULTS = Path(__file__).resolve().parents[1] / "results"


class Images(NamedTuple):
    """A data set, as far as it decides how long an epoch takes."""

    train: int
    size: int  # pixels a side


IMAGES = {
    "mnist": Images(60_000, 28),
    "fashion_mnist": Images(60_000, 28),
    "cifar10": Images(50_000, 32),
    "cifar100": Images(50_000, 32),
    "tiny_imagenet100": Images(50_000, 32),
    "tiny_imagenet": Images(100_000, 64),
}


class Stored(NamedTuple):
    """What is known of a network on images of a size."""

    device: str
    seconds_an_image: float  # of one seed


def read(results: Path = RESULTS) -> dict[tuple[str, int], Stored]:
    """Return seconds an image by (architecture, pixels a side)."""
    found = {}
    benchmark = files.read_json(results / "benchmark" / "benchmark.json") or {}
    for cell in benchmark.get("cells", {}).values():
        speed = cell["subjects"]["q_agrel"]["images_per_second"]
        key = (cell["architecture"], cell["image_shape"][0])
        found[key] = Stored(benchmark["device"], 1 / speed)
    for path in sorted(results.glob("cells/*/*/timings.jsonl")):
        config = configs.saved(path.parent)
        lines = files.read_metrics(path.parent, path.name, ("seconds", "images"))
        if config.dataset in IMAGES and lines:
            seconds = statistics.median(line["seconds"] / line["images"] for line in lines)
            device = files.first_environment(path.parent)["device"]
            found[config.architecture, IMAGES[config.dataset].size] = Stored(device, seconds)
    return found


def epoch(config: Config, stored: dict[tuple[str, int], Stored]) -> tuple[float, str] | None:
    """Return the seconds of an epoch of one rule, all seeds, and the device; None if not known."""
    if config.dataset not in IMAGES:
        return None
    images, size = IMAGES[config.dataset]
    alike = [key for key in stored if key[0] == config.architecture]
    if not alike or config.hidden is not None:
        return None
    nearest = min(alike, key=lambda key: abs(key[1] - size))
    device, seconds = stored[nearest]
    seen = config.epoch_of(config.trained(images))[1]
    return seen * config.seeds * seconds * (size / nearest[1]) ** 2, device
