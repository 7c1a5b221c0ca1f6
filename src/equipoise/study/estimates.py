"""Estimates with their uncertainty: noise of a run, correlations, slopes, and intervals of 95 %."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_Z = 1.959964  # 97.5 % point of the normal distribution
_LEAST_DF = 3
_DRAWS = 2000


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; the bounds are infinite where nothing is known of it."""

    value: float
    low: float
    high: float

    @classmethod
    def around(cls, value: float, half: float) -> Estimate:
        """A symmetric one."""
        return cls(value, value - half, value + half)


@dataclass(frozen=True)
class Noise:
    """How much the merit of one network would differ if it were trained again.

    Args:
        sd: its standard deviation.
        df: degrees of freedom of that.
        source: "seeds", or "curves" where there is one seed.
    """

    sd: float
    df: int
    source: str

    def half(self, variance: float) -> float:
        """Half of the 95 % interval of a sum of merits whose variance is this many times that of one network."""
        return t_quantile(self.df) * self.sd * math.sqrt(variance)


def t_quantile(df: int) -> float:
    """97.5 % point of Student's t, infinite below 3 degrees of freedom; within 0.01 from there on.

    z + (z^3 + z) / (4 n) + (5 z^5 + 16 z^3 + 3 z) / (96 n^2) + (3 z^7 + 19 z^5 + 17 z^3 - 15 z) / (384 n^3)
      + (79 z^9 + 776 z^7 + 1482 z^5 - 1920 z^3 - 945 z) / (92160 n^4).

    Reference: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5.
    """
    if df < _LEAST_DF:
        return math.inf
    z = _Z
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    fourth = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return z + first / df + second / df**2 + third / df**3 + fourth / df**4


def noise_of(curves: Sequence[Sequence[tuple[float, Sequence[float]]]]) -> Noise | None:
    """The noise of one network, pooled over all curves; None where it cannot be told.

    With several seeds: sqrt(sum (y - mean of its seeds)^2 / (networks - points)). With one: the residuals of a
    quadratic in p for each curve, sqrt(sum r^2 / (networks - 3 curves)), of curves with more than three points. That
    counts as noise what a quadratic does not follow, so it is rather too large than too small.

    Args:
        curves: of (p, a value for each seed).
    """
    within = [list(values) for curve in curves for _, values in curve if len(values) > 1]
    if within:
        total = sum(statistics.pvariance(values) * len(values) for values in within)
        df = sum(len(values) - 1 for values in within)
        return Noise(math.sqrt(total / df), df, "seeds")
    total, df = 0.0, 0
    for curve in curves:
        points = [(p, value) for p, values in curve for value in values]
        if len(points) > 3:
            total += _residual(points)
            df += len(points) - 3
    return Noise(math.sqrt(total / df), df, "curves") if df else None


def _residual(points: Sequence[tuple[float, float]]) -> float:
    """The sum of squares that a quadratic leaves."""
    x, y = torch.tensor(points, dtype=torch.float64).T
    design = torch.stack([torch.ones_like(x), x, x.square()], 1)
    fit = design @ torch.linalg.lstsq(design, y[:, None]).solution
    return float((y[:, None] - fit).square().sum())


def slope(groups: Sequence[Sequence[tuple[float, float]]]) -> Estimate | None:
    """The common slope of y over x with an intercept for each group, by least squares, with its t interval.

    None where no group has two different x.
    """
    centred = []
    for group in groups:
        xs, ys = [x for x, _ in group], [y for _, y in group]
        if group:
            centred += [(x - statistics.fmean(xs), y - statistics.fmean(ys)) for x, y in group]
    spread = sum(x * x for x, _ in centred)
    if spread <= 1e-12:
        return None
    value = sum(x * y for x, y in centred) / spread
    df = len(centred) - sum(bool(group) for group in groups) - 1
    if df < _LEAST_DF:
        return Estimate(value, -math.inf, math.inf)
    rest = sum((y - value * x) ** 2 for x, y in centred)
    return Estimate.around(value, t_quantile(df) * math.sqrt(rest / df / spread))


def pearson(clusters: Sequence[Sequence[tuple[float, float]]]) -> Estimate | None:
    """Pearson's correlation over all points, with the bootstrap interval that draws whole clusters.

    The points of one cluster, such as the epochs of one run, are not independent. 2000 draws of as many clusters as
    there are, with replacement, from a fixed stream; the 2.5 and 97.5 % points of their correlations.

    None with fewer than 3 clusters, or where one side does not vary.
    """
    kept = [torch.tensor(list(points), dtype=torch.float64) for points in clusters if points]
    if len(kept) < 3:
        return None
    centre = torch.cat(kept).mean(0)
    sums = torch.stack([_moments(points - centre) for points in kept])
    value = _correlation(sums.sum(0))
    if value.isnan():
        return None
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(len(kept), (_DRAWS, len(kept)), generator=generator)
    found = _correlation(sums[drawn].sum(1))
    low, high = found[~found.isnan()].quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Estimate(float(value), low, high)


def spearman(clusters: Sequence[Sequence[tuple[float, float]]]) -> Estimate | None:
    """Pearson's correlation of the ranks among all points, ties at their mean rank; see `pearson`.

    The bootstrap keeps the ranks of the whole sample.
    """
    points = [point for cluster in clusters for point in cluster]
    xs, ys = (iter(_ranks([point[side] for point in points])) for side in (0, 1))
    return pearson([[(next(xs), next(ys)) for _ in cluster] for cluster in clusters])


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    begin = 0
    while begin < len(order):
        end = begin
        while end + 1 < len(order) and values[order[end + 1]] == values[order[begin]]:
            end += 1
        for place in order[begin : end + 1]:
            ranks[place] = (begin + end) / 2
        begin = end + 1
    return ranks


def _moments(points: Tensor) -> Tensor:
    """Count and sums of x, y, xx, yy, xy (6,) of points (n, 2)."""
    x, y = points.T
    count = torch.tensor(float(len(points)), dtype=torch.float64)
    return torch.stack([count, x.sum(), y.sum(), x @ x, y @ y, x @ y])


def _correlation(sums: Tensor) -> Tensor:
    """Of sums (..., 6); NaN where one side does not vary."""
    n, x, y, xx, yy, xy = sums.unbind(-1)
    spread = (xx - x * x / n).clamp(min=0) * (yy - y * y / n).clamp(min=0)
    return torch.where(spread > 1e-18, (xy - x * y / n) / spread.sqrt(), torch.nan)
