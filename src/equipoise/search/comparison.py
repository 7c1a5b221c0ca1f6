"""The difference of two variants over the same seeds, with its interval."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# 97.5 % points of Student's t with 1, 2, ... degrees of freedom; Abramowitz and Stegun, table 26.10.
_T = (
    12.706,
    4.303,
    3.182,
    2.776,
    2.571,
    2.447,
    2.365,
    2.306,
    2.262,
    2.228,
    2.201,
    2.179,
    2.160,
    2.145,
    2.131,
)
_T_LARGE = 1.960


@dataclass(frozen=True)
class Comparison:
    """The mean difference of two variants over the same seeds, with its 95 % interval.

    Args:
        mean: of the differences.
        half: of the interval's width; infinite with one seed.
        p: probability of a mean as far from 0 if there is no difference (two-sided t test); 1 with one seed.
    """

    mean: float
    half: float
    p: float = 1.0


def compared(scores: Sequence[float], others: Sequence[float]) -> Comparison:
    """How much lower the first scores are than the others, of the same seeds: the paired t interval of 95 %.

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
        return Comparison(mean, math.inf)
    quantile = _T[count - 2] if count - 2 < len(_T) else _T_LARGE
    error = statistics.stdev(differences) / math.sqrt(count)
    p = two_sided(mean / error, count - 1) if error else float(mean == 0)
    return Comparison(mean, quantile * error, p)


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
