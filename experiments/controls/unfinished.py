"""A setting that was not trained to its end: its learners and its curves, to resume."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments import config as configs
from experiments.common import files, saved
from experiments.common.cli import UserError
from experiments.train.angles import FEEDBACK, UPDATE
from qagrel_jax.training import Fit

SECONDS_BETWEEN = 60
"""No more often is a checkpoint written: a control has many short settings."""

BY_EPOCH = ("validation_accuracy", "class_accuracy", "active_classes")
BY_LAYER = (UPDATE, FEEDBACK)
"""By layer and then by epoch, from before learning on."""


class Unfinished:
    """The one setting of a control's folder that is being trained."""

    def __init__(self, folder: Path) -> None:
        self._curves = folder / "unfinished.json"
        self._learners = folder / "checkpoint_unfinished.msgpack"
        self._saved = time.monotonic()

    def load(self, label: str, start: Fit, line: dict[str, Any]) -> tuple[Fit, float]:
        """Return the learners of ``label`` (``start`` if none were kept) and their seconds so far.

        The curves of ``line`` become those of the epochs that the learners have done.
        """
        self._saved = time.monotonic()
        if not (self._curves.is_file() and self._learners.is_file()):
            return start, 0.0
        try:
            kept = json.loads(self._curves.read_bytes())
            if kept["label"] != label or configs.as_now(kept["config"]) != line["config"]:
                self.clear()  # or a kill between the two files of ``label`` would pair them wrongly
                return start, 0.0
            kept_epochs = min(_epochs(kept["curves"]))
            whole = kept["curves"].keys() == line.keys() & {*BY_EPOCH, *BY_LAYER}
            if not (whole and kept["seconds"] >= 0):
                return start, 0.0
        except (ValueError, KeyError, TypeError, AttributeError, UserError):
            # Damaged: from the beginning.
            return start, 0.0
        run = saved.load(self._learners, start, {"label": label})
        if run is None:
            return start, 0.0
        epochs = int(run.epoch)
        # The curves are written first, so that they are never behind the learners.
        if kept_epochs < epochs:
            return start, 0.0
        line |= _until(epochs, kept["curves"])
        return run, kept["seconds"]

    def save(self, label: str, run: Fit, line: dict[str, Any], seconds: float) -> None:
        """Keep the learners and the curves, if the last time was long enough ago."""
        if time.monotonic() - self._saved < SECONDS_BETWEEN:
            return
        curves = {name: line[name] for name in (*BY_EPOCH, *BY_LAYER) if name in line}
        kept = {"label": label, "config": line["config"], "seconds": seconds, "curves": curves}
        files.write_json(self._curves, kept)
        saved.save(self._learners, run, {"label": label})
        self._saved = time.monotonic()

    def clear(self) -> None:
        """Forget the setting: it is done."""
        self._learners.unlink(missing_ok=True)
        self._curves.unlink(missing_ok=True)


def _epochs(curves: dict[str, Any]) -> Iterator[int]:
    for name, rows in curves.items():
        if name in BY_LAYER:
            yield from (len(of_layer) - 1 for of_layer in rows.values())
        else:
            yield len(rows)


def _until(epoch: int, curves: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {layer: of_layer[: epoch + 1] for layer, of_layer in rows.items()}
        if name in BY_LAYER
        else rows[:epoch]
        for name, rows in curves.items()
    }
