"""How feedback weights that learn are updated where forward weights are updated otherwise.

Kolen and Pollack's pathway, and product feedback, give feedback weights the same update and decay
as forward weights. Here they get a learning rate, a decay and a beginning of their own, as
``optax`` transformations: masks for ``optax.add_decayed_weights``, and a factor on the updates.
"""

import chex
import jax
import jax.numpy as jnp
import optax

from qagrel_jax import checks


def is_forward(params: chex.ArrayTree) -> chex.ArrayTree:
    """Return bools shaped like ``params``: which of them are forward weights (a mask for optax)."""
    return _named("kernel", params)


def is_feedback(params: chex.ArrayTree) -> chex.ArrayTree:
    """Return bools shaped like ``params``: which of them are feedback weights that learn."""
    return _named("feedback_kernel", params)


def scale_feedback_updates(rate: float = 1.0, delay: int = 0) -> optax.GradientTransformation:
    """Give feedback weights a learning rate and a beginning of their own; chain it last.

    Args:
      rate: their learning rate, as a multiple of the other weights', ≥ 0.
      delay: number of steps for which they stay as they were drawn, ≥ 0.

    Returns:
      A transformation of updates; those of other weights pass unchanged.

    Raises:
      ValueError: a ``rate`` or ``delay`` that is negative or not finite.
      TypeError: what is no number.

    >>> import jax.numpy as jnp, optax
    >>> params = {"kernel": jnp.ones(1), "feedback_kernel": jnp.ones(1)}
    >>> optimizer = optax.chain(optax.sgd(0.1), scale_feedback_updates(rate=0.5))
    >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
    >>> float(updates["kernel"][0] / updates["feedback_kernel"][0])
    2.0
    """
    checks.number("rate", rate, 0)
    checks.whole("delay", delay, 0)
    begin = min(delay, 2**31 - 1)  # optax's count of steps goes no further
    scale = optax.scale_by_schedule(lambda step: jnp.where(step < begin, 0.0, rate))
    return optax.masked(scale, is_feedback)


def _named(name: str, params: chex.ArrayTree) -> chex.ArrayTree:
    def is_named(path: tuple, leaf: object) -> bool:
        del leaf
        # Of a dictionary, or a field of a NamedTuple; flax.nnx has one of its own below.
        names = [getattr(entry, "key", getattr(entry, "name", None)) for entry in path]
        return next((n for n in reversed(names) if n != "value"), None) == name

    return jax.tree_util.tree_map_with_path(is_named, params)
