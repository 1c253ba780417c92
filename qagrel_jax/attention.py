"""Attention feedback made visible: what reaches each unit from a chosen one, down to the input."""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from qagrel_jax import checks
from qagrel_jax.layers.interception import each_call, has_kernel


class Attention(NamedTuple):
    """Activity on the way up and feedback on the way down, for a batch; layers by name, upwards.

    A layer that runs twice is there twice, the second time as ``layer:2``; of one that returns a
    tuple there is a tuple.
    """

    outputs: chex.Array  # float[batch, actions], Q values
    drive: dict[str, chex.Array]  # {layer: float[batch, ...]}, a_l: what its units receive
    feedback: dict[str, chex.Array]  # {layer: same shape}, g_l ∘ FB_l: what their synapses meet
    inputs: chex.Array  # float[batch, ...], FB_0: the feedback that reaches the input


def attend(
    network: nn.Module,
    variables: chex.ArrayTree,
    inputs: chex.Array,
    actions: chex.Array,
    **options: Any,
) -> Attention:
    r"""Compute the attention feedback from one output unit of each example, down to the input.

    Feedback starts at output unit s with value 1 and runs down the layers' feedback pathways, gated
    by the derivative g_l = f'(a_l) of each unit's activation function:

        FB_{l−1} = W'_l (g_l ∘ FB_l),        FB_0 = W'_1 (g_1 ∘ FB_1) at the input,

    with feedback weights W' [inputs, units] shaped like the forward weights; at the output g ∘ FB
    is 1 at unit s and 0 at the others. g_l ∘ FB_l times δ and the presynaptic activity is the
    change of the synapses onto layer l (``qagrel_jax.q_agrel``). With tied feedback FB_0 is
    ∂q_s/∂x, a saliency map. With any other pathway it is what the network itself can know of that.

    Args:
      network: a Linen module ``inputs -> outputs [batch, actions]``; its layers are the submodules
        with a ``kernel``.
      variables: its parameters and other collections; nothing of them changes.
      inputs: float[batch, ...]; of images the pixels in [0, 1], as in training.
      actions: int[batch], the unit to start from; outside [0, actions) there is no feedback.
      **options: further arguments of the network, such as ``train=False``, or ``train=True`` and
        ``rngs`` for what it is like in learning. What then changes, such as BatchNorm's running
        statistics, is dropped.

    Returns:
      An ``Attention``.

    Raises:
      TypeError: ``network`` is no Flax module; ``actions`` are no whole numbers; ``inputs`` are not
        floats: nothing could be differentiated by them; a network that returns more than outputs.
      ValueError: ``actions`` is not [batch]; a layer inside a transform of a part of the network.

    Reference:
      Pozzi, Bohté & Roelfsema (2018), arXiv:1811.01768.

    >>> from qagrel_jax.layers import Dense
    >>> network, x = Dense(2), jnp.array([[1.0, 1.0, 1.0]])
    >>> kernel = jnp.array([[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]])
    >>> attend(network, {"params": {"kernel": kernel}}, x, jnp.array([1])).inputs.tolist()
    [[4.0, 5.0, 6.0]]
    """
    checks.instance("network", network, nn.Module, "attention is read off its layers")
    checks.floats("inputs", inputs)
    actions = jnp.asarray(actions)
    checks.whole_numbers("actions", actions)
    checks.one_each("actions", actions, len(inputs))
    order: dict[str, None] = {}
    changing = [collection for collection in variables if collection != "params"]

    def run(added: dict, inputs: chex.Array) -> tuple[chex.Array, dict]:
        drive: dict[str, chex.Array] = {}

        def tap(layer, following, args, kwargs):
            outputs = following(*args, **kwargs)
            name = "/".join(layer.path)
            calls = sum(name == other.split(":")[0] for other in drive)
            name = f"{name}:{calls + 1}" if calls else name
            drive[name] = outputs
            order[name] = None
            return jax.tree.map(jnp.add, outputs, added[name]) if name in added else outputs

        with each_call(tap, has_kernel):
            outputs, _ = network.apply(variables, inputs, mutable=changing, **options)
            return outputs, drive

    # Nothing added to what the units receive: the cotangent of it is the feedback they get.
    outputs, shapes = jax.eval_shape(run, {}, inputs)
    if not hasattr(outputs, "shape"):
        raise TypeError(
            f"network must return outputs [batch, actions], got {type(outputs).__name__}"
        )
    nothing = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    outputs, down, drive = jax.vjp(run, nothing, inputs, has_aux=True)
    feedback, at_inputs = down(jax.nn.one_hot(actions, outputs.shape[-1], dtype=outputs.dtype))
    # jax.vjp sorts dictionaries by key; the order of the forward pass says more.
    drive, feedback = ({name: of[name] for name in order} for of in (drive, feedback))
    return Attention(outputs, drive, feedback, at_inputs)
