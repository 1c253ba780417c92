"""Recurrent networks that settle, and that of visual routines, in which activity spreads.

``Recurrent`` is what ``qagrel_jax.rules.relearnn`` asks of a network: three pure functions.

``GridNet`` traces curves. Every pixel of an image has units of several features in each layer.
Units of the *feedforward* group tell what is seen. Units of the *modulated* group, gated by
feedforward units of the same pixel, carry enhanced activity from pixel to neighboring pixel, but
only where something is seen. With X the image (0 or 1), one step is

    X^m  = φ(X  ∘ U [1, Y1, Y1^m, X^m]),     Y1 = φ(V [1, X, X^m]),
    Y1^m = φ(Y1 ∘ T [1, Y2]),                Y2 = φ(R [1, Y1, Y1^m]),

from top left to bottom right, each with the newest activity of the others. The weights reach the
same pixel and its four neighbors; 1 is the bias, and X^m reaches itself at the same pixel only.
Each pixel is an action:

    q(pixel) = w_0 + w_1 · Y2(pixel) + w_2 · mean of Y2 over all other pixels + w_3 · X^m(pixel).

φ is a ReLU that grows like a logarithm above 6. Weights are *shared*, the same for all pixels and
for the four neighbors, or *unshared*, each synapse for itself.

Details that are not the published ones: X^m reaches itself through a full matrix between the
features (published: a weight for each feature), and the other pixels' activity reaches an output as
a mean, not as a sum. How the unshared output weights were arranged is not known: here each pixel
has its own w.

Reference:
  Mollard, Bohté & Roelfsema (2024), PLoS Comput Biol 20(4): e1012030, and the authors' code.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from qagrel_jax import checks
from qagrel_jax.layers import FEEDBACKS, Dense, LocallyConnected
from qagrel_jax.layers.feedback import canonical

KNEE = 6.0
"""Activity up to which ``squash`` is a ReLU."""

OTHER_PIXELS = -2.24
"""Initial weights from the other pixels' mean, in units of the others: −0.01 · 224 pixels."""

NEIGHBOR_RATE = 0.25
"""Learning rate of weights that four neighbors share, as a part of that of the others, ..."""
OUTPUT_RATE = 0.05
"""... and of weights onto the outputs, which all pixels share."""

NOT_RECURRENT = ("direct", "sign_batchwise")
"""Kinds of feedback that ``GridNet`` cannot have."""


class Recurrent(NamedTuple):
    """A recurrent network as three pure functions over a batch.

    The state is any pytree of arrays [batch, ...].
    """

    start: Callable[[chex.Array], Any]  # (inputs) -> state before the first step
    step: Callable[[Any, Any, chex.Array], Any]  # (params, state, inputs) -> state
    read_out: Callable[[Any, Any], chex.Array]  # (params, state) -> outputs [batch, actions]


class GridState(NamedTuple):
    """Activity of the units that change from step to step."""

    modulated_input: chex.Array  # float[batch, n, n, colors], X^m
    hidden: chex.Array  # float[batch, n, n, features], Y1
    modulated_hidden: chex.Array  # float[batch, n, n, features], Y1^m
    top: chex.Array  # float[batch, n, n, features], Y2


def squash(drive: chex.Array) -> chex.Array:
    """Return a unit's activity: max(u, 0) up to 6, above 6 + log((1.5 u + 1) / 10).

    Args:
      drive: float[...], u.

    Returns:
      float[...].

    >>> import jax.numpy as jnp
    >>> squash(jnp.array([-1.0, 2.0, 6.0])).tolist()
    [0.0, 2.0, 6.0]
    """
    above = jnp.log((1.5 * jnp.maximum(drive, KNEE) + 1) / (1.5 * KNEE + 1))
    return jnp.where(drive > KNEE, KNEE + above, nn.relu(drive))


