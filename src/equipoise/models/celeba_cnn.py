"""The convolutional network of the CelebA benchmark: one shared encoder and one linear head an attribute."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

Form = Literal["code", "text"]
# Channels of the convolutions in units of `width`; images are halved between two tuples.
_BLOCKS: dict[str, tuple[tuple[int, ...], ...]] = {
    "code": ((1,), (2, 2), (4, 4), (8, 8)),
    "text": ((1,), (2,), (4,), (8, 8)),
}
_SMALLEST = 8


class CelebACNN(nn.Module):
    """Predicts binary attributes of an image: shared convolutions and one logit a task.

    `encoder` maps images to features (b, 8 width), see `CelebAEncoder`; `heads[t]` is the `Linear(8 width, 1)` of
    task t. With the defaults there are 5,197,160 parameters.

    The forward pass takes images (b, image_channels, H, W), published at 64 x 64, any size from 8 x 8 on, and
    returns a list with the logits (b,) of each task, so the loss is `binary_cross_entropy_with_logits`. Logits are
    at least float32, under `torch.autocast` too. In training mode a batch needs at least 2 images.

    Reference: Liu et al., FAMO: Fast Adaptive Multitask Optimization, NeurIPS 2023,
    https://arxiv.org/abs/2306.03792, the CelebA experiment, whose protocol GO4Align took over. The text tells of 5
    convolutions and 2 linear layers; the code has 7 and 2, which with a head are the 9 layers told of elsewhere.

    Departures: logits instead of probabilities, since the cross-entropy of logits does not overflow. The text does
    not tell the channels of the 5-convolution form; here it has those of the code, with the second convolution of
    the two middle blocks left out.

    Args:
        tasks: number of attributes.
        width: channels of the first convolution; the published network has 64, others scale all layers.
        form: "code" for 7 convolutions, "text" for 5.
        image_channels: channels of an image.

    Raises:
        ValueError: a size below 1, an unknown form, or images of another shape or below 8 x 8.
    """

    def __init__(
        self, tasks: int = 40, width: int = 64, *, form: Form = "code", image_channels: int = 3
    ) -> None:
        super().__init__()
        if tasks < 1:
            raise ValueError(f"`tasks` should be at least 1. Found {tasks}.")
        self.encoder = CelebAEncoder(width, form=form, image_channels=image_channels)
        self.heads = nn.ModuleList(nn.Linear(8 * width, 1) for _ in range(tasks))

    def forward(self, images: Tensor) -> list[Tensor]:
        """The logits (b,) of each task for images (b, image_channels, H, W)."""
        features = self.encoder(images)
        logits = [head(features)[:, 0] for head in self.heads]
        return [found.to(torch.promote_types(found.dtype, torch.float32)) for found in logits]


class CelebAEncoder(nn.Module):
    """Maps images to features: four blocks of convolutions, the mean over the image, and two linear layers.

    Blocks have width x (1 | 2, 2 | 4, 4 | 8, 8) channels, with max-pooling by 2 after the first three. Every
    convolution, 3 x 3, and every linear layer is followed by batch normalisation and ReLU, and has no bias of its
    own, as the published parameter count demands.

    Args: see `CelebACNN`.
    """

    def __init__(self, width: int = 64, *, form: Form = "code", image_channels: int = 3) -> None:
        super().__init__()
        for name, size in {"width": width, "image_channels": image_channels}.items():
            if size < 1:
                raise ValueError(f"`{name}` should be at least 1. Found {size}.")
        if form not in _BLOCKS:
            raise ValueError(f"`form` should be one of {', '.join(get_args(Form))}. Found {form!r}.")
        self.image_channels = image_channels
        layers: list[nn.Module] = []
        inputs = image_channels
        for block in _BLOCKS[form]:
            layers += [nn.MaxPool2d(2)] if layers else []
            for growth in block:
                layers += _normalised(nn.Conv2d(inputs, growth * width, 3, padding=1, bias=False))
                inputs = growth * width
        self.convolutions = nn.Sequential(*layers)
        self.linear = nn.Sequential(
            *(layer for _ in range(2) for layer in _normalised(nn.Linear(inputs, inputs, bias=False)))
        )

    def forward(self, images: Tensor) -> Tensor:
        """Features (b, 8 width) of images (b, image_channels, H, W)."""
        good = images.ndim == 4 and images.shape[1] == self.image_channels
        if not good or min(images.shape[-2:]) < _SMALLEST:
            raise ValueError(
                f"`images` should have shape (b, {self.image_channels}, H, W) with H and W at least {_SMALLEST}, "
                f"since they are halved 3 times. Found {tuple(images.shape)}."
            )
        features: Tensor = self.linear(self.convolutions(images).mean(dim=(2, 3)))
        return features


def _normalised(layer: nn.Conv2d | nn.Linear) -> list[nn.Module]:
    """A layer, its batch normalisation and its ReLU."""
    if isinstance(layer, nn.Conv2d):
        return [layer, nn.BatchNorm2d(layer.out_channels), nn.ReLU()]
    return [layer, nn.BatchNorm1d(layer.out_features), nn.ReLU()]
