"""Layers of the papers' networks in PyTorch; imported only where PyTorch is there."""

import torch
from torch import nn


class Flatten(nn.Module):
    """Flatten feature maps in the order height, width, channels, as ours are."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [batch, channels, height, width] to [batch, features]."""
        return x.permute(0, 2, 3, 1).flatten(1)


class Shared(nn.Module):
    """A 3 × 3 convolution, padded as "SAME" pads: with stride 2, at the far side first."""

    def __init__(self, inputs: int, features: int, stride: int, size: tuple[int, int]) -> None:
        super().__init__()
        pads = [max((-(-n // stride) - 1) * stride + 3 - n, 0) for n in size]
        before, after = [p // 2 for p in pads], [p - p // 2 for p in pads]
        self.size = (-(-size[0] // stride), -(-size[1] // stride))
        even = before == after
        self.pads = None if even else (before[1], after[1], before[0], after[0])
        self.conv = nn.Conv2d(
            inputs,
            features,
            3,
            stride,
            padding=(before[0], before[1]) if even else 0,
            bias=False,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [batch, inputs, height, width] to [batch, features, *size]."""
        return self.conv(x if self.pads is None else nn.functional.pad(x, self.pads))


class Unshared(nn.Module):
    """A 3 × 3 kernel at every position, without padding: unfold, then einsum."""

    def __init__(self, inputs: int, features: int, stride: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.stride, self.size = stride, ((size[0] - 3) // stride + 1, (size[1] - 3) // stride + 1)
        positions = self.size[0] * self.size[1]
        scale = (2 / (9 * inputs)) ** 0.5
        self.weight = nn.Parameter(scale * torch.randn(positions, 9 * inputs, features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [batch, inputs, height, width] to [batch, features, *size]."""
        cut = nn.functional.unfold(x, 3, stride=self.stride)
        y = torch.einsum("bkl,lko->bol", cut, self.weight)
        return y.reshape(*y.shape[:2], *self.size)


def feature_layers(
    kind: type[Shared] | type[Unshared], plan: list[tuple], image_shape: tuple[int, ...]
) -> tuple[list[nn.Module], int]:
    """Return the layers of ``plan``, flattening at the end, and the number of features.

    Args:
      kind: of the convolutional layers.
      plan: ("conv", features, stride), ("pool",) and ("dropout", rate), one after the other.
      image_shape: (height, width, channels).
    """
    modules: list[nn.Module] = []
    height, width, inputs = image_shape
    size = height, width
    for name, *numbers in plan:
        if name == "conv":
            features, stride = numbers
            layer = kind(inputs, features, stride, size)
            # PyTorch's momentum is one minus Keras's.
            norm = nn.BatchNorm2d(features, eps=1e-3, momentum=0.01)
            modules += [layer, nn.ReLU(), norm]
            inputs, size = features, layer.size
        elif name == "pool":
            modules.append(nn.MaxPool2d(2))
            size = (size[0] // 2, size[1] // 2)
        else:
            modules.append(nn.Dropout(numbers[0]))
    return [*modules, Flatten()], inputs * size[0] * size[1]


def dense_layers(
    inputs: int, hidden: tuple[int, ...], num_actions: int, dropout: float = 0.0
) -> list[nn.Module]:
    """Return hidden layers of these sizes, and the output layer."""
    modules: list[nn.Module] = []
    for features in hidden:
        modules += [nn.Linear(inputs, features, bias=False), nn.ReLU()]
        inputs = features
    modules += [nn.Dropout(dropout)] if dropout else []
    return [*modules, nn.Linear(inputs, num_actions, bias=False)]
