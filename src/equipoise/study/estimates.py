"""Estimates with their uncertainty: noise of a run, correlations, slopes, and intervals of 95 %."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.training.comparison import critical

_LEAST_DF = 2
_DRAWS = 2000


@dataclass(frozen=True)
class Bounded:
    """A number with its 95 % interval; the bounds are infinite where nothing is known of it."""

    value: float
    low: float
    high: float

    @classmethod
    def around(cls, value: float, half: float) -> Bounded:
        """A symmetric one."""
        return cls(value, value - half, value + half)


@dataclass(frozen=True)
class NetworkNoise:
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
    """97.5 % point of Student's t, infinite below 2 degrees of freedom."""
    return critical(0.05, df) if df >= _LEAST_DF else math.inf


def noise_of(curves: Sequence[Sequence[tuple[float, Sequence[float]]]]) -> NetworkNoise | None:
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
        return NetworkNoise(math.sqrt(total / df), df, "seeds")
    total, df = 0.0, 0
    for curve in curves:
        points = [(p, value) for p, values in curve for value in values]
        if len(points) > 3:
            total += _residual(points)
            df += len(points) - 3
    return NetworkNoise(math.sqrt(total / df), df, "curves") if df else None


def _residual(points: Sequence[tuple[float, float]]) -> float:
    """The sum of squares that a quadratic leaves."""
    x, y = torch.tensor(points, dtype=torch.float64).T
    design = torch.stack([torch.ones_like(x), x, x.square()], 1)
    fit = design @ torch.linalg.lstsq(design, y[:, None]).solution
    return float((y[:, None] - fit).square().sum())


def slope(points: Sequence[tuple[float, float]]) -> Bounded | None:
    """The slope of y over x by least squares, with its t interval; None where there are no two different x."""
    if not points:
        return None
    left, up = (statistics.fmean(column) for column in zip(*points, strict=True))
    spread = sum((x - left) ** 2 for x, _ in points)
    if spread <= 1e-12:
        return None
    value = sum((x - left) * (y - up) for x, y in points) / spread
    df = len(points) - 2
    if df < _LEAST_DF:
        return Bounded(value, -math.inf, math.inf)
    rest = sum((y - up - value * (x - left)) ** 2 for x, y in points)
    return Bounded.around(value, t_quantile(df) * math.sqrt(rest / df / spread))


def pearson(clusters: Sequence[Sequence[tuple[float, float]]]) -> Bounded | None:
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
    return Bounded(float(value), low, high)


def spearman(clusters: Sequence[Sequence[tuple[float, float]]]) -> Bounded | None:
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
