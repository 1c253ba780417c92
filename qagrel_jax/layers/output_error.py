"""The error of a network's outputs, delivered straight to every layer with direct feedback.

On the way down a layer meets only what the layer above sends. For direct feedback alignment
(``feedback="direct"``) it needs the error e of the network's outputs instead. So, on the way up,
each such layer lays down a zero, its *tap* [batch, actions], and the sum of the taps is added to
the outputs: a zero changes no output, but its cotangent is e. Taps are variables of the collection
``"output_error"``, so that they come out of ``nn.remat``, ``nn.jit``, ``nn.scan`` and ``nn.vmap``
like any variable; the latter two must be told (``variable_axes={..., "output_error": 0}``).

The learning rules do this by themselves. Where a network is differentiated without them::

    with output_error.delivered():
        grads = jax.grad(lambda params: loss(network.apply(params, inputs)))(params)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import chex
import flax.linen as nn
import jax
from flax.core.scope import union_filters
from flax.traverse_util import flatten_dict

TAPS = "output_error"
"""The collection of the taps."""


@contextmanager
def delivered() -> Iterator[None]:
    """Within the context, layers with direct feedback learn from the error of the outputs.

    The outputs are what the outermost module returns, or the first item of the tuple it returns.

    Raises:
      ValueError: within the context, outputs that are not [batch, num_actions].

    >>> import jax, jax.numpy as jnp
    >>> from qagrel_jax.networks import DenseNet
    >>> network = DenseNet(num_actions=2, hidden=(3,), feedback="direct")
    >>> variables = network.init(jax.random.key(0), jnp.ones((1, 4)))
    >>> with delivered():
    ...     _, down = jax.vjp(lambda x: network.apply(variables, x), jnp.ones((1, 4)))
    >>> error = jnp.array([[1.0, -1.0]])
    >>> direct = variables["feedback"]["Dense_0"]["direct_kernel"]
    >>> bool(jnp.allclose(down(error)[0], error @ direct.T))
    True
    """
    outermost = True

    def interceptor(following: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        nonlocal outermost
        module = context.module
        if not outermost or context.method_name == "setup" or not _has_direct_feedback(module):
            return following(*args, **kwargs)
        outermost = False
        try:
            return _with_taps(module, context.method_name, args, kwargs)
        finally:
            outermost = True

    with nn.intercept_methods(interceptor):
        yield


def missing(layer: str) -> str:
    """Return the sentence with which ``layer`` refuses to learn without the output error."""
    return (
        f"{layer} needs the error of the network's outputs: learn by a rule of qagrel_jax.rules or "
        "within qagrel_jax.layers.output_error.delivered(), with a forward that was not "
        "compiled before, and list 'output_error' in the variable_axes of nn.scan and nn.vmap"
    )


def _has_direct_feedback(module: nn.Module) -> bool:
    fixed = module.variables.get("feedback", {})
    return any(path[-1] == "direct_kernel" for path in flatten_dict(fixed))


def _with_taps(module: nn.Module, method: str, args: tuple, kwargs: dict) -> Any:
    """Run ``module``'s method once more from its variables, this time with the taps' collection."""
    scope = module.scope
    assert scope is not None
    unbound, variables = module.unbind()
    result, changed = unbound.apply(
        {**variables, TAPS: {}},
        *args,
        rngs={name: stream.as_jax_rng() for name, stream in scope.rngs.items()},
        method=method,
        mutable=union_filters(scope.mutable, TAPS),
        **kwargs,
    )
    for collection, content in changed.items():
        if collection != TAPS:
            for name, value in content.items():
                scope.put_variable(collection, name, value)
    outputs, *rest = result if isinstance(result, tuple) else (result,)
    outputs = _added(outputs, jax.tree.leaves(changed.get(TAPS, {})))
    return (outputs, *rest) if isinstance(result, tuple) else outputs


def _added(outputs: chex.Array, taps: list[chex.Array]) -> chex.Array:
    for tap in taps:
        # Axes in front are those of nn.scan and nn.vmap.
        tap = tap.sum(tuple(range(tap.ndim - getattr(outputs, "ndim", 0))))
        if tap.shape != getattr(outputs, "shape", None):
            raise ValueError(
                f"direct feedback brings an output error of shape {tap.shape}, but the network "
                f"returns {getattr(outputs, 'shape', type(outputs).__name__)}: give the layers "
                "num_actions, and let the outermost module return the outputs"
            )
        outputs = outputs + tap.astype(outputs.dtype)
    return outputs
