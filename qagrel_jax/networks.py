"""The papers' networks, for any image shape and any number of actions: Q-AGREL's four, and AGREL's.

=====================  =========================================================================
``dense``              1500 – 1000 – 500 – out
``conv``               C32 3×3 · C32 3×3 stride 2 · dropout .3 · 500 · dropout .3 · out
``locally_connected``  as ``conv``, kernels unshared, no padding
``deep``               C64 C64 pool dropout .3 · C128 C128 pool dropout .3 · C128 C128 C128 pool
                       dropout .8 · 500 · dropout .3 · out (all 3×3, padded, stride 1)
=====================  =========================================================================

In these four every unit is a ReLU, the output linear, one unit per action; each convolution is
followed by ReLU and then BatchNorm, in this order. There are no biases but BatchNorm's
shift. Initialization:

``paper``  all kernels N(0, 0.005²), the dense network's N(0, 0.01²), as in the authors' published
           code. In the dense network activity all but vanishes at the output, and learning starts
           with a long plateau. The others have BatchNorm, and none was seen on MNIST.
``he``     hidden kernels N(0, 2/fan_in) (He et al. 2015), so that activity keeps its size from
           layer to layer; output kernel N(0, 0.01/fan_in), so that all Q values start near zero,
           no action is favored and the first reward-prediction errors are rewards. The default.
           (With an output kernel of full size the published learning rate of 0.1 diverges.)

They are those of Pozzi, Bohté & Roelfsema (2018, 2020), as in the authors' published code.
``ThreeLayer`` is that of Roelfsema & van Ooyen (2005): sigmoid units, a bias unit.
"""

import functools
import math
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from qagrel_jax import checks
from qagrel_jax.layers import Conv, Dense, Initializer, LocallyConnected, he_normal
from qagrel_jax.layers.feedback import canonical

INITIALIZATIONS = ("he", "paper")

FEEDBACK_INITS = ("kernel", "he")
"""How feedback weights are drawn: as the layer's forward kernel, or by He et al. in every layer."""

SMALL_OUTPUT = nn.initializers.variance_scaling(0.01, "fan_in", "normal")


class _Network(nn.Module):
    """What the four share: the output layer, and how kernels are drawn."""

    num_actions: int
    feedback: str = "tied"
    initialization: str = "he"
    dtype: Any = None
    feedback_init: str = "kernel"
    feedback_scale: float = 1.0
    expansion: int = 4

    paper_sd = 0.005

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.whole("num_actions", self.num_actions)
        canonical(self.feedback)
        checks.option("initialization", self.initialization, INITIALIZATIONS)
        checks.option("feedback_init", self.feedback_init, FEEDBACK_INITS)
        checks.number("feedback_scale", self.feedback_scale, 0, above=True)
        checks.whole("expansion", self.expansion)
        if self.dtype is not None:
            checks.floating_dtype("dtype", self.dtype)

    def _check_floats(self, images: chex.Array) -> None:
        # Parameters may be drawn with images of any kind: only their shape matters.
        if not self.is_initializing():
            checks.floats("images", images)

    def _layer(self, kind: Any, features: int, output: bool = False, **options: Any) -> nn.Module:
        return kind(
            features,
            feedback=self.feedback,
            kernel_init=self._initializer(output),
            feedback_init=he_normal if self.feedback_init == "he" else None,
            feedback_scale=self.feedback_scale,
            num_actions=self.num_actions,
            expansion=self.expansion,
            # It is cheap, and Q values and rewards are compared: never in half precision.
            dtype=None if output else self.dtype,
            **options,
        )

    def _initializer(self, output: bool) -> Initializer:
        match self.initialization:
            case "he":
                return SMALL_OUTPUT if output else he_normal
            case "paper":
                return nn.initializers.normal(self.paper_sd)
        raise AssertionError(self.initialization)

    def _dense(self, x: chex.Array, features: int) -> chex.Array:
        return nn.relu(self._layer(Dense, features)(x))

    def _conv(self, x: chex.Array, features: int, train: bool, **options: Any) -> chex.Array:
        x = nn.relu(self._layer(options.pop("kind", Conv), features, **options)(x))
        # Momentum and epsilon are Keras's defaults, which the authors' code leaves as they are.
        return nn.BatchNorm(
            use_running_average=not train,
            momentum=0.99,
            epsilon=1e-3,
            dtype=self.dtype,
            param_dtype=jnp.result_type(float),
        )(x)

    def _q_values(self, x: chex.Array) -> chex.Array:
        return self._layer(Dense, self.num_actions, output=True)(x)


