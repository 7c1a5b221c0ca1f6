"""The small convolutional network of the overlaid digits: one shared encoder and a linear head a task."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_KERNELS = (9, 5)


class LeNet(nn.Module):
    """Predicts the classes of an image, one for each task.

    `encoder` maps images to features (b, features), see `LeNetEncoder`; `heads[t]` is the `Linear(features, classes)`
    of task t. With the defaults there are 31,910 parameters. The forward pass takes images (b, 1, H, W) and returns a
    list with the logits (b, classes) of each task, at least float32, under `torch.autocast` too.

    Reference: X. Lin et al., Pareto Multi-Task Learning, NeurIPS 2019, https://arxiv.org/abs/1912.12854, whose code has
    this network for canvases of 36 x 36 pixels. O. Sener and V. Koltun, https://arxiv.org/abs/1810.04650, had kernels
    of 5 pixels on images of 28 x 28, dropout, and two linear layers in each head.

    Departures: none from the code of Pareto MTL.

    Args:
        tasks: number of tasks.
        classes: number of classes of each task.
        width: channels of the first convolution, 10 as published; the second has twice as many.
        features: of the encoder, 50 as published.
        side: H = W of the images, at least 20.

    Raises:
        ValueError: if a size is too small, or images have another shape.
    """

    def __init__(
        self, tasks: int = 2, classes: int = 10, *, width: int = 10, features: int = 50, side: int = 36
    ) -> None:
        super().__init__()
        for name, size in {"tasks": tasks, "classes": classes}.items():
            if size < 1:
                raise ValueError(f"`{name}` should be at least 1. Found {size}.")
        self.encoder = LeNetEncoder(width, features=features, side=side)
        self.heads = nn.ModuleList(nn.Linear(features, classes) for _ in range(tasks))

    def forward(self, images: Tensor) -> list[Tensor]:
        """The logits (b, classes) of each task for images (b, 1, H, W)."""
        features = self.encoder(images)
        logits = [head(features) for head in self.heads]
        return [found.to(torch.promote_types(found.dtype, torch.float32)) for found in logits]


class LeNetEncoder(nn.Module):
    """Maps grey images to features: two convolutions with ReLU and max-pooling by 2, and a linear layer with ReLU.

    The kernels have 9 and 5 pixels and the convolutions do not pad, so that 36 x 36 pixels become 28, 14, 10 and
    5 x 5.

    Args: see `LeNet`.
    """

    def __init__(self, width: int = 10, *, features: int = 50, side: int = 36) -> None:
        super().__init__()
        for name, size in {"width": width, "features": features}.items():
            if size < 1:
                raise ValueError(f"`{name}` should be at least 1. Found {size}.")
        left = side
        for kernel in _KERNELS:
            left = (left - kernel + 1) // 2
        if left < 1:
            raise ValueError(f"`side` should be at least 20, to be left with a pixel. Found {side}.")
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, _KERNELS[0]),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, _KERNELS[1]),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * width * left * left, features),
            nn.ReLU(),
        )
        self.side = side

    def forward(self, images: Tensor) -> Tensor:
        """Features (b, features) of images (b, 1, side, side)."""
        if images.ndim != 4 or images.shape[1:] != (1, self.side, self.side):
            raise ValueError(
                f"`images` should have shape (b, 1, {self.side}, {self.side}). Found {tuple(images.shape)}."
            )
        features: Tensor = self.layers(images)
        return features
