"""The difference of two variants over the same seeds, with its interval."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Comparison:
    """The mean difference of two variants over the same seeds.

    Args:
        mean: of the differences d_i.
        error: std(d) / sqrt(n), its standard error; infinite with one seed.
        freedom: n - 1.
    """

    mean: float
    error: float
    freedom: int

    @property
    def half(self) -> float:
        """Half of the 95 % interval."""
        return self.visible(0.05)

    @property
    def p(self) -> float:
        """Probability of a mean as far from 0 if there is no difference (two-sided t test); 1 with one seed."""
        if not self.freedom:
            return 1.0
        if not self.error:
            return float(self.mean == 0)
        return two_sided(self.mean / self.error, self.freedom)

    def visible(self, level: float) -> float:
        """The smallest mean that would have a p-value at this level; infinite with one seed."""
        return critical(level, self.freedom) * self.error if self.freedom else math.inf


def compared(scores: Sequence[float], others: Sequence[float]) -> Comparison:
    """How much lower the first scores are than the others, of the same seeds, for the paired t test and its interval.

    With the n differences d_i = s_i - o_i, mean(d) +- t_{0.975, n-1} std(d) / sqrt(n).

    Raises:
        ValueError: if there are none, or not equally many.
    """
    if not scores or len(scores) != len(others):
        raise ValueError(
            f"`scores` and `others` should be equally many. Found {len(scores)} and {len(others)}."
        )
    differences = [score - other for score, other in zip(scores, others, strict=True)]
    count, mean = len(differences), statistics.fmean(differences)
    if count == 1:
        return Comparison(mean, math.inf, 0)
    return Comparison(mean, statistics.stdev(differences) / math.sqrt(count), count - 1)


def critical(level: float, freedom: int) -> float:
    """How far from 0 a Student-t variable is with this two-sided probability, by bisection of `two_sided`."""
    low, high = 0.0, 1.0
    while two_sided(high, freedom) > level:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if two_sided(middle, freedom) > level else (low, middle)
    return high


def two_sided(t: float, freedom: int) -> float:
    """The probability that a Student-t variable is as far from 0 as t, by its finite sum for whole degrees of freedom.

    Source: M. Abramowitz and I. Stegun, Handbook of Mathematical Functions, 1964, 26.7.3 and 26.7.4.
    """
    angle = math.atan2(abs(t), math.sqrt(freedom))
    cosine = math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = 0.0 if odd and freedom == 1 else term
    for k in range(3 if odd else 2, freedom - 1, 2):
        term *= cosine**2 * (k - 1) / k
        total += term
    inside = 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
    return max(1 - inside, 0.0)


def holm(values: Sequence[float]) -> list[float]:
    """p-values after Holm's correction for so many tests: the k-th smallest of n times n - k + 1, never falling.

    Source: S. Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of Statistics, 1979.
    """
    order = sorted(range(len(values)), key=lambda i: values[i])
    found, least = [0.0] * len(values), 0.0
    for place, i in enumerate(order):
        least = max(least, min((len(values) - place) * values[i], 1.0))
        found[i] = least
    return found
