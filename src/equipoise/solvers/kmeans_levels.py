"""One-dimensional k-means of many values: dynamic programming over some of the intervals only."""

from typing import NamedTuple

import torch
from torch import Tensor

# Starts between two known ones that are solved at once, and the most starts that are compared with all positions.
BRANCH, TOP = 16, 64
# The size of an empty interval, so that its share of a mean is 0 and not 0 / 0.
NOBODY = 1e-100


class Intervals(NamedTuple):
    """Sums of squares and means of intervals, by start and last position j.

    Attributes:
        costs: Around the mean, not negative; what they are before the start means nothing.
        means: How far above the start; 0 before the start. Empty where no finer level follows.
        per_position: The interval of start number u up to j has the flat index j `per_position` + u `per_start`.
        per_start: See above.
    """

    costs: Tensor
    means: Tensor
    per_position: int
    per_start: int


class Level(NamedTuple):
    """Starts in blocks of positions, of which the last position of each block is a start already solved.

    Attributes:
        costs: (n, s) of the intervals from each of the s starts of a block up to position j of this block, infinite
            for j before the start; for the block's last position, of the interval without that position.
        means: (n, s) of the same intervals above the start; empty where no finer level follows.
        below: (b, s) how far the mean of the interval up to before the last position is below the last value.
        above: (b, s) how far the last value is above the start.
        sizes: (b, s) how many values count from the start up to before the last position.
        number: (b,) from 0 on.
        before: (b,) how many values count before the last position of each block.
        slots: (n - 1 + b,) from 0 on.
        size: How many positions a block has.
    """

    costs: Tensor
    means: Tensor
    below: Tensor
    above: Tensor
    sizes: Tensor
    number: Tensor
    before: Tensor
    slots: Tensor
    size: int


