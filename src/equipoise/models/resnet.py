"""Residual networks, and hard parameter sharing: one encoder of any kind with one head a task."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from .multitask import MakeHead, MultiTaskNet, Stage, chain, check_at_least


class _Form(NamedTuple):
    bottleneck: bool
    blocks: tuple[int, int, int, int]


_FORMS = {
    18: _Form(False, (2, 2, 2, 2)),
    26: _Form(True, (2, 2, 2, 2)),
    34: _Form(False, (3, 4, 6, 3)),
    50: _Form(True, (3, 4, 6, 3)),
    101: _Form(True, (3, 4, 23, 3)),
}
_WIDTH = 64
_EXPANSION = 4


class HardSharing(MultiTaskNet):
    """One encoder for all tasks and one head a task: y_k = h_k(f(x)).

    Shared: the encoder. Parameters with linear heads: those of the encoder and sum_k (features + 1) channels_k.

    Reference: Caruana, Multitask Learning, Machine Learning 28, 1997,
    https://doi.org/10.1023/A:1007379606734.

    Args:
        encoder: maps samples to features (b, features).
        features: how many those are.
        outputs: channels of each task's output.
        head: builds a head from its numbers of features and of channels.

    Raises:
        ValueError: on sizes below 1, or no output.
    """

    def __init__(
        self, encoder: nn.Module, features: int, outputs: Sequence[int], *, head: MakeHead = nn.Linear
    ) -> None:
        super().__init__(features, outputs, head)
        self.encoder = encoder

    def task_features(self, x: Tensor) -> list[Tensor]:
        """The same features for all tasks."""
        return [self.encoder(x)] * len(self.heads)


class ResNet(nn.Module):
    """Maps images to features by four levels of residual blocks y = ReLU(x + F(x)) and the mean over positions.

    F is two 3 x 3 convolutions in ResNet-18 and 34 (basic blocks), and 1 x 1, 3 x 3, 1 x 1 with a quarter of the
    channels inside in ResNet-26, 50 and 101 (bottlenecks); ResNet-26 has 2 bottlenecks a level. Each convolution is
    without bias and followed by batch normalisation, and by ReLU but for the last of a block. Levels have 64, 128,
    256 and 512 channels, four times as many with bottlenecks, and halve the image from the second on. Where the shape
    changes, x goes through a 1 x 1 convolution with batch normalisation.

    With 1000 classes there are 11,689,512 parameters (18), 15,995,176 (26), 25,557,032 (50) and 44,549,160 (101).

    The forward pass takes images (b, image_channels, H, W) of any size and returns (b, features), see the attribute
    `features`.

    Reference: He et al., Deep Residual Learning for Image Recognition, CVPR 2016, https://arxiv.org/abs/1512.03385.

    Departures: a bottleneck halves the image in its 3 x 3 convolution, as most codes do, not in the first 1 x 1. The
    stem for small images, a 3 x 3 convolution and no pooling, is that of the paper's CIFAR-10 networks.

    Args:
        depth: 18, 26, 34, 50 or 101.
        width: factor on the channels of all levels.
        image_channels: channels of an image.
        small_images: True for a stem that keeps the size of the image, for 28 to 64 pixels; otherwise the stem,
            a 7 x 7 convolution and max-pooling, divides it by 4.

    Raises:
        ValueError: on an unknown depth, no channel left, or images of another shape.
    """

    def __init__(
        self, depth: int = 18, width: float = 1.0, *, image_channels: int = 3, small_images: bool = False
    ) -> None:
        super().__init__()
        stages = resnet_stages(depth, width, image_channels=image_channels, small_images=small_images)
        self.features = stages[-1].channels
        self.image_channels = image_channels
        self.stages = chain(stages)

    def forward(self, images: Tensor) -> Tensor:
        """Features (b, features) of images (b, image_channels, H, W)."""
        if images.ndim != 4 or images.shape[1] != self.image_channels:
            raise ValueError(
                f"`images` should have shape (b, {self.image_channels}, H, W). Found {tuple(images.shape)}."
            )
        found: Tensor = self.stages(images)
        return found


def resnet_stages(
    depth: int = 18, width: float = 1.0, *, image_channels: int = 3, small_images: bool = False
) -> list[Stage]:
    """The five stages of a `ResNet`, for architectures that connect networks between stages.

    The stem, then the four levels, the last one with the mean over positions.

    Args: see `ResNet`.

    Raises:
        ValueError: on an unknown depth, or no channel left.
    """
    if depth not in _FORMS:
        raise ValueError(f"`depth` should be one of {', '.join(map(str, _FORMS))}. Found {depth}.")
    check_at_least("image_channels", image_channels, 1)
    form, base = _FORMS[depth], round(_WIDTH * width)
    if base < 1:
        raise ValueError(f"`width` should leave at least 1 of {_WIDTH} channels. Found {width}.")
    stages = [Stage(lambda: _stem(image_channels, base, small_images), base)]
    for level in range(4):
        make, channels = _level(form, level, stages[-1].channels, base)
        stages.append(Stage(make, channels))
    last = stages[-1]
    return [*stages[:-1], Stage(lambda: nn.Sequential(last.make(), PositionMean()), last.channels)]


class PositionMean(nn.Module):
    """The mean over all positions: (b, channels, ...) to (b, channels)."""

    def forward(self, x: Tensor) -> Tensor:
        """Features (b, channels)."""
        return x.flatten(2).mean(dim=2)


class Every(nn.Module):
    """Every `stride`-th row and column of an image, from the first on."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Features (b, channels, H / stride, W / stride), rounded up."""
        return x[:, :, :: self.stride, :: self.stride]


