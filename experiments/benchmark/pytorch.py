"""The same networks and training step, written plainly in PyTorch, to be timed beside ours.

PyTorch is no dependency: ask ``importable`` before calling anything else. What makes plain
PyTorch fast is used: as many threads as cores, ``channels_last`` where a trial shows it to be
faster, cuDNN's search, denormals flushed, gradients set to None, images and labels on the device.
Every training is timed eager, and with the network through ``torch.compile`` where that works.
"""

import functools
import importlib.util
import math
import os
import timeit
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.benchmark.timing import Subject
from experiments.config import Config

if TYPE_CHECKING:
    import torch

DENSE_HIDDEN = (1500, 1000, 500)
FORMATS = {"contiguous": "contiguous_format", "channels_last": "channels_last"}
DEEP_BLOCKS = ((64, 2, 0.3), (128, 2, 0.3), (128, 3, 0.8))


def importable() -> bool:
    """Whether PyTorch is there; it is not imported."""
    return importlib.util.find_spec("torch") is not None


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device() -> "torch.device | None":
    """Return the device like JAX's default one; None where PyTorch cannot reach such a one."""
    import jax
    import torch

    if jax.default_backend() == "cpu":
        return torch.device("cpu")
    return torch.device("cuda") if torch.cuda.is_available() else None


@functools.cache
def compiles(on: "torch.device") -> bool:
    """Whether ``torch.compile`` works: it needs a C++ compiler, on an accelerator Triton."""
    import torch

    try:
        torch.compile(lambda x: 2 * x + 1)(torch.ones(4, device=on))
    except Exception:  # of PyTorch's many kinds of compilers
        return False
    return True


def set_up(precision: str) -> None:
    """Choose PyTorch's fastest settings that keep ``precision``."""
    import torch

    torch.set_num_threads(cores())
    torch.set_flush_denormal(True)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = precision == "tensorfloat32"
    torch.backends.cuda.matmul.allow_tf32 = precision == "tensorfloat32"


def make_network(
    architecture: str,
    image_shape: tuple[int, ...],
    num_actions: int,
    hidden: tuple[int, ...] | None = None,
) -> "torch.nn.Module":
    """Build one of the papers' networks: the layers of ``qagrel_jax.networks``, no biases.

    Maps float[batch, channels, height, width] to float[batch, num_actions]. Feature maps are
    flattened in the order height, width, channels, as ours are.
    """
    from torch import nn

    from experiments.benchmark import torch_layers as layers

    if architecture == "dense":
        sizes = hidden or DENSE_HIDDEN
        rest = layers.dense_layers(math.prod(image_shape), sizes, num_actions)
        return nn.Sequential(layers.Flatten(), *rest)
    plan: list[tuple] = [("conv", 32, 1), ("conv", 32, 2), ("dropout", 0.3)]
    if architecture == "deep":
        plan = [
            step
            for features, times, dropout in DEEP_BLOCKS
            for step in [("conv", features, 1)] * times + [("pool",), ("dropout", dropout)]
        ]
    kind = layers.Unshared if architecture == "locally_connected" else layers.Shared
    modules, inputs = layers.feature_layers(kind, plan, image_shape)
    return nn.Sequential(*modules, *layers.dense_layers(inputs, (500,), num_actions, dropout=0.3))


def make_optimizer(
    network: "torch.nn.Module", learning_rate: float, l2: float
) -> "torch.optim.Optimizer":
    """Plain SGD; the penalty l2·Σw² on kernels alone."""
    import torch

    normalization = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    scales = {id(p) for m in normalization for p in m.parameters()}
    kernels = [p for p in network.parameters() if id(p) not in scales]
    groups: list[dict[str, Any]] = [
        {"params": kernels, "weight_decay": 2 * l2},
        {"params": [p for m in normalization for p in m.parameters()]},
    ]
    return torch.optim.SGD([g for g in groups if g["params"]], lr=learning_rate)


def loss(
    rule: str, outputs: "torch.Tensor", labels: "torch.Tensor", epsilon: float
) -> "torch.Tensor":
    """Return what a step of ``rule`` descends: cross-entropy, or ½δ² of the chosen action."""
    import torch

    if rule == "backprop":
        return torch.nn.functional.cross_entropy(outputs, labels)
    with torch.no_grad():
        drawn = torch.multinomial(outputs.float().softmax(1), 1).squeeze(1)
        explore = torch.rand(len(labels), device=outputs.device) < epsilon
        action = torch.where(explore, drawn, outputs.argmax(1))
        reward = (action == labels).to(outputs.dtype)
    return 0.5 * (reward - outputs.gather(1, action[:, None]).squeeze(1)).square().mean()


class Side:
    """The training of one cell in PyTorch, in the memory format that is faster here.

    Args:
      config: the experiment: architecture, learning rate, L2, ε, precision.
      images: uint8[n, height, width, channels].
      labels: int[n].
      rows: int[steps, batch], the images of each step.
      num_actions: output units.
      on: device.

    Attributes:
      memory_format: "contiguous" or "channels_last".
    """

    def __init__(
        self,
        config: Config,
        images: np.ndarray,
        labels: np.ndarray,
        rows: np.ndarray,
        num_actions: int,
        on: "torch.device",
    ) -> None:
        import torch

        self._config, self._on, self._num_actions = config, on, num_actions
        self._images = torch.tensor(images, device=on).permute(0, 3, 1, 2)
        self._labels = torch.tensor(labels, dtype=torch.long, device=on)
        self._rows = torch.tensor(rows, dtype=torch.long, device=on)
        self.memory_format = "contiguous"
        if config.architecture != "dense":
            seconds = {}
            for name in ("contiguous", "channels_last"):
                self.memory_format = name
                call = self._training("backprop")
                call()
                seconds[name] = min(timeit.repeat(call, number=1, repeat=2))
            self.memory_format = min(seconds, key=seconds.__getitem__)

    def subject(self, rule: str, compiled: bool = False) -> Subject:
        """Build the training of "q_agrel" (max-Boltzmann) or "backprop".

        Args:
          rule: its name.
          compiled: the network through ``torch.compile``.
        """
        steps, batch = self._rows.shape
        name = f"torch_compiled_{rule}" if compiled else f"torch_{rule}"
        return Subject(name, steps, self._training(rule, compiled), images_per_step=batch)

    def _training(self, rule: str, compiled: bool = False) -> Callable[[], None]:
        import torch

        config, on = self._config, self._on
        layout = {"memory_format": getattr(torch, FORMATS[self.memory_format])}
        image_shape = (*self._images.shape[2:], self._images.shape[1])
        network = make_network(config.architecture, image_shape, self._num_actions, config.hidden)
        network = network.to(on, **layout).train()
        optimizer = make_optimizer(network, config.learning_rate, config.l2)
        forward = torch.compile(network) if compiled else network
        images = self._images.contiguous(**layout)
        cast = config.precision == "bfloat16"

        def call() -> None:
            for row in self._rows:
                inputs = (images[row].float() / 255).contiguous(**layout)
                optimizer.zero_grad(set_to_none=True)
                with torch.autocast(on.type, torch.bfloat16, enabled=cast):
                    outputs = forward(inputs)
                loss(rule, outputs.float(), self._labels[row], config.epsilon).backward()
                optimizer.step()
            if on.type == "cuda":
                torch.cuda.synchronize()

        return call
