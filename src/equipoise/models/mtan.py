"""MTAN: a shared SegNet from which each task picks its features with attention masks of its own."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from .segnet import (
    LEVELS,
    NYUV2,
    DenseOutput,
    Level,
    SegNetEncoder,
    convolution,
    dense_heads,
    initialise,
    level_channels,
)


class MTAN(nn.Module):
    """Predicts several maps of an image from shared features that each task weighs pixel by pixel.

    `encoder` maps images to one tensor of features (b, width, H, W) a task, see `AttentionEncoder`. It holds the
    attention modules too: the published codes count them as shared parameters, though a task's loss reaches its
    own masks only. `heads[t]` is the `DenseHead` of task t. With the defaults, NYUv2, there are 44,229,073
    parameters, of which 111,889 in heads; with `CITYSCAPES` 41,206,984.

    Images, outputs and their order are those of `equipoise.models.segnet.SegNet`.

    Reference: Liu et al., End-to-End Multi-Task Learning with Attention, CVPR 2019,
    https://arxiv.org/abs/1803.10704, section 3 and equations 1 and 2, on SegNet as in section 4.1.

    Departures: logits instead of log-softmax, and a normal of length 0 stays 0 instead of becoming NaN. Features
    are enlarged bilinearly with the corners aligned, of which the paper says nothing.

    Args: see `equipoise.models.segnet.SegNet`.

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
        self.encoder = AttentionEncoder(len(outputs), width, image_channels=image_channels, levels=levels)
        self.heads = dense_heads(width, outputs)
        initialise(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """One map (b, channels, H, W) a task for images (b, image_channels, H, W)."""
        return [head(features) for head, features in zip(self.heads, self.encoder(images), strict=True)]


class AttentionEncoder(nn.Module):
    """The shared network of `SegNetEncoder` and, for each of m tasks, a path through it that attention opens.

    Let u_k and p_k be the first and the last feature of level k (`Level`), the encoder's from the image down, then
    the decoder's back up. Task i has a mask a_ik in (0, 1) of the shape of p_k and keeps

        x_ik = a_ik * p_k,                                                              (equation 1)
        a_ik = h_ik(g_ik([u_k, y_ik])),                                                 (equation 2)

    elementwise, where y_ik comes from the level before:

        y_ik = maxpool(f_k(x_i,k-1)) in the encoder, and nothing at its first level,
        y_ik = f_k(enlarged x_i,k-1) in the decoder, and at its first level, the deepest, x is the last y of the
               encoder, maxpool(f(x)).

    g is a 1 x 1 convolution with batch normalisation and ReLU, h one with a sigmoid for ReLU; both belong to a task.
    f is a 3 x 3 convolution with batch normalisation and ReLU, and all tasks use the same. The features of task i
    are its last x.

    Args:
        tasks: number of tasks m.
        width: channels of the first level.
        image_channels: channels of an image.
        levels: see `equipoise.models.segnet.SegNet`.
    """

    def __init__(self, tasks: int, width: int = 64, *, image_channels: int = 3, levels: int = LEVELS) -> None:
        super().__init__()
        self.backbone = SegNetEncoder(width, image_channels=image_channels, levels=levels)
        channels = level_channels(width, levels)
        below, above = (*channels[1:], channels[-1]), (width, *channels[:-1])
        self.down_carry = nn.ModuleList(map(convolution, channels, below))
        self.up_carry = nn.ModuleList(map(convolution, channels[::-1], above[::-1]))
        seen = (width, *(2 * count for count in channels[1:]))
        self.down_masks = nn.ModuleList(_masks(seen, channels) for _ in range(tasks))
        # The unpooled feature has the channels of the level below, what the task brings along those of this one.
        seen = tuple(map(sum, zip(channels, above, strict=True)))
        self.up_masks = nn.ModuleList(_masks(seen[::-1], above[::-1]) for _ in range(tasks))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features (b, width, H, W) of each task for images (b, image_channels, H, W)."""
        down, up = self.backbone.levels(images)
        return [
            self._ascend(up, masks, self._descend(down, down_masks))
            for down_masks, masks in zip(self.down_masks, self.up_masks, strict=True)
        ]

    def _descend(self, levels: Sequence[Level], masks: nn.Module) -> Tensor:
        """What a task keeps of the encoder, at the smallest size."""
        carried: list[Tensor] = []
        for level, mask, carry in zip(levels, masks.children(), self.down_carry, strict=True):
            kept = mask(torch.cat([level.first, *carried], dim=1)) * level.last
            carried = [functional.max_pool2d(carry(kept), 2)]
        return carried[0]

    def _ascend(self, levels: Sequence[Level], masks: nn.Module, kept: Tensor) -> Tensor:
        """What a task keeps of the decoder, at full size."""
        for level, mask, carry in zip(levels, masks.children(), self.up_carry, strict=True):
            size = level.first.shape[-2:]
            enlarged = functional.interpolate(kept, size, mode="bilinear", align_corners=True)
            kept = mask(torch.cat([level.first, carry(enlarged)], dim=1)) * level.last
        return kept


def _masks(seen: Sequence[int], channels: Sequence[int]) -> nn.ModuleList:
    """One task's h(g(.)) for each level."""
    return nn.ModuleList(map(_mask, seen, channels))


def _mask(seen: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(seen, channels, 1), nn.BatchNorm2d(channels), nn.ReLU()),
        *(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels), nn.Sigmoid()),
    )
