"""The usual augmentation of small images: crops of padded images, and mirroring."""

from __future__ import annotations

import torch
from torch import Tensor


def crop_and_flip(images: Tensor, generator: torch.Generator, *, crop: int, flip: bool) -> Tensor:
    """Move each image at random by up to `crop` pixels a way, and mirror about half of them left to right.

    What comes in from outside is black (0). The same as a random crop of the image with `crop` pixels of padding.
    Reference: K. He et al., Deep Residual Learning, CVPR 2016, https://arxiv.org/abs/1512.03385, section 4.2.

    Args:
        images: (b, channels, H, W), of any type, on the CPU.
        generator: gives 3 b numbers, whatever the options.
        crop: at least 0, which leaves the place alone.
        flip: whether to mirror.

    Returns:
        The same shape and type.
    """
    samples, channels, height, width = images.shape
    draws = torch.rand(3, samples, generator=generator, dtype=torch.float64)
    down, right = (draws[:2] * (2 * crop + 1)).long()
    rows = down[:, None] + torch.arange(height)
    columns = right[:, None] + torch.arange(width)
    if flip:
        columns = torch.where(draws[2, :, None] < 0.5, columns.flip(1), columns)
    padded = images.new_zeros(samples, channels, height + 2 * crop, width + 2 * crop)
    padded[:, :, crop : crop + height, crop : crop + width] = images
    moved = [p[:, r][:, :, c] for p, r, c in zip(padded, rows, columns, strict=True)]
    return torch.stack(moved)
