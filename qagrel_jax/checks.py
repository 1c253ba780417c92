"""Checks of arguments: an error of one line that names the argument and its value.

What is no number, function or name at all is a ``TypeError``; one that is out of range a
``ValueError``. Traced values have no value yet and pass, as does what pytree utilities put in place
of a leaf; text, lists and the like never do.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

INFINITY = float("inf")
ONE_TRIAL = "of one trial; jax.vmap maps over several"

_NUMBERS = (int, float, np.generic, np.ndarray, jax.Array)


def known(*values: Any) -> bool:
    """Whether all values can be looked at here: none is traced or lies on other processes."""
    return not any(
        isinstance(value, jax.core.Tracer)
        or (isinstance(value, jax.Array) and not value.is_fully_addressable)
        for value in values
    )


def make_hashable(record: Any, *names: str) -> None:
    """Put numbers in place of arrays of one number, which have no hash, where they are known.

    Args:
      record: a frozen dataclass, which is to be a static argument of compiled functions.
      names: of the fields.
    """
    for name in names:
        value = getattr(record, name)
        if isinstance(value, np.ndarray | jax.Array) and known(value):
            object.__setattr__(record, name, value.item())


def every_class(labels: Any, num_classes: int) -> None:
    """Refuse labels that leave a class out, where they can be looked at.

    Raises:
      ValueError: a class has no example.
    """
    if not known(labels):
        return
    missing = np.setdiff1d(np.arange(num_classes), np.asarray(labels))
    if missing.size:
        raise ValueError(
            f"class {missing[0]} has no examples, and a curriculum would wait for it: number the "
            "classes that there are from 0 on"
        )


def number(
    name: str,
    value: Any,
    low: float = -INFINITY,
    high: float = INFINITY,
    *,
    above: bool = False,
    leaf: bool = False,
) -> None:
    """Check that ``value`` is a finite number in [low, high].

    Args:
      name: of the argument.
      value: a number, or an array of one number.
      low: smallest value allowed.
      high: largest value allowed.
      above: ``low`` itself is not allowed.
      leaf: ``value`` is a pytree's leaf: an array [...] is allowed, and so is a placeholder.

    Raises:
      TypeError: no number.
      ValueError: out of range, infinite or NaN.

    >>> number("epsilon", 1.5, 0, 1)
    Traceback (most recent call last):
    ValueError: epsilon must be in [0, 1], got 1.5
    """
    range_ = _range(low, high, above)
    if isinstance(value, jax.core.Tracer):
        return
    if not isinstance(value, _NUMBERS) or (isinstance(value, bool) and not leaf):
        if leaf and not isinstance(value, str | bytes | list | tuple | dict | complex):
            return
        raise TypeError(f"{name} must be a number {range_}, got {value!r}")
    if not known(value):
        return
    values = np.asarray(value)
    truth = leaf and jnp.issubdtype(values.dtype, jnp.bool_)
    if not (jnp.issubdtype(values.dtype, jnp.number) or truth) or np.iscomplexobj(values):
        raise TypeError(f"{name} must be a number {range_}, got {value!r}")
    if values.ndim and not leaf:
        raise TypeError(f"{name} must be one number, got an array of shape {values.shape}")
    # np.isfinite does not support bfloat16.
    values = values.astype(np.float64)
    inside = (values > low if above else values >= low) & (values <= high) & np.isfinite(values)
    if not inside.all():
        if np.isfinite(values).all():
            range_ = range_.replace("finite and ", "")
        raise ValueError(f"{name} must be {range_}, got {value}")


def whole(name: str, value: Any, low: int | None = 1, high: int | None = None) -> None:
    """Check that ``value`` is a whole number in [low, high]; it can't be traced.

    Raises:
      TypeError: no number, or a traced one.
      ValueError: not whole, or out of range.

    >>> whole("batch_size", 0)
    Traceback (most recent call last):
    ValueError: batch_size must be at least 1, got 0
    """
    if isinstance(value, jax.core.Tracer):
        raise TypeError(f"{name} must be known when compiling, got a traced value")
    scalar = isinstance(value, int | float | np.generic) or (
        isinstance(value, np.ndarray | jax.Array) and value.ndim == 0
    )
    if not scalar or isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if not np.issubdtype(np.asarray(value).dtype, np.integer):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    if (low is not None and value < low) or (high is not None and value > high):
        raise ValueError(f"{name} must be {_bounds(low, high)}, got {value}")


def wholes(
    name: str, values: Any, length: int | None = None, low: int = 1, high: int | None = None
) -> None:
    """Check a sequence of whole numbers in [low, high], of a ``length`` if given.

    Raises:
      TypeError: no sequence of numbers.
      ValueError: another length, or a number out of range.

    >>> wholes("strides", (1, 0), length=2)
    Traceback (most recent call last):
    ValueError: strides[1] must be at least 1, got 0
    """
    if not isinstance(values, list | tuple):
        raise TypeError(f"{name} must be a tuple of whole numbers, got {values!r}")
    if length is not None and len(values) != length:
        raise ValueError(f"{name} must be {length} numbers, got {values!r}")
    for index, value in enumerate(values):
        whole(f"{name}[{index}]", value, low, high)


def flag(name: str, value: Any) -> None:
    """Check that ``value`` is True or False.

    Raises:
      TypeError: anything else.
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r}")


