"""TensorFloat-32 where there is none: the accuracy it costs can be seen on a CPU, its speed not.

An NVIDIA GPU asked for ``tensorfloat32`` (``jax.default_matmul_precision``) rounds the operands of
every product to 10 bits after the point and adds up in float32. A CPU asked for the same computes
in float32 and says nothing. Here the operands are rounded before it does: to the nearest, ties to
even (a GPU's library may break ties otherwise).
"""

import chex
import jax
import jax.numpy as jnp

EXPONENT_BITS, MANTISSA_BITS = 8, 10


def as_multiplied(x: chex.Array) -> chex.Array:
    """Round an operand of a product to what the device is asked to multiply.

    Args:
      x: float[...].

    Returns:
      ``x``; if it is float32 and a CPU is asked for ``tensorfloat32``, its nearest TF32 number.

    >>> import jax, jax.numpy as jnp
    >>> with jax.default_matmul_precision("tensorfloat32"):
    ...     print(as_multiplied(jnp.float32(1 + 2**-10 + 2**-12)) - 1 == 2**-10)
    True
    """
    if not is_emulated() or x.dtype != jnp.float32:
        return x
    return jax.lax.reduce_precision(x, EXPONENT_BITS, MANTISSA_BITS)


def is_emulated() -> bool:
    """Say whether a CPU is asked for ``tensorfloat32``, so that operands are to be rounded."""
    asked = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    return asked == "tensorfloat32" and jax.default_backend() == "cpu"
