"""Differences over the same seeds: the paired t test, when there is none, and what a family of tests comes to."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

LEVEL = 0.05
"""Of every test."""
CONFIDENCE = 1 - LEVEL
"""Of every interval."""
Verdict = Literal["better", "worse", "tie", "unknown"]

NO_SEED = "no seed in common"
ONE_SEED = "one seed, which says nothing about its spread"
NOT_FINITE = "a value is not finite"
SAME = "the same runs: equal scores on every seed"
NO_SPREAD = "every seed has the same difference, so there is no spread to judge it by"
_ROUNDING = 1e-12  # of the largest score, or of 1: a spread below it is that of sums in another order


@dataclass(frozen=True)
class Comparison:
    """The mean difference of two variants over the same seeds.

    Args:
        mean: of the differences d_i; NaN without a seed, or where a score is not finite.
        error: std(d) / sqrt(n), its standard error; infinite where there is no test.
        n: number of seeds that both have.
        why: the reason where there is no test, else empty.
    """

    mean: float
    error: float
    n: int
    why: str = ""

    @property
    def freedom(self) -> int:
        """Degrees of freedom n - 1, at least 0."""
        return max(self.n - 1, 0)

    @property
    def half(self) -> float:
        """Half of the 95 % interval; infinite where there is no test."""
        return self.visible(LEVEL)

    @property
    def p(self) -> float:
        """Probability of a mean as far from 0 if there is no difference, by the two-sided t test; 1 without one."""
        return 1.0 if self.why else two_sided(self.mean / self.error, self.freedom)

    def visible(self, level: float) -> float:
        """The smallest observed mean that would have a p-value at this level; infinite where there is no test."""
        return math.inf if self.why else critical(level, self.freedom) * self.error


def compared(scores: Sequence[float], others: Sequence[float]) -> Comparison:
    """How much lower the first scores are than the others, of the same seeds, for the paired t test and its interval.

    With the n differences d_i = s_i - o_i, mean(d) +- t_{0.975, n-1} std(d) / sqrt(n). There is no test, and `why` says
    so, of no seed or one, of a score that is not finite, and of differences without spread: equal scores are those of
    the same runs, and t would be infinite for any other number.

    Raises:
        ValueError: if they are not equally many.
    """
    if len(scores) != len(others):
        raise ValueError(
            f"`scores` and `others` should be equally many. Found {len(scores)} and {len(others)}."
        )
    n = len(scores)
    if not n:
        return Comparison(math.nan, math.inf, 0, NO_SEED)
    if not all(map(math.isfinite, [*scores, *others])):
        return Comparison(math.nan, math.inf, n, NOT_FINITE)
    differences = [score - other for score, other in zip(scores, others, strict=True)]
    mean = statistics.fmean(differences)
    if n == 1:
        return Comparison(mean, math.inf, 1, ONE_SEED)
    error = statistics.stdev(differences) / math.sqrt(n)
    least = _ROUNDING * max(1.0, *map(abs, [*scores, *others]))
    if error <= least:
        return Comparison(mean, math.inf, n, SAME if abs(mean) <= least else NO_SPREAD)
    return Comparison(mean, error, n)


def paired(scores: Mapping[int, float], others: Mapping[int, float]) -> Comparison:
    """`compared` of what two variants have, by seed, over the seeds that both have."""
    seeds = [seed for seed in scores if seed in others]
    return compared([scores[seed] for seed in seeds], [others[seed] for seed in seeds])


class OneTest(Protocol):
    """What a family of tests is made of, such as a `Comparison`."""

    @property
    def p(self) -> float:
        """Its p-value; 1 where there is no test."""

    @property
    def why(self) -> str:
        """The reason where there is no test, else empty."""

    def visible(self, level: float) -> float:
        """The smallest size that would have a p-value at this level; infinite where there is no test."""


T_co = TypeVar("T_co", bound=OneTest, covariant=True)


@dataclass(frozen=True)
class Judged(Generic[T_co]):
    """A test as one of a family.

    Args:
        test: by itself.
        p: after Holm's correction over the family; 1 where there is no test.
        visible: the smallest observed size that would have been clear at this test's step of Holm's procedure; a true
            one of that size is missed half of the time. Infinite where there is no test.
    """

    test: T_co
    p: float
    visible: float

    @property
    def clear(self) -> bool:
        """Whether p is below 0.05."""
        return not self.test.why and self.p < LEVEL


def judged(tests: Sequence[T_co]) -> list[Judged[T_co]]:
    """What a family of tests comes to, after Holm's correction over those of them that are tests."""
    at = [place for place, test in enumerate(tests) if not test.why]
    plain = [tests[place].p for place in at]
    corrected, steps = dict(zip(at, holm(plain), strict=True)), dict(zip(at, holm_steps(plain), strict=True))
    return [
        Judged(test, corrected.get(place, 1.0), test.visible(LEVEL / steps.get(place, 1)))
        for place, test in enumerate(tests)
    ]


def verdict_on(one: Judged[Comparison]) -> Verdict:
    """The word for a difference where lower is better: "tie" if it is not clear, "unknown" if there is no test."""
    if one.test.why:
        return "unknown"
    if not one.clear:
        return "tie"
    return "better" if one.test.mean < 0 else "worse"


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


def holm_steps(values: Sequence[float]) -> list[int]:
    """What Holm's procedure divides the level by for each p-value: the tests left when it comes to it, or stops."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    clear = sum(p < LEVEL for p in holm(values))
    found = [1] * len(values)
    for place, i in enumerate(order):
        found[i] = len(values) - min(place, clear)
    return found
