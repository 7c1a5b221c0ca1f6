"""Friedman's and Wilcoxon's tests against scipy, and the groups that are drawn from them."""

from __future__ import annotations

import math
import random

import pytest
from scipy import stats

from equipoise.benchmark.ranks import friedman, rank_test, signed_rank


def table(methods: int, blocks: int, *, ties: bool = False) -> list[list[float]]:
    stream = random.Random(methods * blocks)
    rows = [[stream.gauss(0.4 * place, 1) for _ in range(blocks)] for place in range(methods)]
    return [[round(value) for value in row] for row in rows] if ties else rows


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("methods", "blocks"), [(3, 4), (5, 11), (12, 40)])
def test_friedman_is_that_of_scipy(methods: int, blocks: int, ties: bool) -> None:
    rows = table(methods, blocks, ties=ties)
    known = stats.friedmanchisquare(*rows)
    statistic, p = friedman(rows)
    assert statistic == pytest.approx(float(known.statistic))
    assert p == pytest.approx(float(known.pvalue), abs=1e-10)


@pytest.mark.parametrize("count", [1, 5, 11, 30, 50])
def test_signed_ranks_are_exact_as_those_of_scipy(count: int) -> None:
    differences = table(1, count)[0]
    known = stats.wilcoxon(differences, method="exact").pvalue
    assert signed_rank(differences) == pytest.approx(float(known), rel=1e-9)


def test_signed_ranks_with_ties_and_zeros_count_all_signs() -> None:
    differences = [1.0, 1.0, -1.0, 2.0, 0.0, 3.0, 3.0, -0.5, 0.0, 2.0]
    kept = [difference for difference in differences if difference]
    known = stats.wilcoxon(kept, method=stats.PermutationMethod(n_resamples=math.inf)).pvalue
    assert signed_rank(differences) == pytest.approx(float(known), rel=1e-9)
    assert signed_rank([0.0, 0.0]) == 1.0


def test_many_signed_ranks_are_approximately_normal() -> None:
    differences = table(1, 200)[0]
    known = stats.wilcoxon(differences, method="approx", correction=False).pvalue
    assert signed_rank(differences) == pytest.approx(float(known), rel=1e-9)


def test_groups_hold_methods_that_do_not_differ() -> None:
    blocks = 20
    stream = random.Random(1)
    levels = {"a": 1.0, "b": 1.0, "c": 2.0, "d": 8.0, "e": 8.0}
    found = rank_test(
        {name: [level + stream.gauss(0, 0.1) for _ in range(blocks)] for name, level in levels.items()},
        [False] * blocks,
    )
    assert {frozenset(clique) for clique in found.cliques} == {frozenset("ab"), frozenset("de")}
    assert list(found.mean_ranks) == sorted(found.mean_ranks, key=lambda name: found.mean_ranks[name])
    assert found.mean_ranks["c"] == 3.0
    assert found.p < 1e-10
    assert min(found.pairs.values()) < 0.05 <= found.pairs[found.cliques[0][0], found.cliques[0][1]]


def test_a_group_within_another_is_not_named_again() -> None:
    rows = {"a": [1.0, 2.0, 3.0], "b": [1.1, 1.9, 3.1], "c": [1.05, 2.1, 2.9]}
    found = rank_test(rows, [False] * 3)  # three blocks cannot show anything at 5 %
    assert found.cliques == (tuple(found.mean_ranks),)


def test_higher_may_be_better() -> None:
    rows = {"a": [0.1 + 0.001 * k for k in range(8)], "b": [0.2 + 0.001 * k for k in range(8)]}
    assert rank_test(rows, [True] * 8).pairs == {("b", "a"): pytest.approx(2 / 2**8)}
    assert list(rank_test(rows, [False] * 8).mean_ranks) == ["a", "b"]


def test_the_unit_of_a_metric_does_not_matter() -> None:
    names, blocks = "abc", 9
    rows = dict(zip(names, table(3, blocks), strict=True))
    units = [10.0 ** (k % 4) for k in range(blocks)]
    large = {
        name: [unit * value for unit, value in zip(units, row, strict=True)] for name, row in rows.items()
    }
    plain, scaled = rank_test(rows, [False] * blocks), rank_test(large, [False] * blocks)
    assert scaled.pairs == pytest.approx(plain.pairs)
    assert 0.01 < min(plain.pairs.values()) < 1.0  # neither all nor no signs agree
    assert scaled.mean_ranks == plain.mean_ranks


def test_too_little_is_no_test() -> None:
    assert math.isnan(friedman([[1.0, 2.0], [2.0, 1.0]])[0])
    assert friedman([[1.0], [2.0], [3.0]])[1] == 1.0
    assert friedman([[1.0, 1.0]] * 3)[1] == 1.0
    with pytest.raises(ValueError, match="`table` should hold at least two methods. Found 1."):
        rank_test({"a": [1.0]}, [False])
    with pytest.raises(ValueError, match="Found another one in the row of b."):
        rank_test({"a": [1.0], "b": [math.nan]}, [False])
