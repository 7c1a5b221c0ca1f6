"""Ragged tensors: items of unequal length laid end to end, found again by where each one starts."""

from __future__ import annotations

import torch
from torch import Tensor


def spans(start: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the elements of some items lie in the flat tensor.

    Args:
        start: (M + 1,) first element of each item, and the end of the last.
        index: (b,) items.

    Returns:
        (E,) flat positions of all elements of the items, in the order of ``index``, and (E,) the row of ``index``
        to which each belongs.
    """
    first, length = start[index], start[index + 1] - start[index]
    before = length.cumsum(0) - length
    owner = torch.repeat_interleave(torch.arange(len(index), device=index.device), length)
    return torch.arange(len(owner), device=index.device) + (first - before)[owner], owner


def starts(length: Tensor) -> Tensor:
    """Return (M + 1,) where each item starts, and the end, for lengths (M,)."""
    return torch.cat([length.new_zeros(1), length.cumsum(0)])
