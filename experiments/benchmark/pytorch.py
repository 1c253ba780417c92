"""The same networks and training step, written plainly in PyTorch, to be timed beside ours.

PyTorch is no dependency: ask ``importable`` before calling anything else. What makes plain
eager PyTorch fast is used: as many threads as cores, ``channels_last`` where a trial shows it to be
faster, cuDNN's search, denormals flushed, gradients set to None, images and labels on the device.
"""

import importlib.util
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
    import torch
    from torch import nn

    height, width, channels = image_shape

    class Flatten(nn.Module):
        def forward(self, x: "torch.Tensor") -> "torch.Tensor":
            return x.permute(0, 2, 3, 1).flatten(1)

    class Shared(nn.Module):
        """A 3 × 3 convolution, padded as "SAME" pads: with stride 2, at the far side first."""

        def __init__(self, inputs: int, features: int, stride: int, size: tuple[int, int]) -> None:
            super().__init__()
            pads = [max((-(-n // stride) - 1) * stride + 3 - n, 0) for n in size]
            before, after = [p // 2 for p in pads], [p - p // 2 for p in pads]
            self.size = tuple(-(-n // stride) for n in size)
            even = before == after
            self.pads = None if even else (before[1], after[1], before[0], after[0])
            self.conv = nn.Conv2d(
                inputs, features, 3, stride, padding=tuple(before) if even else 0, bias=False
            )

        def forward(self, x: "torch.Tensor") -> "torch.Tensor":
            return self.conv(x if self.pads is None else nn.functional.pad(x, self.pads))

    class Unshared(nn.Module):
        """A 3 × 3 kernel at every position, without padding: unfold, then einsum."""

        def __init__(self, inputs: int, features: int, stride: int, size: tuple[int, int]) -> None:
            super().__init__()
            self.stride, self.size = stride, tuple((n - 3) // stride + 1 for n in size)
            positions = self.size[0] * self.size[1]
            scale = (2 / (9 * inputs)) ** 0.5
            self.weight = nn.Parameter(scale * torch.randn(positions, 9 * inputs, features))

        def forward(self, x: "torch.Tensor") -> "torch.Tensor":
            cut = nn.functional.unfold(x, 3, stride=self.stride)
            y = torch.einsum("bkl,lko->bol", cut, self.weight)
            return y.reshape(*y.shape[:2], *self.size)

    def convolutions(kind: Any, plan: Any) -> tuple[list[nn.Module], int]:
        modules: list[nn.Module] = []
        inputs, size = channels, (height, width)
        for step in plan:
            if step[0] == "conv":
                _, features, stride = step
                layer = kind(inputs, features, stride, size)
                # PyTorch's momentum is one minus Keras's.
                norm = nn.BatchNorm2d(features, eps=1e-3, momentum=0.01)
                modules += [layer, nn.ReLU(), norm]
                inputs, size = features, layer.size
            elif step[0] == "pool":
                modules.append(nn.MaxPool2d(2))
                size = (size[0] // 2, size[1] // 2)
            else:
                modules.append(nn.Dropout(step[1]))
        return [*modules, Flatten()], inputs * size[0] * size[1]

    def readout(inputs: int, sizes: tuple[int, ...], dropout: float = 0.0) -> list[nn.Module]:
        modules: list[nn.Module] = []
        for features in sizes:
            modules += [nn.Linear(inputs, features, bias=False), nn.ReLU()]
            inputs = features
        modules += [nn.Dropout(dropout)] if dropout else []
        return [*modules, nn.Linear(inputs, num_actions, bias=False)]

    if architecture == "dense":
        inputs = height * width * channels
        return nn.Sequential(Flatten(), *readout(inputs, hidden or DENSE_HIDDEN))
    if architecture == "deep":
        plan = [
            step
            for features, times, dropout in DEEP_BLOCKS
            for step in [("conv", features, 1)] * times + [("pool",), ("dropout", dropout)]
        ]
    else:
        plan = [("conv", 32, 1), ("conv", 32, 2), ("dropout", 0.3)]
    kind = Unshared if architecture == "locally_connected" else Shared
    modules, inputs = convolutions(kind, plan)
    return nn.Sequential(*modules, *readout(inputs, (500,), dropout=0.3))


def make_optimizer(
    network: "torch.nn.Module", learning_rate: float, l2: float
) -> "torch.optim.Optimizer":
    """Plain SGD; the penalty l2·Σw² on kernels alone."""
    import torch

    normalisation = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    scales = {id(p) for m in normalisation for p in m.parameters()}
    kernels = [p for p in network.parameters() if id(p) not in scales]
    groups = [
        {"params": kernels, "weight_decay": 2 * l2},
        {"params": [p for m in normalisation for p in m.parameters()]},
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

    def subject(self, rule: str) -> Subject:
        """Build the training of "q_agrel" (max-Boltzmann) or "backprop"."""
        steps, batch = self._rows.shape
        return Subject(f"torch_{rule}", steps, self._training(rule), images_per_step=batch)

    def _training(self, rule: str) -> Callable[[], None]:
        import torch

        config, on = self._config, self._on
        layout = {"memory_format": getattr(torch, FORMATS[self.memory_format])}
        image_shape = (*self._images.shape[2:], self._images.shape[1])
        network = make_network(
            config.architecture, image_shape, self._num_actions, config.hidden
        ).to(on, **layout)  # fmt: skip
        network.train()
        optimizer = make_optimizer(network, config.learning_rate, config.l2)
        images = self._images.contiguous(**layout)
        cast = config.precision == "bfloat16"

        def call() -> None:
            for row in self._rows:
                inputs = (images[row].float() / 255).contiguous(**layout)
                optimizer.zero_grad(set_to_none=True)
                with torch.autocast(on.type, torch.bfloat16, enabled=cast):
                    outputs = network(inputs)
                loss(rule, outputs.float(), self._labels[row], config.epsilon).backward()
                optimizer.step()
            if on.type == "cuda":
                torch.cuda.synchronize()

        return call
