"""Seeds of one rule that were trained apart, put side by side as training them together leaves
them. A seed is the same, to rounding, whichever others it is trained with, so this is a matter of
files alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

PER_SEED = (
    "seeds",
    "test_accuracy",
    "best_epoch",
    "best_monitored_accuracy",
    "stopped_early",
    "diverged_in_epoch",
)

OF_ALL_SEEDS = ("criterion_accuracy", "criterion_is", "slowdown", "slowdown_by_best_epoch")
"""What a summary says of all seeds of all rules together: of parts it would have to be anew."""

_OF_LEARNING = ("validation_accuracy", "test_accuracy", "train_accuracy", "error")
_NONE_WHERE_STOPPED = {*_OF_LEARNING, "classes_learned"}
"""Of a seed that has stopped these are None; what else is told of each seed stays as it was."""


def lines(parts: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the lines of ``metrics.jsonl`` of all seeds of a rule.

    Args:
      parts: the lines of each part, an epoch each, in the order of the seeds; a part that ends
        before another has stopped there.
    """
    epochs = max(map(len, parts), default=0)
    return [_line([_at(part, epoch) for part in parts]) for epoch in range(epochs)]


def _at(part: Sequence[dict[str, Any]], epoch: int) -> dict[str, Any]:
    if epoch < len(part):
        return part[epoch]
    last = part[-1]
    return {
        key: [None] * len(value) if key in _NONE_WHERE_STOPPED else value
        for key, value in last.items()
    }


def _line(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    first = parts[0]
    whole = {}
    for key in (key for key in first if all(key in part for part in parts)):
        values = [part[key] for part in parts]
        if key in ("epoch", "step"):
            whole[key] = max(values)
        elif key == "class_accuracy":
            weights = [sum(a is not None for a in part[monitored(part)]) for part in parts]
            whole[key] = [round(float(a), 5) for a in np.average(values, axis=0, weights=weights)]
        else:
            whole[key] = _side_by_side(values)
    return whole


def monitored(line: dict[str, Any]) -> str:
    """Return which accuracy a line of ``metrics.jsonl`` has that picks the epoch."""
    return next(key for key in ("validation_accuracy", "test_accuracy") if key in line)


def _side_by_side(values: Sequence[Any]) -> Any:
    """Join lists by seed, of measures by layer, too; what is no list is the same in all."""
    if isinstance(values[0], dict):
        return {key: _side_by_side([value[key] for value in values]) for key in values[0]}
    return (
        [seed for value in values for seed in value] if isinstance(values[0], list) else values[0]
    )


def entry(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what a summary says of a rule with the seeds of ``parts``; times are sums.

    Epochs to the criterion are left out: it is another one, of all seeds.

    >>> together = entry([{"rule": "agrel", "seeds": [0], "train_seconds": 2.0, "epochs": 3},
    ...                   {"rule": "agrel", "seeds": [1], "train_seconds": 1.5, "epochs": 2}])
    >>> together["seeds"], together["train_seconds"], together["epochs"]
    ([0, 1], 3.5, 3)
    """
    whole = dict(parts[0])
    if len(parts) > 1:
        whole.pop("epochs_to_criterion", None)
    for key in (key for key in PER_SEED if key in whole):
        if not all(key in part for part in parts):  # of an earlier version
            del whole[key]
            continue
        whole[key] = [value for part in parts for value in part[key]]
    whole["train_seconds"] = sum(part.get("train_seconds", 0) for part in parts)
    whole["epochs"] = max(part.get("epochs", 0) for part in parts)
    return whole


def checkpoint(parts: Sequence[bytes]) -> bytes:
    """Return the content of a checkpoint with the seeds of ``parts``, of seeds that have stopped.

    Raises:
      ValueError: the parts are not of one structure.
    """
    import flax.serialization
    import jax

    def join(path: Any, *arrays: np.ndarray) -> np.ndarray:
        if jax.tree_util.keystr(path) == "['epoch']":
            return np.max(arrays, axis=0)
        return np.concatenate(arrays)

    trees = [flax.serialization.msgpack_restore(part) for part in parts]
    joined = jax.tree_util.tree_map_with_path(join, *trees)
    return flax.serialization.msgpack_serialize(joined)
