"""The layers of a network by their names in its parameters, ``Conv_0``, ``Dense_1`` ..."""

from collections.abc import Iterable
from typing import Any


def in_order(names: Iterable[str]) -> list[str]:
    """Return the names of a network's layers from input to output.

    The papers' networks number the layers of a kind, and dense layers follow all others.

    >>> in_order(["Dense_0", "Dense_1", "LocallyConnected_0", "LocallyConnected_1"])
    ['LocallyConnected_0', 'LocallyConnected_1', 'Dense_0', 'Dense_1']
    """

    def place(name: str) -> tuple[bool, str, int]:
        kind, _, number = name.rpartition("_")
        return kind == "Dense", kind, int(number)

    return sorted(names, key=place)


def is_hidden(params: Any) -> Any:
    """Return bools shaped like ``params``: all that is not of the output layer (a mask for optax).

    >>> is_hidden({"Dense_0": {"kernel": 1.0}, "Dense_1": {"kernel": 2.0}})
    {'Dense_0': {'kernel': True}, 'Dense_1': {'kernel': False}}
    """
    import jax

    *_, output = in_order(name for name, weights in params.items() if "kernel" in weights)
    return {name: jax.tree.map(lambda _, h=name != output: h, w) for name, w in params.items()}