class GridNet(nn.Module):
    """The network of the module's docstring; ``as_recurrent`` makes a ``Recurrent`` of it.

    Attributes:
      features: units of each group at each pixel of the hidden layers.
      colors: channels of the images.
      shared: one weight for all pixels and for the four neighbors, or one for each synapse.
      feedback: one of ``qagrel_jax.layers.FEEDBACKS``.
      weight_range: initial weights are uniform in [0, weight_range]; those from all other pixels
        together to an output in [−2.24 weight_range, 0], on 15 × 15 pixels −0.01 weight_range each.

    Raises:
      ValueError: sizes below 1, a negative ``weight_range``, a feedback that is unknown or needs
        what a settling network has not: the outputs' errors (``direct``), a draw in each pass
        (``sign_batchwise``).
      TypeError: an attribute of another type.
    """

    features: int = 4
    colors: int = 4
    shared: bool = True
    feedback: str = "tied"
    weight_range: float = 0.1

    def __post_init__(self) -> None:
        """Check the attributes."""
        super().__post_init__()
        checks.whole("features", self.features)
        checks.whole("colors", self.colors)
        checks.flag("shared", self.shared)
        if canonical(self.feedback) in NOT_RECURRENT:
            valid = ", ".join(kind for kind in FEEDBACKS if kind not in NOT_RECURRENT)
            raise ValueError(
                f"feedback {self.feedback!r} is not for a network that settles; valid: {valid}"
            )
        checks.number("weight_range", self.weight_range, 0)
        checks.make_hashable(self, "features", "colors", "weight_range")

    def setup(self) -> None:
        """Make the layers."""
        self.to_modulated_input = self._layer(self.colors)
        self.to_hidden = self._layer(self.features)
        self.to_modulated_hidden = self._layer(self.features)
        self.to_top = self._layer(self.features)
        self.to_output = self._layer(1, output=True)

    def __call__(self, state: GridState, images: chex.Array) -> tuple[GridState, chex.Array]:
        """Take a step and read it out; see ``step`` and ``read_out``."""
        state = self.step(state, images)
        return state, self.read_out(state)

    def step(self, state: GridState, images: chex.Array) -> GridState:
        """Return the activity after one step.

        Args:
          state: the activity before.
          images: float[batch, n, n, colors], X.

        Returns:
          The ``GridState`` after it.
        """
        around = self._around(state.hidden, state.modulated_hidden)
        drive = self.to_modulated_input(_with_bias(around, state.modulated_input))
        modulated_input = squash(images * drive)
        hidden = squash(self.to_hidden(_with_bias(self._around(images, modulated_input))))
        gate = self.to_modulated_hidden(_with_bias(self._around(state.top)))
        modulated_hidden = squash(hidden * gate)
        top = squash(self.to_top(_with_bias(self._around(hidden, modulated_hidden))))
        return GridState(modulated_input, hidden, modulated_hidden, top)

    def read_out(self, state: GridState) -> chex.Array:
        """Return Q values: one for each pixel, row by row.

        Args:
          state: the activity.

        Returns:
          float[batch, n·n].
        """
        batch, height, width, _ = state.top.shape
        total = state.top.sum((1, 2), keepdims=True)
        # A single pixel has no others: their mean is 0.
        others = (total - state.top) / max(height * width - 1, 1)
        q_values = self.to_output(_with_bias(state.top, others, state.modulated_input))
        return q_values.reshape(batch, height * width)

    def _around(self, *groups: chex.Array) -> chex.Array:
        """Return what a pixel's units see: the pixel, and its neighbors, added up if shared."""
        here = jnp.concatenate(groups, axis=-1)
        neighbors = _neighbors(here)
        if self.shared:
            return jnp.concatenate([here, sum(neighbors)], axis=-1)
        return jnp.concatenate([here, *neighbors], axis=-1)

    def _layer(self, features: int, output: bool = False) -> nn.Module:
        # At every pixel the same: a dense layer over the features is a 1 x 1 convolution.
        kind = Dense if self.shared else functools.partial(LocallyConnected, window=(1, 1))
        draw = self._draw_output if output else self._draw
        return kind(features, feedback=self.feedback, kernel_init=draw)

    def _draw(self, key: chex.PRNGKey, shape: Sequence[int], dtype: Any = float) -> chex.Array:
        return jax.random.uniform(key, tuple(shape), dtype, 0, self.weight_range)

    def _draw_output(
        self, key: chex.PRNGKey, shape: Sequence[int], dtype: Any = float
    ) -> chex.Array:
        """Inputs are, in this order: the bias, Y2, the others' Y2, and X^m."""
        scale = np.ones((shape[-2], 1))
        scale[1 + self.features : 1 + 2 * self.features] = OTHER_PIXELS
        return self._draw(key, shape, dtype) * jnp.asarray(scale, dtype).reshape(
            *(1,) * (len(shape) - 2), -1, 1
        )


