"""What members are compared by."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

from equipoise.search.generations import Assignment, Result, SearchError, ranked
from equipoise.search.ranking import pareto, score_of
from equipoise.training.metrics import delta_m
from equipoise.training.problem import Description
from equipoise.training.task import Metric, Task

UP, DOWN = Metric("up", True, "%"), Metric("down", False, "m")
MIXED = Description((Task("a", (UP,)), Task("b", (DOWN,))), {"up": 100.0, "down": 2.0})
SAME = Description((Task("a", (UP,)), Task("b", (Metric("more", True, "%"),))), {"up": 100.0, "more": 50.0})


def test_scores_are_lower_where_metrics_are_better() -> None:
    metrics = {"up": 80.0, "down": 3.0, "more": 40.0}
    assert score_of("delta_m", MIXED, metrics) == pytest.approx(delta_m([80, 3], [100, 2], [True, False]))
    assert score_of("delta_m", MIXED, metrics) == pytest.approx((20 + 50) / 2)
    assert score_of("worst", MIXED, metrics) == pytest.approx(50)
    assert score_of("pareto", MIXED, metrics) == score_of("delta_m", MIXED, metrics)
    assert score_of("mean", SAME, metrics) == -60
    with pytest.raises(
        SearchError, match="`rank` should not be mean where metrics differ in unit or direction"
    ):
        score_of("mean", MIXED, metrics)
    with pytest.raises(
        ValueError, match="`rank` should be one of delta_m, mean, worst, pareto. Found 'best'."
    ):
        score_of("best", MIXED, metrics)  # type: ignore[arg-type]


def results(rows: Any) -> list[Result]:
    found = []
    for k, row in enumerate(rows):
        assignment = Assignment(0, k, (0.5, 0.5), 0, 1)
        found.append(
            Result(assignment, None)
            if row is None
            else Result(assignment, 0.0, {"up": row[0], "down": row[1]})
        )
    return found


def test_fronts_are_those_of_a_comparison_of_all_pairs() -> None:
    rows = torch.rand(40, 2, generator=torch.Generator().manual_seed(0)).tolist()
    found = pareto(results(rows), [UP, DOWN])
    fronts = [math.floor(one.score or 0.0) for one in found]

    def beats(a: list[float], b: list[float]) -> bool:
        return a[0] >= b[0] and a[1] <= b[1] and a != b

    for k in range(40):  # the front is one more than the last front of those that beat it
        before = [fronts[j] for j in range(40) if beats(rows[j], rows[k])]
        assert fronts[k] == (max(before) + 1 if before else 0)
    for (a, p), (b, q) in itertools.combinations(zip(rows, found, strict=True), 2):
        if beats(a, b):
            assert (p.score or 0.0) < (q.score or 0.0)


def test_the_ends_of_a_front_come_first_and_then_those_with_most_room() -> None:
    front = [(0.0, 0.0), (0.1, 0.1), (0.2, 0.2), (0.6, 0.6), (1.0, 1.0)]
    order = [one.assignment.member for one in ranked(pareto(results([*front, None]), [UP, DOWN]))]
    assert order == [0, 4, 3, 2, 1, 5]
    assert pareto(results([None]), [UP, DOWN])[0].score is None
    same = pareto(results([(0.5, 0.5)] * 3), [UP, DOWN])
    assert [one.assignment.member for one in ranked(same)] == [0, 2, 1]  # the ends first
    assert max(one.score or 0.0 for one in same) < 1
