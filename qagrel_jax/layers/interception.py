"""Reaching into a network's layers from outside, without the network knowing.

Some learning rules do something to every unit: add noise to it, or hand it a signal that did not
come down from the layer above. They need to be where a layer meets its inputs. ``each_layer`` puts
a function there, for any network built of ``qagrel_jax.layers``.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import chex
import flax.linen as nn

from qagrel_jax.layers.layers import Conv, Dense, LocallyConnected

LAYERS = (Dense, Conv, LocallyConnected)

Layer = Callable[[chex.Array], chex.Array]
"""A layer as a function: ``inputs [batch, ...] -> input currents of its units [batch, ...]``."""


@contextmanager
def each_layer(
    replace: Callable[[int, Layer, chex.Array], chex.Array],
) -> Iterator[Callable[[], int]]:
    """Within the context, a layer's output is ``replace(index, layer, inputs)``.

    Args:
      replace: called at each layer of ``qagrel_jax.layers`` in the order they run, index 0 first;
        ``layer(inputs)`` is what the layer would have given. Normalisation, pooling, dropout and
        activation functions are no layers in this sense.

    Yields:
      A function that says how many layers have run.

    Raises:
      ValueError: within the context, a layer with a kernel that is not of ``qagrel_jax.layers``.

    >>> import jax, jax.numpy as jnp
    >>> from qagrel_jax.networks import DenseNet
    >>> network = DenseNet(num_actions=2, hidden=(3,))
    >>> variables = network.init(jax.random.key(0), jnp.ones((1, 4)))
    >>> with each_layer(lambda index, layer, x: layer(x) * (index == 0)) as layers_run:
    ...     network.apply(variables, jnp.ones((1, 4))).tolist(), layers_run()
    ([[0.0, 0.0]], 2)
    """
    run = 0

    def interceptor(following: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        nonlocal run
        module = context.module
        if context.method_name == "__call__" and isinstance(module, LAYERS):
            run += 1
            return replace(run - 1, following, *args, **kwargs)
        result = following(*args, **kwargs)
        if context.method_name == "__call__" and module.has_variable("params", "kernel"):
            raise ValueError(
                f"a {type(module).__name__} of {type(module).__module__} cannot be reached into: "
                "use the layers of qagrel_jax.layers throughout"
            )
        return result

    with nn.intercept_methods(interceptor):
        yield lambda: run