def as_recurrent(network: GridNet, variables: Mapping[str, Any] | None = None) -> Recurrent:
    """Make the three functions of a ``Recurrent`` of a ``GridNet``.

    Args:
      network: the module.
      variables: collections beside the parameters (``feedback`` weights that do not learn), or all
        that ``init`` returned, whose parameters are not used.

    Returns:
      A ``Recurrent``, from inputs float[batch, n, n, colors] to outputs float[batch, n·n].

    Raises:
      TypeError: ``network`` is no ``GridNet``, ``variables`` no mapping.

    >>> import jax, jax.numpy as jnp
    >>> images, network = jnp.zeros((2, 15, 15, 4)), GridNet()
    >>> functions = as_recurrent(network)
    >>> start = functions.start(images)
    >>> params = network.init(jax.random.key(0), start, images)["params"]
    >>> functions.read_out(params, functions.step(params, start, images)).shape
    (2, 225)
    """
    checks.instance("network", network, GridNet)
    if variables is not None:
        checks.instance("variables", variables, Mapping)
    fixed = {name: value for name, value in (variables or {}).items() if name != "params"}

    def start(images: chex.Array) -> GridState:
        checks.shape("images", images, "batch", "height", "width", network.colors)
        hidden = jnp.zeros((*images.shape[:3], network.features), images.dtype)
        return GridState(jnp.zeros_like(images), hidden, hidden, hidden)

    def step(params: Any, state: GridState, images: chex.Array) -> GridState:
        return network.apply({"params": params, **fixed}, state, images, method="step")  # type: ignore[return-value]

    def read_out(params: Any, state: GridState) -> chex.Array:
        return network.apply({"params": params, **fixed}, state, method="read_out")

    return Recurrent(start, step, read_out)


def relative_rates(
    network: GridNet,
    params: chex.ArrayTree,
    neighbors: float = NEIGHBOR_RATE,
    outputs: float = OUTPUT_RATE,
) -> chex.ArrayTree:
    """Return what the traces of each shared weight of a ``GridNet`` are scaled with.

    A shared weight stands for many synapses, and its gradient is the sum of their traces. The
    authors' code takes the mean over a pixel's four neighbors, and smaller parts still in the
    output layer:

        Δw = α δ rate Σ of its synapses' traces,    rate = 1/4 from neighbors, 1/20 onto outputs.

    How small the latter are is not known to us. ``relearnn`` takes the rates as its ``scale``.

    Args:
      network: the module.
      params: its parameters, or anything of their structure and shapes.
      neighbors: rate of weights from neighbors.
      outputs: rate of the output layer. All other weights, and unshared ones, have 1.

    Returns:
      As ``params``.

    Raises:
      ValueError: a negative rate.
      TypeError: ``network`` is no ``GridNet``, a rate no number.

    >>> import jax, jax.numpy as jnp
    >>> images, network = jnp.zeros((1, 5, 5, 4)), GridNet()
    >>> start = as_recurrent(network).start(images)
    >>> params = network.init(jax.random.key(0), start, images)["params"]
    >>> relative_rates(network, params)["to_modulated_hidden"]["kernel"][:, 0].tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 0.25, 0.25, 0.25, 0.25]
    """
    checks.instance("network", network, GridNet)
    checks.number("neighbors", neighbors, 0)
    checks.number("outputs", outputs, 0)
    if not network.shared:
        return jax.tree.map(jnp.ones_like, params)
    seen_here = {
        "to_modulated_input": 2 * network.features,
        "to_hidden": 2 * network.colors,
        "to_modulated_hidden": network.features,
        "to_top": 2 * network.features,
    }

    def of_layer(path: tuple, weights: chex.Array) -> chex.Array:
        layer, ones = path[0].key, jnp.ones_like(weights)
        if layer == "to_output":
            return ones * outputs
        here = seen_here[layer]
        # After the bias and the pixel itself.
        return ones.at[1 + here : 1 + 2 * here].set(neighbors)

    return jax.tree_util.tree_map_with_path(of_layer, params)


def _with_bias(*groups: chex.Array) -> chex.Array:
    """Put a unit that is always 1 before the features of the groups."""
    return jnp.concatenate([jnp.ones_like(groups[0][..., :1]), *groups], axis=-1)


def _neighbors(images: chex.Array) -> list[chex.Array]:
    """Return what is above, below, left and right of each pixel; 0 beyond the edge."""
    height, width = images.shape[1:3]
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return [
        padded[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width]
        for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1))
    ]
