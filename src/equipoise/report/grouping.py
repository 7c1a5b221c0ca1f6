"""Which metrics are of one kind, for problems with more of them than a table or a figure can show one by one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from equipoise.benchmark.records import Plan, Record
from equipoise.benchmark.summary import MethodSummary, Spread, Summary
from equipoise.training.task import Metric

MANY = 40  # metrics, or tasks, that are still shown one by one
STATISTICS = ("mean", "best", "median", "worst")


@dataclass(frozen=True)
class Kind:
    """Metrics that can be averaged: of one name, unit and direction.

    Args:
        metric: what they have in common.
        members: the metrics of the tasks.
    """

    metric: Metric
    members: tuple[Metric, ...]

    @property
    def names(self) -> list[str]:
        """Of the members."""
        return [member.name for member in self.members]


def has_many(plan: Plan) -> bool:
    """Whether there are too many metrics to show one by one."""
    return len(plan.metrics) > MANY


def kinds(plan: Plan) -> tuple[Kind, ...]:
    """The metrics of a plan by kind.

    A metric that is called like its task and one more part, such as "tox_3 auc", is of the kind "auc"; all others
    with one unit and direction are of one kind. Where that gives too many kinds, only unit and direction count.
    """
    pairs = [(task.name, metric) for task in plan.tasks for metric in task.metrics]
    found = _sorted_by([_kind_name(task, metric) for task, metric in pairs], plan.metrics)
    return found if len(found) <= MANY // 2 else _sorted_by(["metric"] * len(pairs), plan.metrics)


def statistics_of(values: Sequence[float], *, higher_is_better: bool) -> list[float]:
    """What `STATISTICS` names, over tasks; NaN where a value is not a number."""
    if any(map(math.isnan, values)):
        return [math.nan] * len(STATISTICS)
    return [
        fmean(values),
        quantile(values, 1.0 if higher_is_better else 0.0),
        quantile(values, 0.5),
        quantile(values, 0.0 if higher_is_better else 1.0),
    ]


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which a share of the values lies, linear between neighbours (numpy's default).

    Args:
        values: at least one, in any order.
        share: from 0, the lowest, to 1, the highest.
    """
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    if low == high or ordered[low] == ordered[high]:
        return ordered[low]
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def method_statistics(row: MethodSummary, kind: Kind) -> list[Spread]:
    """What `STATISTICS` names for a method: over the tasks of each seed, then mean and spread over the seeds."""
    return _over_seeds([[_test(run, name) for name in kind.names] for run in row.runs], kind)


def baseline_statistics(summary: Summary, kind: Kind) -> list[Spread | None]:
    """What `STATISTICS` names for the single-task networks; None where one of the tasks has no value."""
    values = summary.baseline.values
    if not all(name in values for name in kind.names):
        return [None] * len(STATISTICS)
    if summary.baseline.source != "own":
        return [*_over_seeds([[values[name].mean for name in kind.names]], kind)]
    by_metric = {
        metric.name: {run.seed: _test(run, metric.name) for run in summary.baseline_runs[task.name]}
        for task in summary.plan.tasks
        for metric in task.metrics
    }
    seeds = set.intersection(*(set(by_metric[name]) for name in kind.names))
    rows = [[by_metric[name][seed] for name in kind.names] for seed in sorted(seeds)]
    return [*_over_seeds(rows, kind)] if rows else [None] * len(STATISTICS)


def _over_seeds(rows: Sequence[Sequence[float]], kind: Kind) -> list[Spread]:
    found = [statistics_of(row, higher_is_better=kind.metric.higher_is_better) for row in rows]
    return [Spread.of(column) for column in zip(*found, strict=True)]


def _sorted_by(names: Sequence[str], metrics: Sequence[Metric]) -> tuple[Kind, ...]:
    members: dict[Metric, list[Metric]] = {}
    for name, metric in zip(names, metrics, strict=True):
        members.setdefault(Metric(name, metric.higher_is_better, metric.unit), []).append(metric)
    return tuple(Kind(shared, tuple(found)) for shared, found in members.items())


def _kind_name(task: str, metric: Metric) -> str:
    prefix = f"{task} "
    return metric.name.removeprefix(prefix) if metric.name.startswith(prefix) else "metric"


def _test(run: Record, metric: str) -> float:
    return run.metrics.get("test", {}).get(metric, math.nan)