def truth_value(name: str, value: Any) -> None:
    """Check that ``value`` is True, False or an array of those; it may be traced.

    Raises:
      TypeError: anything else.

    >>> truth_value("plastic", 1)
    Traceback (most recent call last):
    TypeError: plastic must be True or False, got 1
    """
    if not isinstance(value, jax.Array | np.ndarray) or value.dtype != bool:
        flag(name, value)


def option(name: str, value: Any, valid: Collection[str]) -> None:
    """Check that ``value`` is one of the ``valid`` names.

    Raises:
      TypeError: no text.
      ValueError: another name; the message lists the valid ones.

    >>> option("policy", "best", ("greedy", "softmax"))
    Traceback (most recent call last):
    ValueError: unknown policy 'best'; valid: greedy, softmax
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {', '.join(valid)}, got {value!r}")
    if value not in valid:
        raise ValueError(f"unknown {name} {value!r}; valid: {', '.join(valid)}")


def floating_dtype(name: str, value: Any) -> None:
    """Check that ``value`` is a floating-point dtype.

    Raises:
      TypeError: anything else.
    """
    try:
        if jnp.issubdtype(jnp.dtype(value), jnp.floating):
            return
    except TypeError:
        pass
    raise TypeError(f"{name} must be a floating-point dtype, got {value!r}")


def floats(name: str, values: Any) -> None:
    """Check that an array holds floats, as networks take them: uint8 would be 255 times as bright.

    Raises:
      TypeError: it doesn't.

    >>> floats("images", np.zeros(2, np.uint8))
    Traceback (most recent call last):
    TypeError: images must be floats, got uint8: tasks.classification.normalize makes them of uint8
    >>> floats("images", [[0.5]])
    Traceback (most recent call last):
    TypeError: images must be an array of floats, got a list
    """
    if not hasattr(values, "dtype"):
        raise TypeError(f"{name} must be an array of floats, got a {type(values).__name__}")
    if not jnp.issubdtype(values.dtype, jnp.floating):
        raise TypeError(
            f"{name} must be floats, got {values.dtype}: tasks.classification.normalize makes them "
            "of uint8"
        )


def function(name: str, value: Any, instead: str = "", takes: Sequence[str] = ()) -> None:
    """Check that ``value`` can be called; ``instead`` tells where to get one.

    Args:
      name: of the argument.
      value: a function.
      instead: what to use, said at the end of the message.
      takes: the arguments it is called with, by position; none: anything goes.

    Raises:
      TypeError: it can't.

    >>> function("policy", "greedy", "use make_policy")
    Traceback (most recent call last):
    TypeError: policy must be a function, got 'greedy': use make_policy
    >>> function("reward", lambda actions: 1.0, takes=("key", "labels", "actions"))
    Traceback (most recent call last):
    TypeError: reward must be a function of (key, labels, actions), got one of (actions)
    """
    end = f": {instead}" if instead else ""
    if not callable(value):
        raise TypeError(f"{name} must be a function, got {in_a_line(value)}{end}")
    if not takes:
        return
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # built into Python
        return
    try:
        signature.bind(*takes)
    except TypeError:
        own, wanted = ", ".join(signature.parameters), ", ".join(takes)
        raise TypeError(
            f"{name} must be a function of ({wanted}), got one of ({own}){end}"
        ) from None


def forward(value: Any) -> None:
    """Check a network as a function of its parameters and inputs.

    Raises:
      TypeError: no function, or a Flax module, which takes its parameters in another way.

    >>> import flax.linen as nn
    >>> forward(nn.Dense(2))
    Traceback (most recent call last):
    TypeError: forward must be a function: lambda params, x: network.apply({"params": params}, x)
    """
    if isinstance(value, nn.Module):
        raise TypeError(
            'forward must be a function: lambda params, x: network.apply({"params": params}, x)'
        )
    function("forward", value, takes=("params", "inputs"))


def compiled(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a user's function; if it cannot be compiled, say so in one line.

    Args:
      name: of the function.
      function: of arrays.
      *arguments: for it, traced ones while JAX compiles.

    Returns:
      What it returns.

    Raises:
      TypeError: it asks for the value of a traced array, as Python's ``if`` and NumPy do.
    """
    try:
        return function(*arguments)
    except _UNKNOWN_VALUE as error:
        raise TypeError(
            f"{name} cannot be compiled: use jnp.where for if, jnp for np, and no float() or int()"
        ) from error


