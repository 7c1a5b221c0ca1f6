"""Losses of dense prediction over the labelled pixels of a batch: segmentation, depth, surface normals.

A batch without a labelled pixel gives 0 with zero gradients, not NaN. A problem should then leave the task out, since
methods that divide by a loss cannot use 0.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def segmentation_loss(logits: Tensor, label: Tensor, ignore: int = -1) -> Tensor:
    """Cross-entropy: the mean of `log sum_c exp(z_c) - z_y` over the pixels with a label y.

    Reference: the protocol of GO4Align (NeurIPS 2024, https://arxiv.org/abs/2404.06486), appendix B.3.

    Args:
        logits: z (b, classes, H, W).
        label: y (b, H, W), int64 from 0 to classes - 1, or `ignore`.
        ignore: marks an unlabelled pixel.

    Raises:
        ValueError: if the shapes do not belong together.
    """
    if logits.ndim != 4 or label.shape != (len(logits), *logits.shape[2:]):
        raise ValueError(
            "`label` should have shape (b, H, W) for `logits` of shape (b, classes, H, W). "
            f"Found {tuple(label.shape)} for {tuple(logits.shape)}."
        )
    total = functional.cross_entropy(logits, label, ignore_index=ignore, reduction="sum")
    return total / (label != ignore).sum().clamp(min=1)


def depth_loss(prediction: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean absolute error: the mean of `|p - t|` over the pixels with a depth.

    Reference: the protocol of GO4Align (NeurIPS 2024, https://arxiv.org/abs/2404.06486), appendix B.3.

    Args:
        prediction: p (b, 1, H, W).
        target: t (b, 1, H, W), in the unit of the result.
        valid: (b, 1, H, W) bool, true where there is a depth; without it, where the target is not 0.

    Raises:
        ValueError: if the shapes differ.
    """
    valid = target != 0 if valid is None else valid
    if not prediction.shape == target.shape == valid.shape:
        raise ValueError(
            "`prediction`, `target` and `valid` should have one shape. "
            f"Found {tuple(prediction.shape)}, {tuple(target.shape)} and {tuple(valid.shape)}."
        )
    return torch.where(valid, prediction - target, 0.0).abs().sum() / valid.sum().clamp(min=1)


def normal_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """One minus the mean of the dot product `p . t` over the pixels with a normal.

    Reference: the protocol of GO4Align (NeurIPS 2024, https://arxiv.org/abs/2404.06486), appendix B.3.
    Departures: a pixel without a normal is one whose target is the zero vector; the published code takes it for one
    whose three numbers add up to 0, and so drops a few true normals.

    Args:
        prediction: p (b, 3, H, W), unit vectors.
        target: t (b, 3, H, W), unit vectors, or 0 at a pixel without a normal.

    Raises:
        ValueError: if the shapes differ or have no three channels.
    """
    if prediction.shape != target.shape or target.ndim != 4 or target.shape[1] != 3:
        raise ValueError(
            "`prediction` and `target` should have one shape (b, 3, H, W). "
            f"Found {tuple(prediction.shape)} and {tuple(target.shape)}."
        )
    valid = (target != 0).any(1)
    distance = torch.where(valid, 1 - (prediction * target).sum(1), 0.0)
    return distance.sum() / valid.sum().clamp(min=1)
