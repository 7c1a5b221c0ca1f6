"""Estimates against scipy, and against numbers that were planted."""

from __future__ import annotations

import math
import random

import pytest
from scipy import stats

from equipoise.study.estimates import NetworkNoise, noise_of, pearson, slope, spearman, t_quantile


@pytest.mark.parametrize("df", [2, 3, 4, 5, 8, 20, 200])
def test_quantiles_of_student(df: int) -> None:
    assert t_quantile(df) == pytest.approx(float(stats.t.ppf(0.975, df)), rel=1e-9)


def test_no_quantile_for_too_few_degrees_of_freedom() -> None:
    assert t_quantile(1) == t_quantile(0) == math.inf


def test_seeds_tell_the_noise_and_their_means_do_not() -> None:
    draw = random.Random(0)
    curves = [
        [(p, [50 * p + draw.gauss(0, 2) for _ in range(4)]) for p in (0.2, 0.4, 0.6)] for _ in range(60)
    ]
    found = noise_of(curves)
    assert found is not None and (found.source, found.df) == ("seeds", 60 * 3 * 3)
    assert found.sd == pytest.approx(2, rel=0.1)
    assert found.half(2) == pytest.approx(1.964 * found.sd * math.sqrt(2), rel=1e-3)


def test_one_seed_leaves_what_a_quadratic_does_not_follow() -> None:
    ps = (0.25, 0.35, 0.5, 0.65, 0.75)
    exact = [[(p, [3 - 2 * p + 7 * p * p]) for p in ps]] * 2
    found = noise_of(exact)
    assert found is not None and (found.source, found.df) == ("curves", 4)
    assert found.sd == pytest.approx(0, abs=1e-9)
    draw = random.Random(1)
    noisy = [[(p, [9 * p * (1 - p) + draw.gauss(0, 1.5)]) for p in ps] for _ in range(300)]
    found = noise_of(noisy)
    assert found is not None and found.sd == pytest.approx(1.5, rel=0.1)
    assert noise_of([[(0.25, [1.0]), (0.5, [2.0]), (0.75, [9.0])]]) is None
    assert noise_of([]) is None


def test_a_slope_and_its_interval_are_those_of_scipy() -> None:
    xs = [1.0, 2.0, 3.5, 4.0, 6.0, 7.0]
    ys = [2.0, 2.5, 5.0, 4.0, 8.0, 7.5]
    found = slope(list(zip(xs, ys, strict=True)))
    known = stats.linregress(xs, ys)
    assert found is not None and found.value == pytest.approx(known.slope)
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, 4) * known.stderr, rel=1e-9)


def test_a_slope_of_too_few_points_has_no_interval() -> None:
    exact = slope([(x, 3 * x - 7) for x in (0.0, 1.0, 2.0, 5.0)])
    assert exact is not None and (exact.value, exact.low, exact.high) == pytest.approx((3, 3, 3))
    assert slope([(1.0, 2.0), (1.0, 5.0)]) is None and slope([]) is None
    few = slope([(0.0, 0.0), (1.0, 2.0), (2.0, 4.0)])
    assert few is not None and few.value == 2 and few.high == math.inf


def clusters(size: int, *, alike: bool, rho: float = 0.6) -> list[list[tuple[float, float]]]:
    """40 runs; the points of one are either independent, or all the same."""
    draw = random.Random(2)

    def point() -> tuple[float, float]:
        x = draw.gauss(0, 1)
        return x, rho * x + math.sqrt(1 - rho**2) * draw.gauss(0, 1)

    return [[point()] * size if alike else [point() for _ in range(size)] for _ in range(40)]


def test_correlations_are_those_of_scipy_and_hold_the_planted_one() -> None:
    groups = clusters(6, alike=False)
    xs, ys = zip(*[point for group in groups for point in group], strict=True)
    for measure, known in ((pearson, stats.pearsonr), (spearman, stats.spearmanr)):
        found = measure(groups)
        assert found is not None
        assert found.value == pytest.approx(known(xs, ys)[0], abs=1e-9)
        assert found.low < 0.6 < found.high
        assert found.high - found.low < 0.3


def test_ties_have_their_mean_rank() -> None:
    points = [(1.0, 5.0), (1.0, 4.0), (2.0, 4.0), (3.0, 1.0), (3.0, 0.0), (3.0, 9.0)]
    found = spearman([[point] for point in points])
    assert found is not None
    assert found.value == pytest.approx(stats.spearmanr(*zip(*points, strict=True))[0])


def test_points_of_one_run_do_not_count_as_many() -> None:
    """240 points that are 40 ones six times over have the interval of 40."""
    many, few = pearson(clusters(6, alike=True)), pearson(clusters(1, alike=True))
    assert many is not None and few is not None
    assert (many.value, many.low, many.high) == pytest.approx((few.value, few.low, few.high))
    independent = pearson(clusters(6, alike=False))
    assert independent is not None
    assert many.high - many.low > 1.6 * (independent.high - independent.low)


def test_nothing_is_said_of_what_does_not_vary() -> None:
    assert pearson([[(0.0, 1.0)], [(0.0, 2.0)], [(0.0, 3.0)]]) is None
    assert pearson([[(0.0, 1.0)], [(1.0, 2.0)]]) is None
    assert pearson([]) is None and spearman([]) is None


def test_noise_of_unknown_size_has_no_interval() -> None:
    assert NetworkNoise(1.0, 1, "seeds").half(1) == math.inf
