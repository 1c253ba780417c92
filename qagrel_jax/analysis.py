"""Measures of learning: angles between weights or updates, and how far a step moves an output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from qagrel_jax import checks
from qagrel_jax.layers.kernels import feedback_kernels, flat_layers, kernels
from qagrel_jax.policies import at_least_float32
from qagrel_jax.rules.base import Forward, Rule


class UpdateAngles(NamedTuple):
    """How an update compares with the true gradient, ``{layer: float[]}``, kernel by kernel."""

    angle: dict[str, chex.Array]  # between the update u and the gradient g, degrees
    norm_ratio: dict[str, chex.Array]  # |u| / |g|


def angle_degrees(a: chex.Array, b: chex.Array) -> chex.Array:
    """Angle between two arrays seen as vectors: arccos(â·b̂) of â = a/|a|, b̂ = b/|b|, in degrees.

    Computed as 2 atan(|â − b̂| / |â + b̂|): in float32 an arccos does not tell 0 from 0.03 degrees.

    Args:
      a: float[...].
      b: float of the same shape.

    Returns:
      float[], in [0, 180]; NaN where one of them is zero or not finite.

    >>> import jax.numpy as jnp
    >>> round(float(angle_degrees(jnp.array([1.0, 0.0]), jnp.array([1.0, 1.0]))), 3)
    45.0
    """
    a, b = jnp.asarray(a), jnp.asarray(b)
    checks.shape("b", b, *a.shape)
    a, b = (_scaled(array)[0] for array in (a, b))
    a, b = a / jnp.linalg.norm(a), b / jnp.linalg.norm(b)
    return jnp.degrees(2 * jnp.arctan2(jnp.linalg.norm(a - b), jnp.linalg.norm(a + b)))


def feedback_angles(
    params: chex.ArrayTree,
    model_state: chex.ArrayTree,
    feedback: str | Mapping[str, str],
    seeds: bool | None = None,
) -> dict[str, chex.Array]:
    """Angle between each layer's forward and feedback weights, for every seed.

    Args:
      params: parameters of one network, or of several with one leading axis of seeds.
      model_state: the other collections, likewise.
      feedback: the kind of pathway, one of ``qagrel_jax.layers.FEEDBACKS``; or, where layers
        differ, ``{layer: kind}``, those not named being tied.
      seeds: whether there is that leading axis; None: where kernels have 3, 5 or 7 axes, one more
        than dense, convolutional (two-dimensional) and locally connected ones. Say it for kernels
        of other shapes.

    Returns:
      ``{layer: float[] or float[seeds], in degrees}`` of every layer with a kernel, as they are
      named; a layer within a module is ``module/layer``. None of ``direct`` layers, whose weights
      have no forward partners. With one kind, a layer without feedback weights in a network that
      has some is tied, 0 degrees.

    Raises:
      ValueError: an unknown kind of ``feedback``; without ``seeds``, layers of which some seem to
        have an axis in front (``nn.vmap``, ``nn.scan``) and some none.
      TypeError: ``seeds`` is neither True, False nor None.
      KeyError: variables of another kind of pathway; a layer that is not there.

    >>> import jax.numpy as jnp
    >>> params = {"out": {"kernel": jnp.eye(2), "feedback_kernel": jnp.ones((2, 2))}}
    >>> round(float(feedback_angles(params, {}, "kolen_pollack")["out"]), 3)
    45.0
    >>> params["in"] = {"kernel": jnp.array([[3.0, -4.0]])}
    >>> mixed = feedback_angles(params, {}, {"in": "sign", "out": "kolen_pollack"})
    >>> {layer: round(float(angle), 2) for layer, angle in mixed.items()}
    {'out': 45.0, 'in': 8.13}
    """
    if seeds is not None:
        checks.flag("seeds", seeds)
    weights = flat_layers("params", params)
    pairs = {
        "/".join(layer): (weights[*layer, "kernel"], down)
        for layer, down in feedback_kernels(params, model_state, feedback).items()
    }
    in_front = {
        layer: kernel.ndim % 2 if seeds is None else seeds for layer, (kernel, _) in pairs.items()
    }
    if len(set(in_front.values())) > 1:
        one, other = (next(k for k, v in in_front.items() if v == odd) for odd in (1, 0))
        raise ValueError(
            f"the kernels of layers {one!r} {pairs[one][0].shape} and {other!r} "
            f"{pairs[other][0].shape} cannot both be those of one network or both have an axis of "
            "seeds: say seeds=True or False, or give layers of nn.vmap and nn.scan apart"
        )
    angle = jax.vmap(angle_degrees) if any(in_front.values()) else angle_degrees
    return {layer: angle(*pair) for layer, pair in pairs.items()}


def layer_angles(a: chex.ArrayTree, b: chex.ArrayTree) -> dict[str, chex.Array]:
    """Angle, layer by layer, between two updates of one network's kernels.

    Args:
      a: shaped like the parameters, ``{layer: {"kernel": ..., ...}}``; modules may be nested.
      b: likewise.

    Returns:
      ``{layer: float[] in degrees}`` for every layer with a kernel; NaN where one update is zero.

    Raises:
      ValueError: no layer has a kernel; a layer with a kernel in one of the two alone.
      TypeError: an update that is no dictionary of layers.

    >>> import jax.numpy as jnp
    >>> a, b = {"out": {"kernel": jnp.eye(2)}}, {"out": {"kernel": jnp.ones((2, 2))}}
    >>> round(float(layer_angles(a, b)["out"]), 3)
    45.0
    """
    ours, others = kernels(a), kernels(b)
    if apart := ours.keys() ^ others.keys():
        raise ValueError(f"a and b differ in the kernels of {', '.join(sorted(apart))}")
    return {layer: angle_degrees(kernel, others[layer]) for layer, kernel in ours.items()}


def update_angles(
    key: chex.PRNGKey,
    rule: Rule,
    forward: Forward,
    tied: Forward,
    params: chex.ArrayTree,
    inputs: chex.Array,
    answer: Callable[[chex.Array], chex.Array],
) -> UpdateAngles:
    """Compare a rule's update on one batch with the true gradient of the same loss, by layer.

    With e the rule's error on the outputs, J_B the Jacobian of the outputs as the feedback weights
    have it and J that of the forward weights,

        u = J_Bᵀ e,        g = Jᵀ e.

    For backprop g is the gradient of the cross-entropy, for Q-AGREL that of ½(r − q_s)² with the
    actions s that were chosen. Both updates are made with the same key: the same actions are chosen
    and the same rewards come.

    Args:
      key: of the choices.
      rule: a one-step rule whose teaching signal runs down feedback pathways.
      forward: ``(params, inputs) -> outputs [batch, actions]`` with the feedback pathway.
      tied: the same network with tied feedback; feedback weights among ``params`` it leaves alone.
      params: of both.
      inputs: float[batch, ...].
      answer: ``actions int32[batch] -> outcomes [batch]``: rewards, or labels if the rule is told
        labels.

    Returns:
      ``UpdateAngles``; an angle is NaN where update or gradient is zero, a ratio of norms where
      both are (infinite where only the gradient is).

    Raises:
      ValueError: no layer has a kernel.
      TypeError: parameters that are no dictionary of layers.

    >>> import jax, jax.numpy as jnp
    >>> from qagrel_jax import make_network, rules
    >>> network, inputs = make_network("dense", 2, hidden=(9,), feedback="random"), jnp.eye(3)
    >>> variables = network.init(jax.random.key(0), inputs)
    >>> def forward(params, x, network=network):
    ...     return network.apply({**variables, "params": params}, x)
    >>> def tied(params, x):
    ...     return forward(params, x, network.clone(feedback="tied"))
    >>> found = update_angles(jax.random.key(1), rules.q_agrel(), forward, tied,
    ...     variables["params"], inputs, lambda actions: jnp.ones(3))
    >>> bool(found.angle["Dense_0"] > 1), bool(found.angle["Dense_1"] < 1)
    (True, True)
    """

    def update(run: Forward) -> chex.ArrayTree:
        decision = rule.act(jax.random.clone(key), run, params, inputs)  # the same one
        return rule.update(decision, answer(decision.action))[0]

    ours, true = update(forward), update(tied)
    gradients = kernels(true)
    ratios = {
        layer: _norm(kernel) / _norm(gradients[layer]) for layer, kernel in kernels(ours).items()
    }
    return UpdateAngles(layer_angles(ours, true), ratios)


def tangent_kernel(
    forward: Forward, params: chex.ArrayTree, inputs: chex.Array
) -> dict[str, chex.Array]:
    """Squared norm of the gradient of the greedy output, input by input and layer by layer.

    With s the action of the largest output, of several the first,

        K_l(x) = ‖∂q_s(x)/∂w_l‖²,

    the diagonal of the neural tangent kernel. To first order an update w ← w + β δ ∂q_s/∂w made of
    x alone changes q_s(x) by β δ Σ_l K_l(x): K says how fast a reward-prediction error shrinks.

    Args:
      forward: ``(params, inputs) -> outputs [batch, actions]``, with tied feedback: along other
        feedback pathways it is not the gradient that arrives.
      params: of one network.
      inputs: float[batch, ...].

    Returns:
      ``{layer: float[batch]}``, over all parameters of each layer, as they are named; a layer
      within a module is ``module/layer``.

    Raises:
      TypeError: ``params`` are no dictionary.

    Reference:
      Jacot, Gabriel & Hongler (2018), Neural tangent kernel, NeurIPS.

    >>> import jax.numpy as jnp
    >>> params = {"out": {"kernel": jnp.array([[2.0, 0.0], [0.0, 1.0]])}}
    >>> forward = lambda params, x: x @ params["out"]["kernel"]
    >>> tangent_kernel(forward, params, jnp.array([[3.0, 4.0]]))["out"].tolist()
    [25.0]
    """

    checks.instance("params", params, Mapping)

    def of_one(one: chex.Array) -> dict[str, chex.Array]:
        def greedy_output(weights: chex.ArrayTree) -> chex.Array:
            outputs = forward(weights, one[None])[0]
            return outputs[outputs.argmax()]  # not max, whose gradient is divided among ties

        gradients = jax.grad(greedy_output)(params)
        layers: dict[str, chex.Array] = {}
        for (*layer, last), gradient in flat_layers("params", gradients).items():
            name = "/".join(layer) or last  # a parameter by itself has a name of its own
            layers[name] = layers.get(name, 0) + jnp.vdot(gradient, gradient)
        return layers

    # One after another: a gradient an input would take as many times the network's memory.
    return jax.lax.map(of_one, inputs)


def _norm(array: chex.Array) -> chex.Array:
    scaled, largest = _scaled(array)
    return jnp.where(largest > 0, largest * jnp.linalg.norm(scaled), largest)


def _scaled(array: chex.Array) -> tuple[chex.Array, chex.Array]:
    """Return an array as a vector of which no square under- or overflows, and its scale."""
    flat = at_least_float32(array).ravel()
    largest = jnp.abs(flat).max(initial=0)
    return flat / largest, largest
