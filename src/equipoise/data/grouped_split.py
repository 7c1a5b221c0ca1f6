"""Splits that keep groups together: copies of a molecule, or all molecules of a scaffold."""

from __future__ import annotations

import torch
from torch import Tensor

Split = tuple[Tensor, Tensor, Tensor]


def grouped_split(
    groups: Tensor, seed: int, *, shares: tuple[float, float] = (0.1, 0.1), large_to_training: bool = False
) -> Split:
    """Training, validation and test part of samples in groups that no part shares with another one.

    The groups come in an order drawn from the seed. Each goes to the test part as long as it fits in there, else to
    the validation part likewise, else to the training part.

    Args:
        groups: (n,) int64, the same number for samples of a group.
        seed: of the order.
        shares: of the validation and of the test part, each of at least one sample.
        large_to_training: whether a group of more than half of what the smaller part takes is kept out of it, so that
            no single scaffold makes up most of what is measured.

    Returns:
        The numbers of the samples of each part, rising.

    Raises:
        ValueError: if a part would stay empty.
    """
    _, group, size = groups.unique(return_inverse=True, return_counts=True)
    room = [max(1, round(share * len(groups))) for share in shares]
    largest = min(room) / 2 if large_to_training else len(groups)
    part_of = torch.zeros(len(size), dtype=torch.int64)
    order = torch.randperm(len(size), generator=torch.Generator().manual_seed(seed))
    for k, length in zip(order.tolist(), size[order].tolist(), strict=True):
        for part in (2, 1):
            if length <= max(largest, 1) and length <= room[part - 1]:
                room[part - 1] -= length
                part_of[k] = part
                break
    parts = [(part_of[group] == part).nonzero()[:, 0] for part in range(3)]
    if any(len(part) == 0 for part in parts):
        raise ValueError(
            f"The {len(groups)} samples should make three parts, none of them empty. Found {len(size)} groups that "
            f"give {', '.join(str(len(part)) for part in parts)}: use more samples, or another split."
        )
    train, validation, test = parts
    return train, validation, test
