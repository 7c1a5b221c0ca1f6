"""What a search says of itself: gains with intervals, Holm's correction, ties, restarts, and what diverged."""

from __future__ import annotations

import math
from typing import Any

import pytest
from scipy import stats

from equipoise.search.generations import Assignment, Result
from equipoise.search.plan import SearchPlan
from equipoise.search.retrain import Retrained
from equipoise.search.run import Found
from equipoise.search.space import Point
from equipoise.search.verdict import gains, sentences
from equipoise.training.comparison import compared, holm, two_sided, verdict_on
from search.domains_toy import config

PLAN = SearchPlan(config=config(4), names=("low", "high"))
HALF, BEST = Point((0.5, 0.5), {}), Point((0.3, 0.7), {})
HISTORY = [[Result(Assignment(0, 0, HALF[0], 0, 4), 2.0), Result(Assignment(0, 1, BEST[0], 0, 4), 1.0)]]


def networks(variant: str, scores: list[float | None], first: int = 0) -> list[Retrained]:
    return [
        Retrained(variant, first + k, s, {} if s is None else {"low_mse": s}, 1.0, s)
        for k, s in enumerate(scores)
    ]


def found(**scores: list[float | None]) -> Found:
    rows = [
        one for name, given in scores.items() for one in networks(name, given, 1000 * (name == "restart"))
    ]
    variants: dict[str, Any] = {
        "uniform": [(0, HALF)],
        "constant": [(0, BEST)],
        "schedule": [(0, HALF), (2, BEST)],
    }
    return Found(HISTORY, {name: variants[name] for name in scores if name in variants}, rows)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 8, 15, 30])
@pytest.mark.parametrize("t", [0.0, 0.3, -1.7, 4.0])
def test_probabilities_are_those_of_scipy(freedom: int, t: float) -> None:
    assert two_sided(t, freedom) == pytest.approx(2 * float(stats.t.sf(abs(t), freedom)), abs=1e-12)


def test_holm_s_correction_multiplies_in_order_and_never_falls() -> None:
    """The example of Wright, Biometrics 48, 1992, has the same order of operations; here by hand."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.6]) == [1.0, 1.0] and holm([]) == []


def test_each_variant_is_compared_with_uniform_weights_of_the_same_seed() -> None:
    one = found(uniform=[5.0, 6.0, 7.0], constant=[4.0, 5.2, 5.9], schedule=[5.1, 5.9, 7.0])
    first, second = gains(one)
    assert (first.variant, first.other, second.variant) == ("constant", "uniform", "schedule")
    assert first.difference == compared([4.0, 5.2, 5.9], [5.0, 6.0, 7.0])
    assert first.judged.p == pytest.approx(2 * first.difference.p)
    assert first.judged.clear and not second.judged.clear


def test_restarts_are_compared_as_the_best_by_validation() -> None:
    """Of each seed's own uniform network and all restarts, the one with the lowest validation score counts."""
    one = found(uniform=[5.0, 6.0], constant=[4.0, 4.5], restart=[5.5, None])
    assert [gain.other for gain in gains(one)] == ["uniform", "uniform with restarts"]
    assert gains(one)[1].difference == compared([4.0, 4.5], [5.0, 5.5])


def test_the_verdict_calls_a_tie_a_tie() -> None:
    one = found(uniform=[5.0, 6.0, 7.0], constant=[4.0, 5.2, 5.9], schedule=[5.1, 5.9, 7.0])
    told = sentences(PLAN, one)
    assert told[0] == "Best member: low 0.3, high 0.7."
    assert told[1].startswith(
        "The search trained for 8 epochs on 70 % of the training part: as much as 1.4 runs"
    )
    assert "constant weights against uniform, 3 seeds: -0.97 ± 0.38 of delta_m, points" in told[2]
    assert told[2].endswith(": better.")
    clear = float(stats.t.ppf(0.975, 2)) * gains(one)[1].difference.error  # at the last of Holm's steps
    assert told[3].endswith(f": no clear difference; an observed one of {clear:.2f} would have been.")
    worse = sentences(PLAN, found(uniform=[5.0, 6.0, 7.0], constant=[6.0, 7.1, 7.9]))
    assert worse[-1].endswith(": worse.")
    alone = sentences(PLAN, found(uniform=[5.0], constant=[6.0]))
    assert alone[-1] == "constant weights against uniform: +1.00 with one seed, which tells nothing."


def test_networks_that_differ_by_the_same_on_every_seed_are_not_tested() -> None:
    """The spread of two equal differences is 0, and p would be 0; equal scores are no tie that could be seen."""
    told = sentences(PLAN, found(uniform=[5.0, 6.0], constant=[4.0, 5.0], schedule=[5.0, 6.0]))
    assert told[2] == (
        "constant weights against uniform, 2 seeds: -1.00, but every seed has the same difference, so there is no "
        "spread to judge it by."
    )
    assert told[3] == "schedule weights against uniform, 2 seeds: the same runs: equal scores on every seed."
    one = found(uniform=[5.0, 6.0, 7.0], constant=[4.0, 5.2, 5.9], schedule=[5.0, 6.0, 7.0])
    first, same = gains(one)
    assert first.judged.p == first.difference.p and verdict_on(same.judged) == "unknown"


def test_what_diverged_is_named_and_left_out_of_the_pairs() -> None:
    one = found(uniform=[5.0, 6.0, 7.0], constant=[4.0, None, 6.2])
    told = sentences(PLAN, one)
    assert "constant weights against uniform, 2 seeds: " in told[2]
    assert told[3] == "Diverged when trained anew: constant with seed 1."
    none = found(uniform=[None], constant=[1.0])
    assert gains(none) == []
    diverged = [[*HISTORY[0], Result(Assignment(0, 2, HALF[0], 0, 4), None)]]
    said = sentences(PLAN, Found(diverged, one.variants, one.retrained))
    assert said[2] == "Members that diverged and were replaced or left: 1."


def test_uniform_weights_may_win() -> None:
    (last,) = sentences(PLAN, Found([], {"uniform": [(0, HALF)]}, networks("uniform", [1.0])))
    assert last == "The uniform member won: there are no other weights to compare."
    assert math.isinf(compared([1.0], [2.0]).half)