_UNKNOWN_VALUE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.NonConcreteBooleanIndexError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerBoolConversionError,
    jax.errors.TracerIntegerConversionError,
)
"""What JAX raises where Python or NumPy asks a traced array for its value."""


def instance(name: str, value: Any, kind: type | tuple[type, ...], instead: str = "") -> None:
    """Check that ``value`` is a ``kind``, or one of several; ``instead`` tells where to get one.

    Raises:
      TypeError: it isn't.

    >>> import flax.linen as nn
    >>> instance("network", nn.Dense, nn.Module)
    Traceback (most recent call last):
    TypeError: network must be a Module, got the class itself: make one, Dense(...)
    """
    if isinstance(value, type) and issubclass(value, kind):
        raise TypeError(
            f"{name} must be {_one(kind)}, got the class itself: make one, {value.__name__}(...)"
        )
    if not isinstance(value, kind):
        end = f": {instead}" if instead else ""
        raise TypeError(f"{name} must be {_one(kind)}, got {in_a_line(value)}{end}")


def _one(kind: type | tuple[type, ...]) -> str:
    if isinstance(kind, tuple):
        return " or ".join(map(_one, kind))
    return f"{'an' if kind.__name__[0] in 'AEIO' else 'a'} {kind.__name__}"


def not_consumed(name: str, tree: Any) -> None:
    """Refuse arrays whose memory another call has taken over (donated buffers).

    Raises:
      ValueError: one of ``tree`` was.
    """
    arrays = [x for x in jax.tree.leaves(tree) if not isinstance(x, jax.core.Tracer)]
    if any(getattr(x, "is_deleted", bool)() for x in arrays):
        raise ValueError(
            f"{name} was consumed by another call: start anew, load what was saved of it, or keep "
            "a copy, jax.tree.map(jnp.copy, ...), before"
        )


def random_key(name: str, value: Any) -> None:
    """Check that ``value`` is one random key, typed (``jax.random.key``) or its numbers.

    Raises:
      TypeError: it isn't.

    >>> random_key("key", 0)
    Traceback (most recent call last):
    TypeError: key must be a random key, such as jax.random.key(0), got 0
    """
    dtype = _dtype(value)
    typed = jnp.issubdtype(dtype, jax.dtypes.prng_key)
    one = np.shape(value) == () if typed else np.shape(value) in _KEY_NUMBERS
    if not (one and (typed or dtype == np.uint32)):
        raise TypeError(
            f"{name} must be a random key, such as jax.random.key(0), got {in_a_line(value)}"
        )


_KEY_NUMBERS = ((2,), (4,))
"""Shapes of a key as numbers, in the random number implementations of JAX."""


def finite(name: str, values: Any) -> None:
    """Check that an array holds finite numbers, where they are known.

    Raises:
      TypeError: no numbers.
      ValueError: NaN or infinity; the message says where.

    >>> finite("reward", np.array([1.0, np.nan]))
    Traceback (most recent call last):
    ValueError: reward must be finite, got nan at 1
    """
    dtype = _dtype(values)
    real = jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.floating)
    if not (real or jnp.issubdtype(dtype, jnp.bool_)):
        raise TypeError(f"{name} must be real numbers, got {dtype}")
    if not known(values) or not jnp.issubdtype(dtype, jnp.inexact):
        return
    _refuse(name, "finite", values, ~np.isfinite(np.asarray(values).astype(np.float64)))


def labels(name: str, values: Any, num_classes: int) -> None:
    """Check that ``values`` are whole numbers and, where they are known, in [0, num_classes).

    Raises:
      TypeError: no whole numbers.
      ValueError: out of range; the message says where.

    >>> labels("label", np.array([1, 3]), 3)
    Traceback (most recent call last):
    ValueError: label must be in [0, 3), got 3 at 1
    """
    whole_numbers(name, values)
    if known(values):
        array = np.asarray(values)
        _refuse(name, f"in [0, {num_classes})", values, (array < 0) | (array >= num_classes))


