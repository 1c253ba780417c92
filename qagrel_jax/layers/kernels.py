"""Weights read off a network's variables: forward ones, and those that carry feedback."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import chex
import jax.numpy as jnp
from flax.core import FrozenDict
from flax.traverse_util import flatten_dict

from qagrel_jax.layers.feedback import canonical


def kernels(tree: chex.ArrayTree) -> dict[str, chex.Array]:
    """Return the kernels of a tree shaped like the parameters, ``{layer: kernel}``.

    Raises:
      TypeError: a tree that is no dictionary of layers.
      ValueError: no layer has a kernel.

    >>> import jax.numpy as jnp
    >>> list(kernels({"block": {"out": {"kernel": jnp.eye(2), "bias": jnp.ones(2)}}}))
    ['block/out']
    """
    found = {
        "/".join(layer): kernel
        for (*layer, name), kernel in flat_layers("an update", tree).items()
        if name == "kernel"
    }
    if not found:
        raise ValueError(
            "no layer of the update has a 'kernel': name weights {layer: {'kernel': array}}, or "
            "compare arrays with analysis.angle_degrees"
        )
    return found


def flat_layers(name: str, tree: chex.ArrayTree) -> dict[tuple[str, ...], chex.Array]:
    """Return the arrays of a tree shaped like the parameters by their paths.

    Args:
      name: what the tree is called.
      tree: ``{layer: {"kernel": ..., ...}}``; modules may be nested, and numbered.

    Raises:
      TypeError: a tree that is no dictionary.

    >>> list(flat_layers("params", {"layers": {0: {"kernel": 1.0}}}))
    [('layers', '0', 'kernel')]
    """
    if not isinstance(tree, dict | FrozenDict):
        hint = ": nnx.to_pure_dict makes one" if isinstance(tree, Mapping) else ""
        raise TypeError(f"{name} must be a dictionary of layers, got {type(tree).__name__}{hint}")
    return {tuple(map(str, path)): array for path, array in flatten_dict(tree).items()}


def feedback_kernels(
    params: chex.ArrayTree, model_state: chex.ArrayTree, feedback: str | Mapping[str, str]
) -> dict[tuple[str, ...], chex.Array]:
    """Read the weights that carry feedback down off a network's variables.

    Args:
      params: the network's parameters; any leading axes (seeds) are kept.
      model_state: its other collections.
      feedback: the kind of pathway, one of ``FEEDBACKS``; or, where layers differ, ``{layer:
        kind}``, a layer within a module as ``module/layer``, those not named being tied.

    Returns:
      ``{path of the layer: float[...]}``, B shaped like the layer's kernel W, of every layer with a
      kernel. The ``sign`` kinds without their factor; of ``sign_batchwise`` the mean over draws, up
      to a factor. None of ``direct`` layers, whose weights connect a layer with the outputs. With
      one kind, a layer without feedback weights, such as Flax's own, in a network that has some is
      tied: B = W.

    Raises:
      ValueError: an unknown kind of ``feedback``.
      KeyError: variables of another kind of pathway; a layer that is not there.
    """
    weights = flat_layers("params", params)
    fixed = flatten_dict(model_state.get("feedback", {}))
    kernels = {}
    for layer, kind in _kinds(feedback, weights, fixed).items():
        kernel = weights[*layer, "kernel"]
        of = functools.partial(_weights_of, layer, kind)
        match kind:
            case "direct":
                continue
            case "tied":
                down = kernel
            case "sign" | "sign_batchwise":
                down = jnp.sign(kernel)
            case "sign_fixed":
                down = jnp.sign(kernel) * of(fixed, "magnitude")
            case "kolen_pollack":
                down = of(weights, "feedback_kernel")
            case "random":
                down = of(fixed, "kernel")
            case "product":
                down = product_kernel(of(fixed, "mixing"), of(weights, "feedback_kernel"))
        kernels[layer] = down
    return kernels


def _kinds(
    feedback: str | Mapping[str, str], weights: dict, fixed: dict
) -> dict[tuple[str, ...], str]:
    """Return the kind of each layer with a kernel; refuse what has weights of another."""
    layers = [path[:-1] for path in weights if path[-1] == "kernel"]
    if isinstance(feedback, Mapping):
        given = {tuple(layer.split("/")): canonical(kind) for layer, kind in feedback.items()}
        if unknown := given.keys() - set(layers):
            there = ", ".join("/".join(layer) for layer in layers)
            raise KeyError(f"no layer {'/'.join(min(unknown))!r} with a kernel, but {there}")
        kinds = {layer: given.get(layer, "tied") for layer in layers}
        for layer, kind in kinds.items():
            its_own = ({p: w for p, w in of.items() if p[:-1] == layer} for of in (weights, fixed))
            _refuse_others(kind, *its_own)
        return kinds
    kind = canonical(feedback)
    _refuse_others(kind, weights, fixed)
    own = {path[:-1] for path in fixed if path[-1] in _OWN_WEIGHTS.get(kind, ())}
    own |= {path[:-1] for path in weights if path[-1] == "feedback_kernel"}
    if kind == "direct":
        return dict.fromkeys(layers, kind)
    return {layer: "tied" if own and layer not in own else kind for layer in layers}


_OWN_WEIGHTS = {
    "kolen_pollack": {"feedback_kernel"},
    "random": {"kernel"},
    "sign_fixed": {"magnitude"},
    "direct": {"direct_kernel"},
    "product": {"feedback_kernel", "mixing"},
}
"""What the layers of each kind of pathway have beside their forward weights."""


def _refuse_others(kind: str, weights: dict, fixed: dict) -> None:
    known = set().union(*_OWN_WEIGHTS.values())
    found = {path[-1] for path in fixed} & known
    found |= {"feedback_kernel"} & {path[-1] for path in weights}
    if others := sorted(found - _OWN_WEIGHTS.get(kind, set())):
        names = ", ".join(others)
        raise KeyError(
            f"there are weights {names}, which feedback {kind!r} does not have; of layers that "
            "differ give {layer: kind}"
        )


def _weights_of(layer: tuple[str, ...], kind: str, where: dict, name: str) -> chex.Array:
    if (*layer, name) not in where:
        raise KeyError(f"layer {'/'.join(layer)!r} has no {name!r} of feedback {kind!r}")
    return where[*layer, name]


def product_kernel(mixing: chex.Array, feedback_kernel: chex.Array) -> chex.Array:
    """Return B = C Mᵀ, shaped like the forward kernel; C̄ = B̄ M follows by differentiation.

    Args:
      mixing: M, float[seeds or positions ..., features, units], from the layer to the extra units.
      feedback_kernel: C, float[seeds or positions ..., inputs (one or more axes), units].

    Returns:
      float[seeds or positions ..., inputs, features].
    """
    leading = mixing.ndim - 2
    between = feedback_kernel.ndim - leading - 2
    mixing = mixing.reshape(*mixing.shape[:leading], *[1] * between, *mixing.shape[leading:])
    return feedback_kernel @ mixing.swapaxes(-1, -2)
