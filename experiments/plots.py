"""Every picture of the project. Axes named with units, legible in grey and to colour-blind readers."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

# Okabe & Ito's colour-blind-safe palette; line styles differ too, for print in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))

STYLE = {
    "figure.dpi": 150,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


@contextmanager
def figure(path: Path, width: float = 6.0, height: float = 4.0, **grid: int) -> Iterator[tuple]:
    """Yield ``(figure, axes)`` in the project's style; on leaving, write ``path`` as PNG."""
    with plt.rc_context(STYLE):
        drawing, axes = plt.subplots(figsize=(width, height), **grid)
        yield drawing, axes
        save(drawing, path)


def save(drawing: Figure, path: Path) -> None:
    """Write ``drawing`` to ``path`` and free its memory."""
    drawing.savefig(path)
    plt.close(drawing)