def whole_numbers(name: str, values: Any) -> None:
    """Check that an array holds whole numbers, which may be traced.

    Raises:
      TypeError: it doesn't.

    >>> whole_numbers("ordinary", np.zeros(1))
    Traceback (most recent call last):
    TypeError: ordinary must be whole numbers, got float64
    """
    dtype = _dtype(values)
    if not jnp.issubdtype(dtype, jnp.integer):
        raise TypeError(f"{name} must be whole numbers, got {dtype}")


def native(values: np.ndarray) -> np.ndarray:
    """Return an array in the byte order of this machine, the only one that JAX knows.

    >>> native(np.ones(2, ">f4")).dtype.isnative
    True
    """
    return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


def shape(name: str, values: Any, *axes: int | str, instead: str = "") -> None:
    """Check the axes of ``values``: an int is an axis of this size, a name one of any size.

    Args:
      name: of the argument.
      values: an array.
      axes: that it must have.
      instead: what to do, where it has others.

    Raises:
      ValueError: it has others.

    >>> shape("outputs", np.zeros((2, 3, 1)), "batch", 3)
    Traceback (most recent call last):
    ValueError: outputs must be [batch, 3], got [2, 3, 1]
    """
    got = np.shape(values)
    fits = [isinstance(axis, str) or axis == size for axis, size in zip(axes, got, strict=False)]
    if len(got) != len(axes) or not all(fits):
        wanted = f"[{', '.join(map(str, axes))}]"
        more = f": {instead}" if instead else ""
        raise ValueError(f"{name} must be {wanted}, got {list(got)}{more}")


def pixels(name: str, values: Any) -> None:
    """Check that ``values`` are uint8, as images are stored.

    Raises:
      TypeError: they are not.

    >>> pixels("images", np.zeros(1))
    Traceback (most recent call last):
    TypeError: images must be uint8, got float64
    """
    dtype = _dtype(values)
    if dtype != np.uint8:
        raise TypeError(f"{name} must be uint8, got {dtype}")


def one_each(name: str, values: Any, batch: int) -> None:
    """Check that there is one of ``values`` for each example.

    Raises:
      ValueError: their shape is not [batch].

    >>> one_each("rewards", np.zeros(2), 3)
    Traceback (most recent call last):
    ValueError: rewards must be [batch], here [3], got [2]
    """
    if values.shape != (batch,):
        raise ValueError(f"{name} must be [batch], here [{batch}], got {list(values.shape)}")


def is_one(value: Any, *kinds: Any) -> bool:
    """Whether ``value`` is an array [], or the shape of one, of one of these dtypes.

    >>> is_one(jnp.int8(1), jnp.integer), is_one(jnp.zeros(1), jnp.floating)
    (True, False)
    """
    if getattr(value, "shape", None) != ():
        return False
    return any(jnp.issubdtype(value.dtype, kind) for kind in kinds)


def shapes(tree: Any) -> str:
    """Return the dtypes and shapes of a pytree's arrays.

    >>> shapes((jnp.zeros(2), jnp.int32(1)))
    "('float32[2]', 'int32[]')"
    """
    return str(jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}", tree))


def in_a_line(value: Any) -> str:
    """Return what ``repr`` gives, in one line that can be read."""
    try:
        text = " ".join(repr(value).split())
    except RuntimeError:  # it holds arrays that were deleted
        text = type(value).__name__
    return text if len(text) <= 80 else f"{text[:60]} ... ({type(value).__name__})"


def _dtype(values: Any) -> Any:
    return values.dtype if isinstance(values, jax.Array) else np.asarray(values).dtype


def _refuse(name: str, wanted: str, values: Any, bad: np.ndarray) -> None:
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        at = f" at {where[0] if len(where) == 1 else where}" if where else ""
        raise ValueError(f"{name} must be {wanted}, got {np.asarray(values)[where]}{at}")


def _range(low: float, high: float, above: bool) -> str:
    if high < INFINITY:
        return f"in {'(' if above else '['}{low}, {high}]"
    if low == -INFINITY:
        return "finite"
    if above:
        return "positive and finite" if low == 0 else f"finite and above {low}"
    return f"finite and at least {low}"


def _bounds(low: int | None, high: int | None) -> str:
    return f"at least {low}" if high is None else f"in [{low}, {high}]"
