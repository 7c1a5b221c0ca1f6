"""Paired tests, the guard where there is nothing to test, and families after Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from scipy import stats

from equipoise.training.comparison import (
    LEVEL,
    NO_SEED,
    NO_SPREAD,
    NOT_FINITE,
    ONE_SEED,
    SAME,
    compared,
    critical,
    holm_steps,
    judged,
    paired,
    verdict_on,
)

FIRST, SECOND = [5.0, 6.1, 4.4, 5.2], [5.9, 6.8, 5.5, 6.0]


def test_a_comparison_is_the_paired_t_test_of_scipy() -> None:
    found, known = compared(FIRST, SECOND), stats.ttest_rel(FIRST, SECOND)
    interval = known.confidence_interval(0.95)
    assert found.p == pytest.approx(float(known.pvalue))
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx((interval.low, interval.high))
    assert (found.n, found.freedom, found.why) == (4, 3, "")


@pytest.mark.parametrize(
    ("scores", "others", "why"),
    [
        ([1.0, 1.0], [2.0, 2.0], NO_SPREAD),  # t would be infinite, and p = 0 on two seeds
        ([90.1, 90.3, 90.2], [90.0, 90.2, 90.1], NO_SPREAD),  # equal but for the last bits
        ([1.5, 2.5], [1.5, 2.5], SAME),
        ([0.1 + 0.2, 1.0], [0.3, 1.0], SAME),
        ([1.0], [1.0], ONE_SEED),
        ([], [], NO_SEED),
        ([math.inf, 1.0], [0.0, 2.0], NOT_FINITE),
        ([1.0, 2.0], [math.nan, 2.0], NOT_FINITE),
    ],
)
def test_what_cannot_be_tested_has_no_interval_and_no_verdict(
    scores: Sequence[float], others: Sequence[float], why: str
) -> None:
    found = compared(scores, others)
    assert (found.why, found.p, found.half, found.visible(0.01)) == (why, 1.0, math.inf, math.inf)
    (one,) = judged([found])
    assert (verdict_on(one), one.p, one.visible, one.clear) == ("unknown", 1.0, math.inf, False)


def test_pairs_are_those_of_common_seeds() -> None:
    found = paired({0: 5.0, 1: 6.0, 7: 100.0}, {1: 5.0, 0: 5.5, 3: 0.0})
    assert found == compared([5.0, 6.0], [5.5, 5.0])
    assert paired({0: 1.0}, {1: 1.0}).why == NO_SEED


def test_what_was_not_tested_is_not_in_the_family() -> None:
    better, same, tie = compared(FIRST, SECOND), compared(FIRST, FIRST), compared(FIRST, FIRST[::-1])
    one, two, three = judged([better, same, tie])
    assert one.p == pytest.approx(2 * better.p) and three.p == pytest.approx(tie.p)
    assert [verdict_on(each) for each in (one, two, three)] == ["better", "unknown", "tie"]
    (other,) = judged([compared(SECOND, FIRST)])
    assert verdict_on(other) == "worse" and other.p == pytest.approx(better.p)


def test_what_would_have_been_clear_is_that_of_holm_s_step() -> None:
    """The first of two is at half of the level; the second, once the first is clear, at all of it."""
    tests = [compared(FIRST, FIRST[::-1]), compared(FIRST, [score + 9 for score in SECOND])]
    tie, clear = judged(tests)
    assert (verdict_on(tie), verdict_on(clear)) == ("tie", "better")
    assert tie.visible == pytest.approx(critical(LEVEL, 3) * tests[0].error)
    assert clear.visible == pytest.approx(critical(LEVEL / 2, 3) * tests[1].error)
    assert holm_steps([0.5, 0.001, 0.04, 0.02]) == [3, 4, 3, 3]  # it stops at 0.02 > 0.05 / 3
    assert holm_steps([0.01, 0.001, 0.03]) == [2, 3, 1] and holm_steps([]) == []
