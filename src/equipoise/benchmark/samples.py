"""The test metrics of a summary as tensors: a row a seed, a column a metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from equipoise.training.task import Metric

from .bootstrap import FEWER, RESAMPLES, shares
from .records import Record
from .summary import MethodSummary, Summary

_MANY = 100  # metrics
_FIRST_TASK = 1000  # streams below are those of methods
_REFERENCE = 500


@dataclass(frozen=True)
class SingleTask:
    """The single-task values of some metrics.

    Args:
        columns: of `Samples.usable`.
        values: (seeds, columns).
        name: of the task; empty for published constants, which have no spread.
        seeds: of the runs; empty for published constants.
    """

    columns: tuple[int, ...]
    values: Tensor
    name: str
    seeds: tuple[int, ...]

    @property
    def n(self) -> int:
        """Number of seeds."""
        return int(self.values.shape[0])


@dataclass(frozen=True)
class Samples:
    """What the statistics of a summary are computed from.

    Args:
        summary: of a run directory.
    """

    summary: Summary

    @cached_property
    def resamples(self) -> int:
        """How often the seeds are drawn."""
        return RESAMPLES if len(self.summary.plan.metrics) <= _MANY else FEWER

    @cached_property
    def usable(self) -> tuple[Metric, ...]:
        """The metrics that have a single-task value to be relative to, as `Summary` takes them."""
        known, left_out = self.summary.baseline.values, frozenset(self.summary.baseline.left_out)
        return tuple(m for m in self.summary.plan.metrics if m.name in known and m.name not in left_out)

    @cached_property
    def signs(self) -> Tensor:
        """-1 where higher is better, else 1, (usable,)."""
        return _signs(self.usable)

    @cached_property
    def baseline(self) -> Tensor:
        """Means of the single-task runs, (usable,)."""
        values = self.summary.baseline.values
        return torch.tensor([values[metric.name].mean for metric in self.usable], dtype=torch.float64)

    @cached_property
    def single(self) -> tuple[SingleTask, ...]:
        """The single-task runs by task; published constants are one seed without a name."""
        if self.summary.baseline.source != "own":
            every = tuple(range(len(self.usable)))
            return (SingleTask(every, self.baseline[None], "", ()),) if every else ()
        found = []
        for task in self.summary.plan.tasks:
            own = [k for k, metric in enumerate(self.usable) if metric in task.metrics]
            if own:
                runs = self.summary.baseline_runs[task.name]
                values = _values(runs, [self.usable[k] for k in own])
                found.append(SingleTask(tuple(own), values, task.name, _seeds(runs)))
        return tuple(found)

    def together(self, row: MethodSummary) -> Tensor:
        """Which single-task values are of runs with the seeds of a method, whose splits they share, (usable,)."""
        found = torch.zeros(len(self.usable), dtype=torch.bool)
        for one in self.single:
            found[list(one.columns)] = one.seeds == _seeds(row.runs)
        return found

    def resampled_baseline(self, row: MethodSummary) -> Tensor:
        """Means of the single-task runs in each resample for a method, (resamples, usable).

        Runs with the method's seeds are drawn with it, other tasks' each by itself.
        """
        found = torch.empty(self.resamples, len(self.usable), dtype=torch.float64)
        for k, one in enumerate(self.single):
            shared = one.seeds == _seeds(row.runs)
            drawn = self.draws(row) if shared else shares(one.n, _FIRST_TASK + k, self.resamples)
            found[:, list(one.columns)] = drawn @ one.values
        return found

    def values(self, row: MethodSummary) -> Tensor:
        """A method's usable metrics, (seeds, usable)."""
        return _values(row.runs, self.usable)

    def costs(self, row: MethodSummary) -> Tensor:
        """All metrics, signed so that lower is better, infinite where not a number, (seeds, metrics)."""
        metrics = self.summary.plan.metrics
        signed = _signs(metrics) * _values(row.runs, metrics)
        return torch.where(signed.isnan(), math.inf, signed)

    def changes(self, values: Tensor, baseline: Tensor) -> Tensor:
        """Signed change of each metric in percent, lower is better: 100 s (M - B) / B."""
        return 100 * self.signs * (values - baseline) / baseline

    def scores(self, row: MethodSummary) -> dict[int, float]:
        """delta_m by seed, against the mean of the single-task runs; empty where there is none."""
        if row.delta_m is None:
            return {}
        found = self.changes(self.values(row), self.baseline).mean(dim=1)
        return dict(zip([run.seed for run in row.runs], found.tolist(), strict=True))

    def draws(self, row: MethodSummary) -> Tensor:
        """How much each seed counts in every resample; methods with the same seeds are drawn together."""
        seeds = [_seeds(one.runs) for one in self.summary.methods]
        return shares(len(row.runs), seeds.index(_seeds(row.runs)), self.resamples)

    def other_draws(self, row: MethodSummary) -> Tensor:
        """The same, drawn apart from all methods."""
        return shares(len(row.runs), _REFERENCE, self.resamples)


def not_finite(row: MethodSummary, metrics: Sequence[Metric]) -> str:
    """Which seeds have a metric that is not finite, in words; empty where all are."""
    bad = [run.seed for run in row.runs if not _values([run], metrics).isfinite().all()]
    return f"not finite with seed {', '.join(map(str, bad))}" if bad else ""


def _seeds(runs: Sequence[Record]) -> tuple[int, ...]:
    return tuple(run.seed for run in runs)


def _values(runs: Sequence[Record], metrics: Sequence[Metric]) -> Tensor:
    rows = [[run.metrics.get("test", {}).get(metric.name, math.nan) for metric in metrics] for run in runs]
    return torch.tensor(rows, dtype=torch.float64).reshape(len(runs), len(metrics))


def _signs(metrics: Sequence[Metric]) -> Tensor:
    return torch.tensor([-1.0 if metric.higher_is_better else 1.0 for metric in metrics], dtype=torch.float64)
