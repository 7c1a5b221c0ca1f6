"""The small convolutional network of overlaid digits: the encoder, whole and in stages."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .multitask import Stage, chain, check_at_least

_KERNELS = (9, 5)


class LeNetEncoder(nn.Module):
    """Maps grey images to features: two convolutions with ReLU and max-pooling by 2, and a linear layer with ReLU.

    The kernels have 9 and 5 pixels and the convolutions do not pad, so that 36 x 36 pixels become 28, 14, 10 and
    5 x 5. With the defaults there are 30,890 parameters; `HardSharing` with two heads of ten classes has 31,910.

    The forward pass takes images (b, 1, side, side) and returns (b, features).

    Reference: X. Lin et al., Pareto Multi-Task Learning, NeurIPS 2019, https://arxiv.org/abs/1912.12854, whose code has
    this network, with a linear head a task, for canvases of 36 x 36 pixels. O. Sener and V. Koltun,
    https://arxiv.org/abs/1810.04650, had kernels of 5 pixels on images of 28 x 28, and dropout.

    Args:
        width: channels of the first convolution, 10 as published; the second has twice as many.
        features: of the linear layer, 50 as published.
        side: H = W of the images, at least 20.

    Raises:
        ValueError: if a size is too small, or images have another shape.
    """

    def __init__(self, width: int = 10, *, features: int = 50, side: int = 36) -> None:
        super().__init__()
        self.features = features
        self.side = side
        self.stages = chain(lenet_stages(width, features=features, side=side))

    def forward(self, images: Tensor) -> Tensor:
        """Features (b, features) of images (b, 1, side, side)."""
        if images.ndim != 4 or images.shape[1:] != (1, self.side, self.side):
            raise ValueError(
                f"`images` should have shape (b, 1, {self.side}, {self.side}). Found {tuple(images.shape)}."
            )
        found: Tensor = self.stages(images)
        return found


def lenet_stages(width: int = 10, *, features: int = 50, side: int = 36) -> list[Stage]:
    """The two convolutions and the linear layer, for architectures that connect networks between stages.

    Args: see `LeNetEncoder`.

    Raises:
        ValueError: if a size is too small.
    """
    check_at_least("width", width, 1)
    check_at_least("features", features, 1)
    left = side
    for kernel in _KERNELS:
        left = (left - kernel + 1) // 2
    if left < 1:
        raise ValueError(f"`side` should be at least 20, to be left with a pixel. Found {side}.")
    first, second = _KERNELS

    def linear() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(2 * width * left * left, features), nn.ReLU())

    return [
        Stage(lambda: _convolution(1, width, first), width),
        Stage(lambda: _convolution(width, 2 * width, second), 2 * width),
        Stage(linear, features),
    ]


def _convolution(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    # Channels that lie last in memory halve the time of convolutions with so few of them on CPUs. Pooling first gives
    # the same numbers, since ReLU is monotone, and leaves it a quarter of the work.
    layer = nn.Conv2d(inputs, outputs, kernel)
    layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
    return nn.Sequential(layer, nn.MaxPool2d(2), nn.ReLU())