def borders_by_levels(ordered: Tensor, counts: Tensor, k: int) -> Tensor:
    """Finds the last value of each group but the last, without the costs of all intervals.

    With F_c(i) = min_j cost(i, j) + F_{c-1}(j + 1) the least cost in c groups of the values from position i on, the
    best j never falls where i rises. So it is found for every s-th start among all positions, and for the starts
    between two of these only from the j of the one to the j of the other: together at most one position more for
    each block of starts than there are, whatever the values, so that shapes are known beforehand. The cost of an
    interval that passes a start already solved, z, is that of both parts and of the way between their means: nothing
    cancels, so it is as exact as that of an interval within a block.

    Time grows as k m log m, memory as m log m.

    Args:
        ordered: (m,) rising, float64.
        counts: (m,) float64, 1 for a value that counts and 0 for one that does not, which equals one that counts.
        k: Number of groups, at least 2.

    Returns:
        Values (k - 1,), rising; some are equal where fewer groups are as good.
    """
    stride = _stride(len(ordered))
    # Copies of the largest value that do not count fill the last block.
    size = -(-len(ordered) // stride) * stride
    values = ordered.index_select(0, torch.arange(size, device=ordered.device).clamp_(max=len(ordered) - 1))
    counts = torch.nn.functional.pad(counts, (0, size - len(ordered)))
    top, never = _intervals(values, counts, size, stride)
    shown = top.costs.masked_fill(never, torch.inf)[0]
    seen, levels = counts.cumsum(0), []
    while stride > 1:
        levels.append(_level(values, counts, stride, stride // BRANCH))
        stride //= BRANCH
    least, nothing, ends = _from_the_first(-values.flip(0), counts.flip(0)).flip(0), values.new_zeros(1), []
    for _ in range(k - 2):
        rest, intervals = torch.cat((least[1:], nothing)), top
        least, end = (shown + rest).min(1)
        for level in levels:
            # Rounding may tell near ties apart in a way that is not monotone.
            least, end, intervals = _refine(level, intervals, end.cummax(0).values, rest, seen)
        ends.append(end)
    last = [(_from_the_first(values, counts) + torch.cat((least[1:], nothing))).argmin(0, keepdim=True)]
    for end in reversed(ends):
        last.append(end.index_select(0, (last[-1] + 1).clamp_(max=size - 1)))
    return values.index_select(0, torch.cat(last))


def _stride(m: int) -> int:
    """Returns the distance of the starts that are compared with all m positions."""
    stride = 1
    while m > TOP * stride:
        stride *= BRANCH
    return stride


def _intervals(values: Tensor, counts: Tensor, block: int, stride: int) -> tuple[Intervals, Tensor]:
    """Returns the intervals (b, s, block) within blocks from every `stride`-th start on, and which j are before it."""
    points, counts = values.view(-1, 1, block), counts.view(-1, 1, block)
    starts = slice(stride - 1, None, stride)
    seen = counts.cumsum(2)
    sizes = (seen - (seen - counts)[:, :, starts].mT).clamp_(min=1.0)
    offsets = (points - points[:, :, starts].mT).clamp_(min=0.0)
    weighted = counts * offsets
    sums = weighted.cumsum(2)
    costs = weighted.mul_(offsets).cumsum(2).addcdiv_(sums * sums, sizes, value=-1.0).clamp_(min=0.0)
    positions = torch.arange(block, device=values.device)
    return Intervals(costs, sums.div_(sizes), 1, block), positions < positions[starts, None]


def _level(values: Tensor, counts: Tensor, block: int, stride: int) -> Level:
    """Measures the starts at every `stride`-th position, in blocks."""
    (costs, means, _, _), never = _intervals(values, counts, block, stride)
    known = costs.masked_fill(never, torch.inf)
    known[:, :, -1] = costs[:, :, -2]
    means[:, :, -1] = means[:, :, -2]
    points, before = values.view(-1, block), (counts.cumsum(0) - counts).view(-1, block)
    above = points[:, -1:] - points[:, stride - 1 :: stride]
    return Level(
        costs=known.mT.reshape(len(values), -1),
        means=means.mT.reshape(len(values), -1) if stride > 1 else means[:0],
        below=above - means[:, :, -1],
        above=above,
        sizes=(before[:, -1:] - before[:, stride - 1 :: stride]).clamp_(min=NOBODY),
        number=torch.arange(len(points), device=values.device),
        before=before[:, -1],
        slots=torch.arange(len(values) - 1 + len(points), device=values.device),
        size=block,
    )


def _refine(
    level: Level, known: Intervals, ends: Tensor, rest: Tensor, seen: Tensor
) -> tuple[Tensor, Tensor, Intervals]:
    """Solves the starts of a level, given the ends (b,) of the best intervals from each block's last position.

    Slot t belongs to position j = t - b of block b, so that the last j of a block is the first one of the next.

    Returns:
        For each start the least cost of what follows and the end of the best interval; all intervals by slot and start.
    """
    block = (
        torch.searchsorted(torch.cat((ends.new_zeros(1), ends[:-1])) + level.number, level.slots, right=True)
        - 1
    )
    j = level.slots - block
    first = block * level.size
    intervals = _merge(level, known, (block, j, first + (level.size - 1)), seen)
    more = rest.index_select(0, j).masked_fill_(j < first, torch.inf)
    totals = intervals.costs + more[:, None]
    index = block[:, None].expand_as(totals)
    least = totals.new_full(level.sizes.shape, torch.inf).scatter_reduce_(0, index, totals, "amin")
    best = j[:, None].masked_fill(totals > least.index_select(0, block), len(rest) - 1)
    end = best.new_full(least.shape, len(rest) - 1).scatter_reduce_(0, index, best, "amin")
    return least.view(-1), end.view(-1), intervals


def _merge(level: Level, known: Intervals, slots: tuple[Tensor, Tensor, Tensor], seen: Tensor) -> Intervals:
    """Measures the intervals (t, s) of slots from those inside of a block and those from its last position on.

    Args:
        level: The level.
        known: The intervals from the last position of each block on.
        slots: For each slot its block, its position and the last position of its block, each (t,).
        seen: (n,) how many of the values up to each position count.
    """
    block, j, last = slots
    at = j * known.per_position + block * known.per_start
    beyond = (seen.index_select(0, j) - level.before.index_select(0, block)).clamp_(min=0.0)[:, None]
    # Up to before the last position nothing is beyond: an interval that ends there is in the block.
    cost = known.costs.view(-1).index_select(0, at).masked_fill_(j < last, 0.0)
    mean = known.means.view(-1).index_select(0, at)[:, None]
    inside = level.sizes.index_select(0, block)
    total = inside + beyond
    row = torch.minimum(j, last)
    apart = level.below.index_select(0, block).add_(mean)
    between = apart.mul_(apart).mul_(inside).mul_(beyond)
    costs = level.costs.index_select(0, row).add_(cost[:, None]).addcdiv_(between, total)
    if not len(level.means):
        return Intervals(costs, level.means, costs.shape[1], 1)
    means = level.means.index_select(0, row).mul_(inside)
    means.addcmul_(level.above.index_select(0, block).add_(mean), beyond).div_(total)
    return Intervals(costs, means, costs.shape[1], 1)


def _from_the_first(values: Tensor, counts: Tensor) -> Tensor:
    """Returns the costs (n,) of the intervals from the first position up to each."""
    offsets = values - values[0]
    weighted = counts * offsets
    sums = weighted.cumsum(0)
    squares = weighted.mul_(offsets).cumsum(0)
    return squares.addcdiv_(sums.mul_(sums), counts.cumsum(0).clamp_(min=1.0), value=-1.0)
