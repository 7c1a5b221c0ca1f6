"""U-Net for dense prediction: what pooling loses is brought back by skips, so that few steps of training go far."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from .segnet import LEVELS, DenseOutput, convolution, dense_heads, initialise, level_channels


class UNet(nn.Module):
    """Predicts several maps of an image with all parameters shared but those of the heads.

    Images, outputs and heads are those of `equipoise.models.segnet.SegNet`. SegNet's decoder learns from its encoder
    only where each maximum was; this one sees the features themselves, and learns fine detail in a tenth of the steps.

    Reference: Ronneberger et al., U-Net, MICCAI 2015, https://arxiv.org/abs/1505.04597, section 2 and figure 1.

    Departures: padded convolutions with batch normalisation, and bilinear enlargement in place of transposed
    convolutions, so that maps have the size of the image; one convolution a level on the way up; heads of SegNet.

    Args:
        outputs: what each task predicts.
        width: channels of the first level, 64 in the paper.
        image_channels: channels of an image.
        levels: 5 in the paper; fewer are the first of these.

    Raises:
        ValueError: no output, a size out of range, or images of another shape or below 2^(levels - 1) a side.
    """

    def __init__(
        self,
        outputs: Sequence[DenseOutput],
        width: int = 64,
        *,
        image_channels: int = 3,
        levels: int = LEVELS,
    ) -> None:
        super().__init__()
        self.encoder = UNetEncoder(width, image_channels=image_channels, levels=levels)
        self.heads = dense_heads(width, outputs)
        initialise(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """One map (b, channels, H, W) a task for images (b, image_channels, H, W)."""
        features = self.encoder(images)
        return [head(features) for head in self.heads]


class UNetEncoder(nn.Module):
    """The shared part: five levels d_k down, and four u_k up again.

        d_1 = f_1(image),   d_k = f_k(maxpool(d_{k-1})),   u_5 = d_5,   u_k = g_k([enlarged u_{k+1}, d_k])

    The features are u_1. f is two convolutions, g one; each is 3 x 3 with batch normalisation and ReLU. Level k has
    width x (1, 2, 4, 8, 8) channels.

    Args: see `UNet`.
    """

    def __init__(self, width: int = 64, *, image_channels: int = 3, levels: int = LEVELS) -> None:
        super().__init__()
        for name, size in {"width": width, "image_channels": image_channels}.items():
            if size < 1:
                raise ValueError(f"`{name}` should be at least 1. Found {size}.")
        self.image_channels = image_channels
        channels = level_channels(width, levels)
        above = (image_channels, *channels[:-1])
        self.down = nn.ModuleList(map(_two_convolutions, above, channels))
        below = tuple(map(sum, zip(channels[1:], channels[:-1], strict=True)))
        self.up = nn.ModuleList(map(convolution, below[::-1], channels[-2::-1]))

    def forward(self, images: Tensor) -> Tensor:
        """Features (b, width, H, W) of images (b, image_channels, H, W)."""
        self._check(images)
        first, *rest = self.down
        kept = [first(images)]
        for level in rest:
            kept.append(level(functional.max_pool2d(kept[-1], 2)))
        found: Tensor = kept.pop()
        for level, skip in zip(self.up, kept[::-1], strict=True):
            enlarged = functional.interpolate(found, skip.shape[-2:], mode="bilinear", align_corners=False)
            found = level(torch.cat([enlarged, skip], dim=1))
        return found

    def _check(self, images: Tensor) -> None:
        smallest = 2 ** len(self.up)
        good = images.ndim == 4 and images.shape[1] == self.image_channels
        if not good or min(images.shape[-2:]) < smallest:
            raise ValueError(
                f"`images` should have shape (b, {self.image_channels}, H, W) with H and W at least {smallest}, "
                f"since they are halved {len(self.up)} times. Found {tuple(images.shape)}."
            )


def _two_convolutions(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(convolution(inputs, outputs), convolution(outputs, outputs))
