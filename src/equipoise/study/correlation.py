"""Whether two numbers of a method go together over methods: correlation, interval, and permutation test."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import NormalDist

import torch
from torch import Tensor

from equipoise.training.comparison import CONFIDENCE

_LEAST = 4  # of points, for Fisher's interval
_DRAWS = 10_000
_ROUNDING = 1e-9  # of a correlation: equal ones in another order of summation


@dataclass(frozen=True)
class PermutedCorrelation:
    """Pearson's correlation of two numbers over n independent points.

    Args:
        r: the correlation; NaN where there is none.
        low: lower end of its 95 % interval; NaN where there is none.
        high: upper end.
        n: number of points.
        why: the reason where there is no test, else empty.
        chance: sizes of the correlations of the same numbers in random order, rising.
    """

    r: float
    low: float
    high: float
    n: int
    why: str = ""
    chance: tuple[float, ...] = field(default=(), repr=False)

    @property
    def p(self) -> float:
        """Probability of a correlation of this size if the numbers were dealt at random; 1 without a test."""
        if self.why:
            return 1.0
        above = len(self.chance) - bisect_left(self.chance, abs(self.r) - _ROUNDING)
        return (above + 1) / (len(self.chance) + 1)

    def visible(self, level: float) -> float:
        """The smallest size that would have a p-value below this level; infinite where none of these numbers has."""
        most = (
            math.ceil(level * (len(self.chance) + 1)) - 2
        )  # that may be as large: (most + 1) / (draws + 1) < level
        if self.why or most < 0:
            return math.inf
        size = self.chance[len(self.chance) - 1 - most]
        return size if size < self.chance[-1] - _ROUNDING else math.inf


def correlated(points: Sequence[tuple[float, float]]) -> PermutedCorrelation:
    """The correlation r of the points (x, y), with Fisher's interval and 10,000 random orders of y.

    The interval is tanh(atanh r +- 1.96 / sqrt(n - 3)). The p-value counts random orders whose correlation is as large
    in size, the given one among them. It needs no normal distribution: one point far from all others does not make a
    correlation, as it would for the t test. The orders come from a fixed stream.

    Sources: R. A. Fisher, On the "Probable Error" of a Coefficient of Correlation Deduced from a Small Sample, Metron
    1, 1921; E. J. G. Pitman, Significance Tests Which May be Applied to Samples from Any Populations II, 1937.

    Args:
        points: finite, and independent of each other.
    """
    n = len(points)
    if n < _LEAST:
        return PermutedCorrelation(math.nan, math.nan, math.nan, n, f"{n} methods, and it takes {_LEAST}")
    values = torch.tensor(points, dtype=torch.float64)
    centred = values - values.mean(0)
    sizes = centred.norm(dim=0)
    if bool((sizes <= 1e-12 * values.abs().amax(0).clamp(min=1.0)).any()):
        return PermutedCorrelation(math.nan, math.nan, math.nan, n, "one of the two does not vary")
    x, y = (centred / sizes).T
    chance = (y[_orders(n)] @ x).abs().sort().values
    r = max(-1.0, min(1.0, float(x @ y)))
    low, high = _fisher(r, n)
    return PermutedCorrelation(r, low, high, n, "", tuple(chance.tolist()))


@lru_cache(maxsize=4)
def _orders(n: int) -> Tensor:
    """Random orders of n points, (draws, n)."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(_DRAWS, n, generator=generator, dtype=torch.float64).argsort(dim=1)


def _fisher(r: float, n: int) -> tuple[float, float]:
    if abs(r) > 1 - _ROUNDING:
        return r, r
    half = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) / math.sqrt(n - 3)
    return math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)
