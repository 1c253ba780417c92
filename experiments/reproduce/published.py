"""The cells of the papers, in the order they are run and reported, and what was published of them.

Pozzi, Bohté & Roelfsema (2018, arXiv:1811.01768; 2020, NeurIPS 33): Q-AGREL, mean (sd) of 10
seeds, best epoch picked on the test set, as the authors' published code reports them. A cell
without an entry is one whose figure we could not read, not one that was not run.
"""

from typing import NamedTuple


class Published(NamedTuple):
    """Accuracy in per cent and epochs, each mean and sd over ten seeds; None: not known to us."""

    accuracy: float
    accuracy_sd: float
    epochs: float | None = None
    epochs_sd: float | None = None


CELLS: dict[str, Published | None] = {
    "mnist_dense": Published(98.68, 0.07),
    "mnist_conv": Published(99.31, 0.04, 63, 18),
    "mnist_locally_connected": None,
    "cifar10_conv": None,
    "cifar10_locally_connected": None,
    "cifar10_deep": Published(88.88, 0.27, 105, 4),
    "cifar100_conv": None,
    "cifar100_locally_connected": None,
    "cifar100_deep": Published(59.58, 0.46, 218, 22),
    "tiny_imagenet100_conv": None,
    "tiny_imagenet100_deep": None,
    "tiny_imagenet_deep": Published(47.50, 1.30, 328, 75),
}