class ResidualBlock(nn.Module):
    """ReLU(x + F(x)), where x is brought to the shape of F(x) if that is another.

    Args:
        inputs: channels of x.
        channels: channels of the 3 x 3 convolutions.
        stride: 2 to halve the image.
        bottleneck: False for two 3 x 3 convolutions; True for 1 x 1, 3 x 3, 1 x 1 that ends with 4 x channels.
    """

    def __init__(self, inputs: int, channels: int, stride: int, *, bottleneck: bool) -> None:
        super().__init__()
        outputs = channels * _EXPANSION if bottleneck else channels
        if bottleneck:
            self.residual = nn.Sequential(
                *(_convolution(inputs, channels, 1), nn.ReLU()),
                *(_convolution(channels, channels, 3, stride), nn.ReLU()),
                _convolution(channels, outputs, 1),
            )
        else:
            self.residual = nn.Sequential(
                *(_convolution(inputs, channels, 3, stride), nn.ReLU()), _convolution(channels, outputs, 3)
            )
        same = stride == 1 and inputs == outputs
        # Positions are left out first: oneDNN's strided 1 x 1 convolution of fewer channels than a vector register
        # holds writes past its workspace in the backward pass, https://github.com/uxlfoundation/oneDNN/issues/6035.
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(Every(stride), _convolution(inputs, outputs, 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features (b, outputs, H / stride, W / stride)."""
        return functional.relu(self.shortcut(x) + self.residual(x))


def _stem(image_channels: int, channels: int, small_images: bool) -> nn.Sequential:
    if small_images:
        return nn.Sequential(_convolution(image_channels, channels, 3), nn.ReLU())
    return nn.Sequential(
        _convolution(image_channels, channels, 7, 2), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)
    )


def _level(form: _Form, level: int, inputs: int, base: int) -> tuple[Callable[[], nn.Sequential], int]:
    """How to build a level, and the channels of its output."""
    channels = base * 2**level
    outputs = channels * _EXPANSION if form.bottleneck else channels

    def make() -> nn.Sequential:
        return nn.Sequential(
            *(
                ResidualBlock(
                    outputs if block else inputs,
                    channels,
                    1 if block or level == 0 else 2,
                    bottleneck=form.bottleneck,
                )
                for block in range(form.blocks[level])
            )
        )

    return make, outputs


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    """A convolution without bias and its batch normalisation."""
    layer = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
    # As in the paper's reference on initialisation, He et al., ICCV 2015: the variance of gradients is kept.
    torch.nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))
