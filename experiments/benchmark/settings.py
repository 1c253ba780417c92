"""What the benchmark times: its cells, and what the options say."""

from typing import NamedTuple


class Cell(NamedTuple):
    """A network to be timed."""

    config: str  # its configuration in experiments/configs
    image_shape: tuple[int, int, int]
    steps: int  # in one compiled call on CPU


CELLS = {
    "dense": Cell("mnist_dense", (28, 28, 1), 30),
    "conv": Cell("cifar10_conv", (32, 32, 3), 24),
    "locally_connected": Cell("cifar10_locally_connected", (32, 32, 3), 48),
    "deep": Cell("cifar10_deep", (32, 32, 3), 8),
    "mnist_conv": Cell("mnist_conv", (28, 28, 1), 24),
    "mnist_locally_connected": Cell("mnist_locally_connected", (28, 28, 1), 48),
    "digits": Cell("digits", (8, 8, 1), 50),
}
"""A call takes fresh memory (``deep`` half a gigabyte, a tenth of a second) and copies weights in
and out: with so many steps a small part of it, as in training, which makes 100 steps a call."""

DEFAULT_CELLS = ("dense", "conv", "locally_connected", "deep")
DEFAULT_SEEDS = (1, 2, 5, 10)
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
