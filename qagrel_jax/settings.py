"""Settings of rules and tasks: fields of frozen dataclasses, and checks of their values.

A static field is fixed at compile time. The others are leaves of the dataclass as a pytree: they
may be traced, or hold a number for each of many networks.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from qagrel_jax import checks


def static(default: Any = dataclasses.MISSING) -> Any:
    """Declare a dataclass field that is fixed at compile time."""
    return dataclasses.field(default=default, metadata={"static": True})


def at_least(settings: Any, low: float, *names: str) -> None:
    """Refuse any named static field below ``low``, not finite, or not whole where it says int.

    An array of one number becomes the number: what is static has to have a hash.

    Raises:
      ValueError: such a field.
      TypeError: one that is no number.
    """
    whole = {field.name for field in dataclasses.fields(settings) if field.type in (int, "int")}
    for name in names:
        value = getattr(settings, name)
        if name in whole:
            checks.whole(name, value, int(low))
        else:
            checks.number(name, value, low)
        checks.make_hashable(settings, name)


def within(settings: Any, low: float, high: float, *names: str) -> None:
    """Refuse any named field outside [low, high] or not finite; of a tuple each part.

    A leaf may be an array [...], or a placeholder of ``checks.number``. An array of one number in a
    static field becomes the number.

    Raises:
      ValueError: such a field.
      TypeError: one that is no number.
    """
    fields = {field.name: field for field in dataclasses.fields(settings)}
    for name in names:
        value, leaf = getattr(settings, name), "static" not in fields[name].metadata
        for part in value if isinstance(value, tuple) else (value,):
            checks.number(name, part, low, high, leaf=leaf)
        if not leaf:
            checks.make_hashable(settings, name)


def one_of(settings: Any, name: str, valid: tuple[str, ...]) -> None:
    """Refuse the named field if it is none of the ``valid`` options.

    Raises:
      ValueError: another option.
      TypeError: no text.
    """
    checks.option(name, getattr(settings, name), valid)


def whole_leaf(settings: Any, low: int, *names: str, high: int | None = None) -> None:
    """Refuse any named leaf that is not whole or outside [low, high], where it is known.

    An array [...] is allowed, and so are the placeholders of ``checks.number``.

    Raises:
      ValueError: such a leaf.
      TypeError: text and the like.
    """
    for name in names:
        value = getattr(settings, name)
        if isinstance(value, bool | np.bool_):  # a placeholder
            continue
        checks.number(name, value, low, float("inf") if high is None else high, leaf=True)
        number = isinstance(value, int | float | np.generic | np.ndarray | jax.Array)
        if number and checks.known(value):
            dtype = np.asarray(value).dtype
            if not (np.issubdtype(dtype, np.integer) or np.issubdtype(dtype, np.bool_)):
                raise ValueError(f"{name} must be a whole number, got {value}")


def known_number(value: Any) -> int | None:
    """Return a whole number that can be looked at here; None for a traced one, or one of many."""
    if isinstance(value, int | np.integer):
        return int(value)
    one = isinstance(value, jax.Array | np.ndarray) and value.ndim == 0 and checks.known(value)
    # As NumPy's: within a traced function JAX's own comparison would be traced, too.
    return int(np.asarray(value)) if one and np.issubdtype(value.dtype, np.integer) else None