class DenseNet(_Network):
    """``dense``: 1500 – 1000 – 500 – out (or other ``hidden`` sizes).

    Attributes:
      num_actions: number of output units.
      feedback: one of ``qagrel_jax.layers.FEEDBACKS``.
      initialization: one of ``INITIALIZATIONS``.
      dtype: dtype of the computation; None means that of inputs and parameters.
      feedback_init: one of ``FEEDBACK_INITS``; "he" makes the feedback from the output units as
        strong as that from others, while forward kernels onto them start small.
      feedback_scale: factor on feedback weights that are drawn, and on those of the sign kinds.
      expansion: of ``product`` feedback, see ``qagrel_jax.layers.Dense``.
      hidden: units of each hidden layer.

    Raises:
      ValueError, TypeError: an attribute that is none of these; from a call, images that are not
        floats (``tasks.classification.normalize`` makes them of uint8).
    """

    hidden: tuple[int, ...] = (1500, 1000, 500)

    paper_sd = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.wholes("hidden", self.hidden)

    @nn.compact
    def __call__(self, images: chex.Array, train: bool = False) -> chex.Array:
        """Map float[batch, ...] to Q values float[batch, num_actions]."""
        self._check_floats(images)
        x = _flat(images)
        for features in self.hidden:
            x = self._dense(x, features)
        return self._q_values(x)


class ConvNet(_Network):
    """``conv``, or ``locally_connected``.

    Attributes as in ``DenseNet``, without ``hidden``, and:
      shared: one kernel for all positions (``conv``), or one at each (``locally_connected``).

    Raises:
      ValueError: from a call, images too small for the kernels.
      TypeError: from a call, images that are not floats.
    """

    shared: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.flag("shared", self.shared)

    @nn.compact
    def __call__(self, images: chex.Array, train: bool = False) -> chex.Array:
        """Map float[batch, height, width, channels] to Q values float[batch, num_actions]."""
        self._check_floats(images)
        kind, padding = (Conv, "SAME") if self.shared else (LocallyConnected, "VALID")
        x = self._conv(images, 32, train, kind=kind, padding=padding)
        x = self._conv(x, 32, train, kind=kind, padding=padding, strides=(2, 2))
        x = nn.Dropout(0.3, deterministic=not train)(x)
        x = self._dense(_flat(x), 500)
        x = nn.Dropout(0.3, deterministic=not train)(x)
        return self._q_values(x)


class DeepNet(_Network):
    """``deep``: seven convolutions in three blocks, 500 units.

    Attributes as in ``DenseNet``, without ``hidden``.

    Raises:
      ValueError: from a call, images of less than 8 × 8 pixels: three poolings leave nothing.
      TypeError: from a call, images that are not floats.
    """

    @nn.compact
    def __call__(self, images: chex.Array, train: bool = False) -> chex.Array:
        """Map float[batch, height, width, channels] to Q values float[batch, num_actions]."""
        self._check_floats(images)
        if min(images.shape[1:3]) < 8:
            raise ValueError(f"deep needs images of at least 8 x 8 pixels, got {images.shape[1:3]}")
        x = images
        for features, convolutions, dropout in ((64, 2, 0.3), (128, 2, 0.3), (128, 3, 0.8)):
            for _ in range(convolutions):
                x = self._conv(x, features, train)
            x = _max_pool(x)
            x = nn.Dropout(dropout, deterministic=not train)(x)
        x = self._dense(_flat(x), 500)
        x = nn.Dropout(0.3, deterministic=not train)(x)
        return self._q_values(x)


ARCHITECTURES: dict[str, Any] = {
    "dense": DenseNet,
    "conv": ConvNet,
    "locally_connected": functools.partial(ConvNet, shared=False),
    "deep": DeepNet,
}
"""The papers' networks by name."""


