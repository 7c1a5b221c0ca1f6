"""SegNet for dense prediction: one shared encoder-decoder and a small convolutional head a task."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

# Channels of the five levels in units of `width`, and the convolutions that follow the first one of a level.
_GROWTH = (1, 2, 4, 8, 8)
_FURTHER = (1, 1, 2, 2, 2)
LEVELS = len(_GROWTH)


class DenseOutput(NamedTuple):
    """What one task predicts at every pixel."""

    channels: int
    """Number of classes, or of regression targets."""
    unit: bool = False
    """True if the vector at each pixel is scaled to length 1."""


NYUV2 = (DenseOutput(13), DenseOutput(1), DenseOutput(3, unit=True))
"""Logits of 13 classes, depth, and unit surface normals."""
CITYSCAPES = (DenseOutput(7), DenseOutput(1))
"""Logits of 7 classes, and (inverse) depth."""


class Level(NamedTuple):
    """The two features of a level of the encoder or the decoder that MTAN's attention reads, both of one size."""

    first: Tensor
    """In the encoder, after the first convolution of the level; in the decoder, right after the unpooling."""
    last: Tensor
    """After the last convolution of the level."""


class SegNet(nn.Module):
    """Predicts several maps of an image with all parameters shared but those of the heads.

    `encoder` maps images to features (b, width, H, W), see `SegNetEncoder`, which is SegNet's encoder and decoder;
    `heads[t]` is the `DenseHead` of task t. With the defaults, NYUv2, there are 25,055,185 parameters, of which
    111,889 in heads; with `CITYSCAPES` 25,017,672.

    The forward pass takes images (b, image_channels, H, W) and returns a list with one map (b, channels, H, W) a
    task, in the order of `outputs`: classes as logits, so the loss is `cross_entropy`; depth as it is; normals
    with length 1. Maps are at least float32, under `torch.autocast` too. H and W may be any sizes from 2^levels on,
    which is 32; they need not be multiples of it.

    Reference: Badrinarayanan et al., SegNet, TPAMI 2017, https://arxiv.org/abs/1511.00561, section 3, with one
    head a task as in Liu et al., End-to-End Multi-Task Learning with Attention, CVPR 2019,
    https://arxiv.org/abs/1803.10704, section 4.1 (the "split" baseline), the network of Nash-MTL and GO4Align.

    Departures: from the paper of SegNet, the channels change in the first convolution of a decoder level, not in
    the last, as the published parameter counts demand. From the published code, logits instead of log-softmax, and
    a normal of length 0 stays 0 instead of becoming NaN.

    Args:
        outputs: what each task predicts; `NYUV2` and `CITYSCAPES` are the published ones.
        width: channels of the first level; the published network has 64, others scale all levels.
        image_channels: channels of an image.
        levels: how often the image is halved; the published network has 5, a smaller one the first of these.

    Raises:
        ValueError: no output, a size out of range, or images of another shape or below 2^levels x 2^levels.
    """

    def __init__(
        self,
        outputs: Sequence[DenseOutput] = NYUV2,
        width: int = 64,
        *,
        image_channels: int = 3,
        levels: int = LEVELS,
    ) -> None:
        super().__init__()
        self.encoder = SegNetEncoder(width, image_channels=image_channels, levels=levels)
        self.heads = dense_heads(width, outputs)
        initialise(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """One map (b, channels, H, W) a task for images (b, image_channels, H, W)."""
        features = self.encoder(images)
        return [head(features) for head in self.heads]


class SegNetEncoder(nn.Module):
    """The shared part: five levels of convolutions down to 1/32 of the image, and five levels up again.

    A level of the encoder is 2, 2, 3, 3, 3 convolutions with width x (1, 2, 4, 8, 8) channels, then max-pooling
    by 2 that remembers where each maximum was. A level of the decoder, from the deepest, puts each value back to
    where its maximum was, with 0 elsewhere, and applies as many convolutions, of which the first goes to the
    channels of the level above. A convolution is 3 x 3 with bias, batch normalisation and ReLU.

    Args: see `SegNet`.
    """

    def __init__(self, width: int = 64, *, image_channels: int = 3, levels: int = LEVELS) -> None:
        super().__init__()
        for name, size in {"width": width, "image_channels": image_channels}.items():
            if size < 1:
                raise ValueError(f"`{name}` should be at least 1. Found {size}.")
        self.image_channels = image_channels
        channels = level_channels(width, levels)
        further = _FURTHER[:levels]
        above = (image_channels, *channels[:-1])
        self.down_first = nn.ModuleList(map(convolution, above, channels))
        self.down_rest = nn.ModuleList(map(_convolutions, channels, further))
        # The decoder from the deepest level up, which is the order in which it runs.
        above = (width, *channels[:-1])
        self.up_first = nn.ModuleList(map(convolution, channels[::-1], above[::-1]))
        self.up_rest = nn.ModuleList(map(_convolutions, above[::-1], further[::-1]))

    def forward(self, images: Tensor) -> Tensor:
        """Features (b, width, H, W) of images (b, image_channels, H, W)."""
        return self.levels(images)[1][-1].last

    def levels(self, images: Tensor) -> tuple[list[Level], list[Level]]:
        """The features of all levels, of the encoder from the image down and of the decoder back up."""
        self._check(images)
        down, up, places = [], [], []
        x = images
        for first, rest in zip(self.down_first, self.down_rest, strict=True):
            u = first(x)
            down.append(Level(u, rest(u)))
            x, indices = functional.max_pool2d(down[-1].last, 2, return_indices=True)
            places.append(indices)
        for first, rest, level, indices in zip(
            self.up_first, self.up_rest, down[::-1], places[::-1], strict=True
        ):
            u = functional.max_unpool2d(x, indices, (2, 2), output_size=level.last.shape[-2:])
            up.append(Level(u, rest(first(u))))
            x = up[-1].last
        return down, up

    def _check(self, images: Tensor) -> None:
        good = images.ndim == 4 and images.shape[1] == self.image_channels
        smallest = 2 ** len(self.down_first)
        if not good or min(images.shape[-2:]) < smallest:
            raise ValueError(
                f"`images` should have shape (b, {self.image_channels}, H, W) with H and W at least {smallest}, "
                f"since they are halved {len(self.down_first)} times. Found {tuple(images.shape)}."
            )


class DenseHead(nn.Module):
    """One task's map from features: a 3 x 3 and a 1 x 1 convolution with nothing in between.

    Args:
        width: channels of the features.
        output: what the task predicts.

    Raises:
        ValueError: an output with less than 1 channel.
    """

    def __init__(self, width: int, output: DenseOutput) -> None:
        super().__init__()
        if output.channels < 1:
            raise ValueError(f"`channels` of an output should be at least 1. Found {output.channels}.")
        self.unit = output.unit
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.map = nn.Conv2d(width, output.channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Features (b, width, H, W) to a map (b, channels, H, W), at least float32."""
        found: Tensor = self.map(self.mix(features))
        found = found.to(torch.promote_types(found.dtype, torch.float32))
        return functional.normalize(found, dim=1) if self.unit else found


def dense_heads(width: int, outputs: Sequence[DenseOutput]) -> nn.ModuleList:
    """A head for each output, in their order."""
    if len(outputs) == 0:
        raise ValueError("`outputs` should name at least 1 output, one per task. Found 0.")
    return nn.ModuleList(DenseHead(width, output) for output in outputs)


def level_channels(width: int, levels: int = LEVELS) -> tuple[int, ...]:
    """Channels of the levels of the encoder, from the image down.

    Raises:
        ValueError: on fewer than 1 level or more than 5.
    """
    if not 1 <= levels <= LEVELS:
        raise ValueError(f"`levels` should be from 1 to {LEVELS}. Found {levels}.")
    return tuple(width * growth for growth in _GROWTH[:levels])


def convolution(inputs: int, outputs: int) -> nn.Sequential:
    """A 3 x 3 convolution that keeps the size of the image, with batch normalisation and ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())


def _convolutions(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(convolution(channels, channels) for _ in range(count)))


def initialise(net: nn.Module) -> None:
    """Draws the weights of all convolutions as Glorot and Bengio do (normal, gain 1) and sets biases to 0."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.xavier_normal_(module.weight)
            nn.init.zeros_(module.bias)
