"""Reaching into a network's layers from outside, without the network knowing.

Some learning rules do something to every unit: add noise to it, or hand it a signal that did not
come down from the layer above. They need to be where a layer meets its inputs. ``each_layer`` puts
a function there, for any network built of ``qagrel_jax.layers``.

A function that is put there may carry arrays out, so a layer must run where the network does, not
inside a transform (``nn.remat``, ``nn.jit``, ``nn.scan``, ``nn.vmap``, ``jax.jit`` ...) of a part
of the network.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import chex
import flax.linen as nn
from flax.core.tracers import current_trace
from jax.experimental.xla_metadata import set_xla_metadata

from qagrel_jax.layers import output_error
from qagrel_jax.layers.layers import Conv, Dense, LocallyConnected

LAYERS = (Dense, Conv, LocallyConnected)

Layer = Callable[[chex.Array], chex.Array]
"""A layer as a function: ``inputs [batch, ...] -> input currents of its units [batch, ...]``."""

Visit = Callable[[nn.Module, Callable, tuple, dict], Any]
"""``(module, following, args, kwargs) -> result``: stands in for a module's call."""


@contextmanager
def each_call(visit: Visit, is_layer: Callable[[nn.Module], bool]) -> Iterator[None]:
    """Within the context, ``visit`` stands in for the ``__call__`` of every layer.

    Args:
      visit: called as ``visit(module, following, args, kwargs)``; ``following(*args, **kwargs)`` is
        what the layer would have returned.
      is_layer: says which modules are layers.

    Raises:
      ValueError: within the context, a layer inside a transform.
    """
    here = current_trace()

    def interceptor(following: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        module = context.module
        if context.method_name != "__call__" or not is_layer(module):
            return following(*args, **kwargs)
        if current_trace() != here:
            raise ValueError(
                f"layer {('/'.join(module.path) or type(module).__name__)!r} runs inside "
                f"{_transform()}, where nothing can be done to its units: use the transform around "
                "the whole step, or not at all"
            )
        return visit(module, following, args, kwargs)

    # The metadata, which say nothing, make what was compiled before be traced again: it would be
    # run without a look at its layers.
    with (
        set_xla_metadata(qagrel_jax="each_call"),
        nn.intercept_methods(interceptor),
        output_error.delivered(),
    ):
        yield


@contextmanager
def each_layer(
    replace: Callable[[int, Layer, chex.Array], chex.Array],
) -> Iterator[Callable[[], int]]:
    """Within the context, a layer's output is ``replace(index, layer, inputs)``.

    Args:
      replace: called at each layer of ``qagrel_jax.layers`` in the order they run, index 0 first;
        ``layer(inputs)`` is what the layer would have given. A layer used twice is called twice.
        Normalization, pooling, dropout and activation functions are no layers in this sense.

    Yields:
      A function that says how many layers have run.

    Raises:
      ValueError: within the context, a layer with a kernel or an embedding that is not of
        ``qagrel_jax.layers``, or one inside a transform of a part of the network.

    >>> import jax, jax.numpy as jnp
    >>> from qagrel_jax.networks import DenseNet
    >>> network = DenseNet(num_actions=2, hidden=(3,))
    >>> variables = network.init(jax.random.key(0), jnp.ones((1, 4)))
    >>> with each_layer(lambda index, layer, x: layer(x) * (index == 0)) as layers_run:
    ...     network.apply(variables, jnp.ones((1, 4))).tolist(), layers_run()
    ([[0.0, 0.0]], 2)
    """
    run = 0

    def visit(module: nn.Module, following: Callable, args: tuple, kwargs: dict) -> Any:
        nonlocal run
        if isinstance(module, LAYERS):
            run += 1
            (inputs,) = (*args, *kwargs.values())
            return replace(run - 1, following, inputs)
        raise ValueError(
            f"a {type(module).__name__} of {type(module).__module__} cannot be reached into: "
            "use the layers of qagrel_jax.layers throughout"
        )

    def is_layer(module: nn.Module) -> bool:
        embeds = module.has_variable("params", "embedding")
        return isinstance(module, LAYERS) or has_kernel(module) or embeds

    with each_call(visit, is_layer):
        yield lambda: run


def has_kernel(module: nn.Module) -> bool:
    """Say whether ``module`` has synapses of its own: a parameter ``kernel``."""
    return module.has_variable("params", "kernel")


def _transform() -> str:
    """Name the innermost transform that is at work; Flax's own functions bear their names."""
    names = {"checkpoint": "nn.remat", **{n: f"nn.{n}" for n in ("jit", "scan", "vmap")}}
    frame = sys._getframe()
    while frame is not None:
        code = frame.f_code
        if code.co_filename.endswith("flax/core/lift.py"):
            function = code.co_qualname.split(".")[0]
            if function not in ("pack", "remat"):
                return names.get(function, f"nn.{function}")
        frame = frame.f_back  # type: ignore[assignment]
    return "a transform (jax.jit, jax.vmap, ...)"