def make_network(
    architecture: str,
    num_actions: int,
    *,
    feedback: str = "tied",
    initialization: str = "he",
    dtype: Any = None,
    **options: Any,
) -> nn.Module:
    """Build one of the papers' networks by name.

    Args:
      architecture: a key of ``ARCHITECTURES``.
      num_actions: number of output units, ≥ 1.
      feedback: one of ``qagrel_jax.layers.FEEDBACKS``.
      initialization: one of ``INITIALIZATIONS``.
      dtype: dtype of the computation, e.g. ``jnp.bfloat16``; parameters, BatchNorm's statistics and
        the output layer stay float32.
      **options: further attributes of the architecture: ``hidden`` sizes of ``dense``,
        ``feedback_init``, ``feedback_scale`` and ``expansion`` of the feedback pathway.

    Returns:
      A Linen module ``(images float[batch, height, width, channels], train) -> float[batch,
      num_actions]``. With ``train=True`` it needs the random stream ``"dropout"`` and changes the
      collection ``"batch_stats"``.

    Raises:
      ValueError: an unknown name, ``num_actions`` or a size below 1.
      TypeError: an option that the architecture does not have, or a value of another type.

    >>> import jax, jax.numpy as jnp
    >>> network = make_network("dense", num_actions=10)
    >>> variables = network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    >>> network.apply(variables, jnp.zeros((2, 8, 8, 1))).shape
    (2, 10)
    """
    checks.option("architecture", architecture, ARCHITECTURES)
    if "shared" in options:
        raise TypeError(
            "shared is no option: 'conv' has shared weights, 'locally_connected' has not"
        )
    return ARCHITECTURES[architecture](
        num_actions=num_actions,
        feedback=canonical(feedback),
        initialization=initialization,
        dtype=dtype,
        **options,
    )


def _flat(images: chex.Array) -> chex.Array:
    return images.reshape(images.shape[0], math.prod(images.shape[1:]))  # of no image, too


def _max_pool(images: chex.Array) -> chex.Array:
    # Same values as a 2x2 reduce_window, whose backward pass (select-and-scatter) is slow. Reshaped
    # an axis at a time, as batches divided over a mesh with explicit axes can be.
    batch, height, width, channels = images.shape
    height, width = height // 2, width // 2
    tiles = images[:, : 2 * height, : 2 * width].reshape(batch, height, 2, 2 * width, channels)
    tiles = tiles.reshape(batch, height, 2, width, 2, channels)
    return jnp.max(tiles, axis=(2, 4))


class ThreeLayer(nn.Module):
    """AGREL's network: input and bias unit – sigmoid hidden layer – linear output.

    y_j = σ(Σ_i v_ij x_i), z_k = Σ_j w_jk y_j, with x_0 = 1 the bias unit. The competition among the
    outputs (softmax) is the rule's. Initial weights are uniform in [−spread, spread]. Roelfsema &
    van Ooyen (2005).

    Attributes:
      num_actions: number of output units.
      hidden: number of hidden units.
      feedback: how attention comes down from the output layer; one of
        ``qagrel_jax.layers.FEEDBACKS``. The hidden layer's own, to the inputs, where nothing
        learns, is tied: to ``analysis.feedback_angles`` say ``{"output": feedback}``.
      spread: half the width of the initial distribution.

    Raises:
      ValueError, TypeError: an attribute that is none of these.
    """

    num_actions: int
    hidden: int
    feedback: str = "tied"
    spread: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.whole("num_actions", self.num_actions)
        checks.whole("hidden", self.hidden)
        canonical(self.feedback)
        checks.number("spread", self.spread, 0)

    @nn.compact
    def __call__(self, inputs: chex.Array, train: bool = False) -> chex.Array:
        """Map float[batch, ...] to float[batch, num_actions], the activations before softmax."""
        if not self.is_initializing():
            checks.floats("inputs", inputs)
        x = _flat(inputs)
        x = jnp.concatenate([jnp.ones((x.shape[0], 1), x.dtype), x], axis=1)

        def uniform(key: chex.PRNGKey, shape: Any, dtype: Any = float) -> chex.Array:
            return jax.random.uniform(key, shape, dtype, -self.spread, self.spread)

        y = nn.sigmoid(Dense(self.hidden, kernel_init=uniform, name="hidden")(x))
        return Dense(
            self.num_actions,
            feedback=self.feedback,
            kernel_init=uniform,
            num_actions=self.num_actions,
            name="output",
        )(y)
