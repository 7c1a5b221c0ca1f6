"""The learning curves of a run directory: of each metric, or quantiles over many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from equipoise.benchmark.logs import validations
from equipoise.benchmark.records import Record
from equipoise.benchmark.summary import Summary
from equipoise.training.task import Metric

from .grouping import Kind, quantile
from .wording import ranked

Curves = dict[str, dict[int, float]]  # metric -> epoch -> value
SINGLE_TASK = "single-task"
QUANTILES = {"tenth best": 0.9, "median": 0.5, "tenth worst": 0.1}  # as shares of a higher-is-better metric


def read_curves(summary: Summary, directory: Path) -> dict[str, list[Curves]]:
    """Label -> the curves of its runs; the single-task runs of one seed count as one run of all tasks."""
    metrics = summary.plan.metrics
    read = {row.method: [_curves_of(directory, run, metrics) for run in row.runs] for row in ranked(summary)}
    joined: dict[int, Curves] = {}
    for task in summary.plan.tasks:
        for run in summary.baseline_runs[task.name]:
            joined.setdefault(run.seed, {}).update(_curves_of(directory, run, task.metrics))
    return {**read, SINGLE_TASK: list(joined.values())}


def _curves_of(directory: Path, run: Record, metrics: Sequence[Metric]) -> Curves:
    names = [metric.name for metric in metrics]
    epochs, found = validations(directory, run.run_id, names)
    return {
        name: dict(zip(epochs, curve, strict=True)) for name, curve in zip(names, found, strict=True) if curve
    }


def of_metric(read: Mapping[str, list[Curves]], metric: Metric) -> dict[str, list[dict[int, float]]]:
    """Label -> the curve of one metric in each of its runs."""
    return {label: [run[metric.name] for run in runs if metric.name in run] for label, runs in read.items()}


def of_kind(read: Mapping[str, list[Curves]], kind: Kind, share: float) -> dict[str, list[dict[int, float]]]:
    """A quantile over the metrics, at the epochs that all of them have."""
    share = share if kind.metric.higher_is_better else 1 - share
    lines: dict[str, list[dict[int, float]]] = {}
    for label, runs in read.items():
        whole = [
            [run[name] for name in kind.names] for run in runs if all(name in run for name in kind.names)
        ]
        lines[label] = [
            {epoch: quantile([curve[epoch] for curve in curves], share) for epoch in _common(curves)}
            for curves in whole
        ]
    return lines


def _common(curves: Sequence[Mapping[int, float]]) -> list[int]:
    return sorted(set.intersection(*(set(curve) for curve in curves)))
