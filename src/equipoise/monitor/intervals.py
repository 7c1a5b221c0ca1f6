"""From the records of an interval to one row: sums on the device, divided on the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from equipoise.engine import StepRecord

from .gramians import conflict_share, grad_norms, pair_cosines, update_cosines

COUNTED = ("nonfinite", "fallback")  # these columns are sums over the interval, all others means
_ALL_PAIRS = 12  # up to this many tasks, each pair has a column


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a record: copies in float64, since a method may go on with the originals in place.

    Args:
        losses: (m,).
        weights: (m,).
        gramian: (m, m), or None if not measured.
        fallback: () 0 or 1, or None if there was no solver.
    """

    losses: Tensor
    weights: Tensor
    gramian: Tensor | None
    fallback: Tensor | None

    @classmethod
    def of(cls, record: StepRecord) -> Kept:
        """The copies of a record; nothing is looked at."""
        found = (record.losses, record.weights, record.gramian, record.fallback)
        return cls(*(None if x is None else x.detach().to(torch.float64, copy=True) for x in found))  # type: ignore[arg-type]


def names_of(tasks: Sequence[str]) -> list[str]:
    """The names of what `sums_of` adds up, in its order."""
    pairs = ["cosine_min", "cosine_mean", "cosine_max"]
    if len(tasks) <= _ALL_PAIRS:
        pairs = [f"cosine_{a}_{b}" for a, b in combinations(tasks, 2)]
    per_task = [
        [f"{kind}_{task}" for task in tasks] for kind in ("loss", "weight", "grad_norm", "update_cosine")
    ]
    losses, weights, norms, updates = per_task
    return ["nonfinite", *losses, *weights, "fallback", "conflict", *norms, *updates, *pairs]


def sums_of(kept: Sequence[Kept], has_weights: bool) -> Tensor:
    """For each name its sum over the records, and over how many (2, names), on their device.

    Args:
        kept: at least one.
        has_weights: False if `weights` are not those of the update, because an aggregator answered.
    """
    measured = [one for one in kept if one.gramian is not None]
    fallbacks = [one.fallback for one in kept if one.fallback is not None]
    like = kept[0].losses
    parts = [
        _of_losses(kept, has_weights),
        torch.stack(fallbacks).unsqueeze(1) if fallbacks else like.new_empty(0, 1),
        _of_gramians(measured, has_weights) if measured else like.new_empty(0, _gramian_columns(len(like))),
    ]
    sums = torch.cat([part.nansum(0) for part in parts])
    counts = torch.cat([part.isnan().logical_not().sum(0) for part in parts])
    return torch.stack([sums, counts.double()])


def row_of(names: Sequence[str], sums: Tensor | None) -> dict[str, float | int | None]:
    """Means, and sums of what is counted, None where there was nothing; the only step that waits for the device."""
    if sums is None:
        return {name: 0 if name == "nonfinite" else None for name in names}
    totals, counts = sums.tolist()
    row: dict[str, float | int | None] = {}
    for name, total, count in zip(names, totals, counts, strict=True):
        row[name] = None if count == 0 else int(total) if name in COUNTED else total / count
    return row


def _of_losses(kept: Sequence[Kept], has_weights: bool) -> Tensor:
    """(k, 1 + 2 m): whether the record is not finite, losses, weights; NaN where a task was absent."""
    losses, weights = torch.stack([one.losses for one in kept]), torch.stack([one.weights for one in kept])
    finite = (losses.isfinite() & weights.isfinite()).all(1, keepdim=True)
    shown = finite & ~_absent(kept, has_weights)
    blank = [torch.where(shown, x, torch.nan) for x in (losses, weights)]
    return torch.cat([(~finite).double(), *blank], dim=1)


def _of_gramians(kept: Sequence[Kept], has_weights: bool) -> Tensor:
    """(k, 1 + 2 m + cosines): conflict, norms, cosines with the update and with each other."""
    gramian = torch.stack([one.gramian for one in kept if one.gramian is not None])
    weights = torch.stack([one.weights for one in kept])
    norms = torch.where(_absent(kept, has_weights), torch.nan, grad_norms(gramian))
    updates = update_cosines(gramian, weights) if has_weights else torch.full_like(norms, torch.nan)
    cosines = pair_cosines(gramian)
    if gramian.shape[-1] > _ALL_PAIRS:
        cosines = _summary(cosines)
    values = torch.cat([conflict_share(gramian).unsqueeze(1), norms, updates, cosines], dim=1)
    finite = gramian.isfinite().all(2).all(1, keepdim=True)
    return torch.where(finite, values, torch.nan)


def _absent(kept: Sequence[Kept], has_weights: bool) -> Tensor:
    """(k, m) bool: a record does not name the absent tasks, but their loss is 0, and so is their weight or gradient."""
    active = [one.weights if has_weights or one.gramian is None else one.gramian.diagonal() for one in kept]
    return (torch.stack([one.losses for one in kept]) == 0) & (torch.stack(active) == 0)


def _summary(cosines: Tensor) -> Tensor:
    """Least, mean and greatest (k, 3) of those that are defined."""
    missing = cosines.isnan()
    least = torch.where(missing, torch.inf, cosines).amin(1)
    greatest = torch.where(missing, -torch.inf, cosines).amax(1)
    found = torch.stack([least, cosines.nanmean(1), greatest], dim=1)
    return torch.where(missing.all(1, keepdim=True), torch.nan, found)


def _gramian_columns(m: int) -> int:
    return 1 + 2 * m + (m * (m - 1) // 2 if m <= _ALL_PAIRS else 3)
