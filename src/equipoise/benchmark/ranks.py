"""Which methods differ in rank over several metrics, and which groups of them do not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

import torch

from equipoise.training.comparison import LEVEL, holm
from equipoise.training.metrics import mean_rank

_EXACT = 50  # blocks; above, the normal approximation is taken


@dataclass(frozen=True)
class RankTest:
    """Methods over blocks, for a critical-difference picture.

    Args:
        mean_ranks: method -> mean competition rank over the blocks, the best first.
        blocks: number of metrics.
        statistic: Friedman's chi-squared, corrected for ties; NaN with fewer than three methods or two blocks.
        p: its p-value: whether any method differs; 1 where there is none.
        pairs: p-value of every two methods after Holm's correction, in the order of `mean_ranks`.
        cliques: groups of methods next to each other in rank of which no two differ, the largest ones only.
    """

    mean_ranks: Mapping[str, float]
    blocks: int
    statistic: float
    p: float
    pairs: Mapping[tuple[str, str], float]
    cliques: tuple[tuple[str, ...], ...]


def rank_test(table: Mapping[str, Sequence[float]], higher_is_better: Sequence[bool]) -> RankTest:
    """Friedman's test over all methods, then Wilcoxon's signed-rank test of every two with Holm's correction.

    Two methods are compared by (a - b) / (|a| + |b|) in each metric, so that units do not matter. Nemenyi's test is not
    used: whether it finds two methods different depends on the others in the table.

    Sources: J. Demsar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7, 2006 (the test, the
    picture); A. Benavoli, G. Corani, F. Mangili, Should We Really Use Post-Hoc Tests Based on Mean-Ranks?, JMLR 17,
    2016 (why pairs are tested by signed ranks).

    Args:
        table: method -> one finite number per metric.
        higher_is_better: the direction of each metric.

    Raises:
        ValueError: with fewer than two methods, or a number that is not finite.
    """
    if len(table) < 2:
        raise ValueError(f"`table` should hold at least two methods. Found {len(table)}.")
    for method, row in table.items():
        if not all(map(math.isfinite, row)):
            raise ValueError(f"`table` should hold finite numbers. Found another one in the row of {method}.")
    ranks = mean_rank(table, higher_is_better)
    order = sorted(table, key=lambda method: ranks[method])
    costs = {m: [-v if h else v for v, h in zip(table[m], higher_is_better, strict=True)] for m in order}
    couples = list(combinations(order, 2))
    plain = [signed_rank(_relative(costs[a], costs[b])) for a, b in couples]
    pairs = dict(zip(couples, holm(plain), strict=True))
    statistic, p = friedman(list(costs.values()))
    means = {method: ranks[method] for method in order}
    return RankTest(means, len(higher_is_better), statistic, p, pairs, _cliques(order, pairs))


def friedman(rows: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Friedman's statistic and p-value (chi-squared with k - 1 degrees of freedom), ties sharing the mean rank.

    With ranks r of k methods in each of N blocks and R_j the mean rank of method j,
    12 N / (k (k + 1)) (sum R_j^2 - k (k + 1)^2 / 4), over 1 - sum (t^3 - t) / (N (k^3 - k)) for ties of t methods.

    Source: M. Friedman, The Use of Ranks to Avoid the Assumption of Normality, JASA 32, 1937.

    Args:
        rows: one per method, with a number per block.

    Returns:
        NaN and 1 with fewer than three methods or two blocks, or where all are tied.
    """
    k, blocks = len(rows), len(rows[0])
    if k < 3 or blocks < 2:
        return math.nan, 1.0
    columns = [_mid_ranks(column) for column in zip(*rows, strict=True)]
    means = [fmean(column[j] for column in columns) for j in range(k)]
    ties = sum(count**3 - count for column in columns for count in map(column.count, set(column)))
    share = 1 - ties / (blocks * (k**3 - k))
    if share <= 0:
        return math.nan, 1.0
    plain = 12 * blocks / (k * (k + 1)) * (sum(mean**2 for mean in means) - k * (k + 1) ** 2 / 4)
    half = torch.tensor([(k - 1) / 2, plain / share / 2], dtype=torch.float64)
    return plain / share, float(torch.special.gammaincc(half[0], half[1]))


def signed_rank(differences: Sequence[float]) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test; zeros are left out, ties share the mean rank.

    Up to 50 differences all 2^n signs are counted, else the normal approximation is taken.

    Source: F. Wilcoxon, Individual Comparisons by Ranking Methods, Biometrics Bulletin 1, 1945.
    """
    kept = [difference for difference in differences if difference]
    if not kept:
        return 1.0
    ranks = _mid_ranks([abs(difference) for difference in kept])
    above = sum(rank for rank, difference in zip(ranks, kept, strict=True) if difference > 0)
    least = min(above, sum(ranks) - above)
    if len(kept) > _EXACT:
        deviation = math.sqrt(sum(rank**2 for rank in ranks) / 4)
        return min(math.erfc((sum(ranks) / 2 - least) / deviation / math.sqrt(2)), 1.0)
    counts = [1]  # sums of twice the ranks of the positive ones -> number of signs
    for rank in (round(2 * rank) for rank in ranks):
        counts = [a + b for a, b in zip(counts + [0] * rank, [0] * rank + counts, strict=True)]
    return min(2.0 * sum(counts[: round(2 * least) + 1]) / float(2 ** len(kept)), 1.0)


def _relative(mine: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [(a - b) / size if (size := abs(a) + abs(b)) else 0.0 for a, b in zip(mine, theirs, strict=True)]


def _mid_ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1, ties sharing the mean of theirs."""
    return [sum(o < v for o in values) + (sum(o == v for o in values) + 1) / 2 for v in values]


def _cliques(order: Sequence[str], pairs: Mapping[tuple[str, str], float]) -> tuple[tuple[str, ...], ...]:
    found: list[tuple[str, ...]] = []
    reached = 0
    for start in range(len(order)):
        end = start + 1
        while end < len(order) and all(pairs[order[k], order[end]] >= LEVEL for k in range(start, end)):
            end += 1
        if end - start > 1 and end > reached:
            found.append(tuple(order[start:end]))
            reached = end
    return tuple(found)
