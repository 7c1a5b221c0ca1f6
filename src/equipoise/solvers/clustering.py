"""Groups of numbers by other rules than k-means: one frame for all of them, agglomeration, and bins of ranks."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from equipoise.solvers.kmeans import group_means
from equipoise.solvers.solution import single_threaded

LINKAGES = ("ward", "average", "complete", "single")

ROUNDING = 1e-13  # of the sum of absolute values: neighbours closer than that are equal

# Puts at least k + 1 distinct numbers, in rising order (p,), into at most k groups, 2 <= k < p: labels (p,) from 0 to
# k - 1 in any order, and whether the rule has found what it looks for.
Rule = Callable[[Tensor, int], tuple[Tensor, bool]]


@single_threaded
def cluster_1d(values: Tensor, k: int, rule: Rule, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Splits numbers into at most k groups by a rule, in the same way whatever their order.

    The rule sees the present numbers in rising order. Numbers that differ by roundings are made equal, and share the
    group of the first of them in that order. Up to k distinct numbers are groups of their own without asking the
    rule. Numbers that are not finite count as 0. The work is done on the CPU in float64, so this waits for another
    device.

    Args:
        values: (m,).
        k: The largest number of groups, at least 1.
        rule: How to group.
        present: (m,) bool, which values count; None for all. An absent one gets label 0.

    Returns:
        Labels (m,), long, from 0 to k - 1, rising with the group's mean, a group that the rule leaves empty last;
        and whether the rule has found what it looks for, () bool. Both on the device of `values`.

    Raises:
        ValueError: `values` is not one-dimensional, or `k` is below 1.
    """
    if values.ndim != 1:
        raise ValueError(f"`values` should be one-dimensional. Found shape {tuple(values.shape)}.")
    if k < 1:
        raise ValueError(f"`k` should be at least 1. Found {k}.")
    points = values.detach().to("cpu", torch.float64).nan_to_num(0.0, 0.0, 0.0)
    position = torch.arange(len(points)) if present is None else present.cpu().nonzero()[:, 0]
    ordered, order = points[position].sort()
    rises = torch.ones_like(ordered, dtype=torch.bool)
    rises[1:] = ordered.diff() > ROUNDING * ordered.abs().sum()
    run, converged = rises.cumsum(0) - 1, True
    if k == 1:
        run = torch.zeros_like(run)
    elif int(rises.sum()) > k:
        found, converged = rule(ordered[rises][run], k)
        run = _rising(found[rises][run], ordered, k)
    labels = torch.zeros_like(points, dtype=torch.long)
    labels[position[order]] = run
    return labels.to(values.device), torch.tensor(converged, device=values.device)


def _rising(labels: Tensor, points: Tensor, k: int) -> Tensor:
    """Renames groups so that their numbers rise with their means, with empty ones last."""
    means = group_means(points, labels, k)[1]
    filled = torch.bincount(labels, minlength=k) > 0
    return torch.where(filled, means, torch.inf).argsort(stable=True).argsort()[labels]


def agglomerative(ordered: Tensor, k: int, linkage: str = "ward") -> Tensor:
    """Merges the two closest groups, from single numbers up, until k groups are left.

    For groups a < b of n_a and n_b numbers with means c_a and c_b, the distance is n_a n_b / (n_a + n_b) (c_b - c_a)^2
    for "ward" (by how much the merger raises the sum of squares), c_b - c_a for "average" (on a line the mean
    distance of two groups that do not interlace), the farthest pair for "complete" and the nearest for "single". On a
    line the closest groups are always neighbours, so groups are intervals and m - k mergers of m - 1 candidates
    suffice; of equal distances the first counts.

    Source: J. Ward, Hierarchical grouping to optimize an objective function, Journal of the American Statistical
    Association 58 (1963); G. Lance and W. Williams, A general theory of classificatory sorting strategies, The
    Computer Journal 9 (1967).

    Args:
        ordered: (p,) in rising order.
        k: Number of groups, from 1 to p.
        linkage: One of `LINKAGES`.

    Returns:
        Labels (p,), long, from 0 to k - 1, rising.
    """
    groups = [(1, value, value, value) for value in ordered.tolist()]
    distances = [_distance(a, b, linkage) for a, b in pairwise(groups)]
    while len(groups) > k:
        i = distances.index(min(distances))
        (n_a, mean_a, lowest, _), (n_b, mean_b, _, highest) = groups[i], groups.pop(i + 1)
        n = n_a + n_b
        groups[i] = (n, mean_a + (mean_b - mean_a) * n_b / n, lowest, highest)
        del distances[i]
        for j in range(max(i - 1, 0), min(i + 1, len(distances))):
            distances[j] = _distance(groups[j], groups[j + 1], linkage)
    sizes = torch.tensor([group[0] for group in groups])
    return torch.repeat_interleave(torch.arange(len(groups)), sizes)


def _distance(a: tuple[int, float, float, float], b: tuple[int, float, float, float], linkage: str) -> float:
    """Returns how far the group b lies above the group a; a group is (size, mean, lowest, highest)."""
    (n_a, mean_a, lowest_a, highest_a), (n_b, mean_b, lowest_b, highest_b) = a, b
    match linkage:
        case "ward":
            return n_a * n_b / (n_a + n_b) * (mean_b - mean_a) ** 2
        case "average":
            return mean_b - mean_a
        case "complete":
            return highest_b - lowest_a
        case _:
            return lowest_b - highest_a


def quantile_bins(values: Tensor, k: int | Tensor, present: Tensor | None = None) -> Tensor:
    """Splits numbers into k bins of as many members each, by their ranks.

    The label is floor(k r / p) with p the number of present values and r, from 0 to p - 1, how many of them are
    smaller: bin sizes differ by at most one where no values are equal. Equal values share a bin, which can leave
    others empty. No value is ever sent to the host.

    Args:
        values: (m,).
        k: Number of bins, at least 1, or a () long tensor on the device of `values`.
        present: (m,) bool, which values count; None for all. An absent one gets some label that means nothing.

    Returns:
        Labels (m,), long, from 0 to k - 1, rising with the values.
    """
    points = values.detach()
    if present is None:
        return torch.searchsorted(points.sort().values, points) * k // max(len(points), 1)
    points = torch.where(present, points, torch.inf)
    smaller = torch.searchsorted(points.sort().values, points)
    return torch.where(present, smaller * k // present.sum().clamp(min=1), 0)
