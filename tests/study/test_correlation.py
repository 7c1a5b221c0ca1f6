"""Correlation over methods: scipy's numbers, all orders by hand, and how often it errs."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch
from scipy import stats

from equipoise.study.correlation import correlated

POINTS = [(0.3, 2.0), (1.0, 4.5), (1.4, 3.0), (2.2, 7.5), (3.1, 5.0), (4.0, 9.0)]


def test_size_and_interval_are_those_of_scipy() -> None:
    found, known = correlated(POINTS), stats.pearsonr(*zip(*POINTS, strict=True))
    assert found.r == pytest.approx(known.statistic) and (found.n, found.why) == (6, "")
    assert (found.low, found.high) == pytest.approx(tuple(known.confidence_interval(0.95)))


def test_chance_is_that_of_all_orders() -> None:
    found = correlated(POINTS)
    x, y = zip(*POINTS, strict=True)
    every = [abs(stats.pearsonr(x, order).statistic) for order in permutations(y)]
    exact = sum(one >= abs(found.r) - 1e-9 for one in every) / len(every)
    assert found.p == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 10_000) + 1e-4)
    clear = found.visible(0.1)
    assert sum(one >= clear for one in every) / len(every) == pytest.approx(0.1, abs=0.01)
    assert correlated([(-x, y) for x, y in POINTS]).r == pytest.approx(-found.r)


@pytest.mark.parametrize("seeds", [3, 5])
def test_methods_that_have_nothing_in_common_are_rarely_called_related(seeds: int) -> None:
    """Nine independent methods: means of a few seeds, with a noise that is common to all methods of a seed."""
    stream = torch.Generator().manual_seed(seeds)
    wrong, repeats = 0, 200
    for _ in range(repeats):
        methods, noise = (torch.randn(2, 9, k, generator=stream) for k in (1, seeds))
        common = 3 * torch.randn(2, 1, seeds, generator=stream)
        points = (methods + 0.4 * noise + common).mean(dim=2).T
        wrong += correlated(points.tolist()).p < 0.05
    assert wrong / repeats < 0.05 + 2.5 * math.sqrt(0.05 * 0.95 / repeats)


def test_one_point_far_from_all_others_is_no_correlation() -> None:
    """Student's t would call it one: r is 1."""
    found = correlated([*[(0.001 * (k % 3), 0.001 * (k % 2)) for k in range(8)], (50.0, 900.0)])
    assert found.r > 0.999 and found.p == pytest.approx(1 / 9, abs=0.02)


@pytest.mark.parametrize(
    ("points", "why"),
    [
        ([], "0 methods, and it takes 4"),
        (POINTS[:3], "3 methods, and it takes 4"),
        ([(1.0, y) for _, y in POINTS], "one of the two does not vary"),
        ([(x, 7.0) for x, _ in POINTS], "one of the two does not vary"),
    ],
)
def test_where_there_is_nothing_to_correlate_there_is_no_test(
    points: list[tuple[float, float]], why: str
) -> None:
    found = correlated(points)
    assert (found.why, found.p, found.visible(0.05)) == (why, 1.0, math.inf) and math.isnan(found.r)


def test_four_points_are_too_few_for_any_answer() -> None:
    found = correlated([(float(k), float(k)) for k in range(4)])
    assert found.p == pytest.approx(2 / 24, abs=0.01) and found.visible(0.05) == math.inf
    assert (found.r, found.low, found.high) == pytest.approx((1, 1, 1))
