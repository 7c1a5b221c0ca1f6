"""What members are compared by: one number out of the validation metrics, or who beats whom in all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from equipoise.core.names import check_known
from equipoise.training.metrics import delta_m
from equipoise.training.problem import Description, Problem
from equipoise.training.task import Metric

from .generations import Result, SearchError

Rank = Literal["delta_m", "mean", "worst", "pareto"]
WORDS: Mapping[Rank, str] = {
    "delta_m": "delta_m, points",
    "mean": "the mean metric",
    "worst": "delta_m of the worst task, points",
    "pareto": "delta_m, points",
}
"""What the score of a rank is, and its unit."""


def score_of(rank: Rank, problem: Problem | Description, metrics: Mapping[str, float]) -> float:
    """The score of some metrics, lower is better.

    - "delta_m": their mean relative distance from the problem's reference values, in percent.
    - "mean": their mean, with the other sign where higher is better: that of the published search.
    - "worst": delta_m of the task that is worst off.
    - "pareto": delta_m, which chooses one member in the end; before that `pareto` ranks them.

    Source: A. Royer et al., NeurIPS 2023, https://arxiv.org/abs/2310.08910, for the mean.

    Args:
        rank: as said.
        problem: with its tasks and reference values.
        metrics: by name.

    Raises:
        ValueError: on another rank.
        SearchError: if the mean is asked of metrics of several units, or of which some should be high, others low.
    """
    check_known("`rank`", rank, list(WORDS))
    known = [metric for task in problem.tasks for metric in task.metrics]
    if rank == "mean":
        check_rank(rank, problem)
        mean = math.fsum(metrics[metric.name] for metric in known) / len(known)
        return -mean if known[0].higher_is_better else mean
    if rank == "worst":
        return max(_delta(task.metrics, problem.reference, metrics) for task in problem.tasks)
    return _delta(known, problem.reference, metrics)


def check_rank(rank: Rank, problem: Problem | Description) -> None:
    """Refuse a mean of metrics that have none.

    Raises:
        SearchError: if they differ in unit or direction.
    """
    known = [metric for task in problem.tasks for metric in task.metrics]
    kinds = {(metric.unit, metric.higher_is_better) for metric in known}
    if rank == "mean" and len(kinds) > 1:
        found = ", ".join(f"{metric.name} in {metric.unit or 'no unit'}" for metric in known[:4])
        raise SearchError(
            f"`rank` should not be mean where metrics differ in unit or direction. Found {found}: take delta_m, worst "
            "or pareto."
        )


def _delta(chosen: Sequence[Metric], reference: Mapping[str, float], metrics: Mapping[str, float]) -> float:
    return delta_m(
        [metrics[metric.name] for metric in chosen],
        [reference[metric.name] for metric in chosen],
        [metric.higher_is_better for metric in chosen],
    )


def pareto(results: Sequence[Result], metrics: Sequence[Metric]) -> list[Result]:
    """The same results with their places by Pareto fronts as scores, as NSGA-II sorts them.

    A result is in front k if it is dominated, once the fronts before k are taken out, by none: no other is at least as
    good in all metrics and better in one. Within a front, the score rises from k to below k + 1 the closer a result is
    to its neighbours (crowding distance); those at the ends come first, ties in the order of the members.

    Source: K. Deb et al., A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II, IEEE Transactions on
    Evolutionary Computation 6, 2002, sections III.A and III.B.

    Args:
        results: of one generation; those that diverged stay as they are.
        metrics: what a result should be good in.
    """
    left = {
        k: [-one.metrics[m.name] if m.higher_is_better else one.metrics[m.name] for m in metrics]
        for k, one in enumerate(results)
        if one.score is not None
    }
    scores: dict[int, float] = {}
    front = 0
    while left:
        best = [k for k, own in left.items() if not any(_dominates(other, own) for other in left.values())]
        room = _room({k: left.pop(k) for k in best})
        order = sorted(room, key=lambda k: (-room[k], k))
        scores |= {k: front + place / len(order) for place, k in enumerate(order)}
        front += 1
    return [Result(one.assignment, scores.get(k), one.metrics, one.seconds) for k, one in enumerate(results)]


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _room(front: Mapping[int, Sequence[float]]) -> dict[int, float]:
    """The crowding distance of each member of a front."""
    room = dict.fromkeys(front, 0.0)
    for column in range(len(next(iter(front.values())))):
        order = sorted(front, key=lambda k: (front[k][column], k))
        spread = front[order[-1]][column] - front[order[0]][column]
        room[order[0]] = room[order[-1]] = math.inf
        for before, k, after in zip(order, order[1:], order[2:], strict=False):
            room[k] += (front[after][column] - front[before][column]) / spread if spread else 0.0
    return room
