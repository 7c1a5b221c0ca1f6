"""Intervals from resampled seeds whose coverage holds for few of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from equipoise.training.comparison import LEVEL, critical

from .estimates import Estimate

RESAMPLES = 10_000
FEWER = 2_000  # where there are many metrics; the standard error is then known to 2 % instead of 1 %
SEED = 0
_NO_SPREAD = 1e-12  # relative; below this a standard deviation is rounding


def shares(n: int, stream: int, resamples: int) -> Tensor:
    """How much each of n seeds counts in every resample, (resamples, n); each row sums to 1.

    A resample draws n - 1 of the n seeds with replacement. Its mean then has the variance s^2 / n with the unbiased
    s^2 (divisor n - 1); draws of n would give (n - 1) / n of that, a fifth too little for 5 seeds.

    Source: P. J. McCarthy and C. B. Snowden, The Bootstrap and Finite Population Sampling, Vital and Health
    Statistics 2 (95), 1985.

    Args:
        n: number of seeds; one seed counts 1 everywhere, since nothing is known of its spread.
        stream: number of the random stream; other groups of seeds take others.
        resamples: number of rows.
    """
    if n == 1:
        return torch.ones(resamples, 1, dtype=torch.float64)
    generator = torch.Generator().manual_seed(SEED + stream)
    drawn = torch.randint(n, (resamples, n - 1), generator=generator)
    counts = torch.zeros(resamples, n, dtype=torch.float64)
    return counts.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64)) / (n - 1)


def interval(
    mean: float, error: float, freedom: int, n: int, limits: tuple[float, float] = (-math.inf, math.inf)
) -> Estimate:
    """The 95 % interval mean +- t_{0.975, freedom} error: bootstrap standard error, Student's quantile.

    The percentile interval of 5 seeds holds the true mean in about 83 of 100 cases, since it knows neither that the
    spread is itself estimated nor that resamples are too narrow; BCa corrects neither. This one holds it in 93 to 98
    of 100 from 3 seeds on (`tests/benchmark/test_bootstrap.py` measures both), and carries the uncertainty of the
    single-task runs through the division by them.

    Source: T. C. Hesterberg, What Teachers Should Know About the Bootstrap, The American Statistician 69, 2015
    (t interval with bootstrap standard error; under-coverage of percentile intervals).

    Args:
        mean: the estimate from all seeds.
        error: standard deviation of the same over the resamples.
        freedom: degrees of freedom, at least 1, see `freedom_of`.
        n: number of seeds, as the estimate shall state it.
        limits: of what is estimated, such as 0 and 1 of a probability.
    """
    if error <= _NO_SPREAD * max(1.0, abs(mean)):
        return Estimate(mean, None, None, n, "the same in every resample, so its uncertainty is not known")
    half = _quantile(freedom) * error
    return Estimate(mean, max(mean - half, limits[0]), min(mean + half, limits[1]), n)


def freedom_of(parts: Sequence[tuple[float, int]]) -> int:
    """Degrees of freedom of a sum of independent variances v_i, each estimated from n_i seeds, rounded down.

    (sum_i v_i)^2 / sum_i v_i^2 / (n_i - 1), between the smallest n_i - 1 and the sum of them.

    Source: F. E. Satterthwaite, An Approximate Distribution of Estimates of Variance Components, Biometrics
    Bulletin 2, 1946.

    Args:
        parts: variance and number of seeds of each group, more than one seed each.
    """
    least = min(n - 1 for _, n in parts)
    total = sum(variance for variance, _ in parts)
    if not total > 0:
        return least
    found = total**2 / sum(variance**2 / (n - 1) for variance, n in parts)
    return max(math.floor(found + 1e-9), least)


@cache
def _quantile(freedom: int) -> float:
    return critical(LEVEL, freedom)
