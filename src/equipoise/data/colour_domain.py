"""Colour images of one domain with their classes and parts, and the draws that make parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

PARTS = ("train", "validation", "test")
Caps = Mapping[str, int | None]
"""Part -> at most how many images of it to take, None for all."""

_DRAW_SEED = 0  # of images where not all are wanted, the same for every run


@dataclass(frozen=True)
class ColourDomain:
    """The images of one domain.

    Args:
        pixels: uint8 (n, 3, H, W).
        labels: int64 (n,), from 0.
        parts: each of `PARTS` -> rows of the two above, int64, ascending.
        bad: file -> what is wrong with it; such files are in no part.
    """

    pixels: Tensor
    labels: Tensor
    parts: Mapping[str, Tensor]
    bad: Mapping[str, str] = field(default_factory=dict)


def split_within_classes(labels: Tensor, shares: Sequence[float], seed: int) -> list[Tensor]:
    """Rows of several parts, ascending, drawn class by class.

    Of the n samples of a class, part i > 0 gets round(n x its share), and the first part what is left.

    Args:
        labels: (n,), int64, from 0.
        shares: of the parts after the first, each above 0, with sum below 1.
        seed: of the draw.
    """
    generator = torch.Generator().manual_seed(seed)
    parts: list[list[Tensor]] = [[] for _ in range(len(shares) + 1)]
    order = labels.argsort(stable=True)
    for members in order.split(labels.bincount().tolist()):
        drawn = members[torch.randperm(len(members), generator=generator)]
        others = [round(len(drawn) * share) for share in shares]
        for part, own in zip(parts, drawn.split([len(drawn) - sum(others), *others]), strict=True):
            part.append(own)
    return [torch.cat([order[:0], *part]).sort().values for part in parts]


def drawn(rows: Tensor, most: int | None) -> Tensor:
    """At most so many of some rows, ascending, at random; a smaller draw is part of every larger one.

    Args:
        rows: (n,), ascending.
        most: how many, or None for all.
    """
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(_DRAW_SEED))
    return rows if most is None or most >= len(rows) else rows[order[:most].sort().values]


def check_parts(parts: Mapping[str, Tensor], domain: str, where: object) -> None:
    """Refuse a domain with a part without images.

    Raises:
        ValueError: naming the parts.
    """
    empty = [name for name, rows in parts.items() if len(rows) == 0]
    if empty:
        raise ValueError(
            f"`{where}` should hold images of the domain {domain!r} for each part. Found none for {', '.join(empty)}: "
            "copy more, or leave the domain out of `domains`."
        )
