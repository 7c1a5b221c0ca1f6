"""What a report says about a run directory, as data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev

from .records import Baselines, Plan, Record

DEMONSTRATION_PRESETS = ("smoke", "quick", "small")


@dataclass(frozen=True)
class Spread:
    """Mean over n seeds; `std` is the sample standard deviation, None (never 0) for a single seed."""

    mean: float
    std: float | None
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """The spread of at least one value; without `std` where a value is not finite."""
        found = list(values)
        finite = len(found) > 1 and all(map(math.isfinite, found))
        return cls(fmean(found), stdev(found) if finite else None, len(found))


@dataclass(frozen=True)
class MethodSummary:
    """One method at its chosen setting.

    Args:
        method: label.
        lr: the chosen learning rate.
        runs: the finished runs at that learning rate, by seed.
        metrics: test metrics at the selected epochs.
        not_learnt: metrics that do not beat the trivial prediction by 20 %.
        changes: signed change of each metric against the baseline in percent, lower is better; without those that
            the baseline leaves out.
        delta_m: over the seeds; None where the baseline is incomplete.
        mean_rank: among the methods of the summary; the baselines are not ranked.
        convergence: convergence difference in epochs; None without epoch logs.
        convergence_epochs: task -> epoch of convergence, mean over seeds.
        seconds_per_step: of training.
        peak_memory_mb: largest over seeds, where known.
        fallbacks: solver fallbacks in all runs.
        forwards: forward passes of a batch in each step, mean over the seeds; None in records of older versions.
        backwards: backward passes through the shared parameters in each step; None likewise.
        setting: what was tuned and chosen, such as "lr 0.001, weight decay 1e-05, c 0.4".
    """

    method: str
    lr: float
    runs: tuple[Record, ...]
    metrics: Mapping[str, Spread]
    not_learnt: frozenset[str]
    changes: Mapping[str, float]
    delta_m: Spread | None
    mean_rank: float
    convergence: Spread | None
    convergence_epochs: Mapping[str, float]
    seconds_per_step: Spread
    peak_memory_mb: float | None
    fallbacks: int
    forwards: float | None = None
    backwards: float | None = None
    setting: str = ""


@dataclass(frozen=True)
class Baseline:
    """What the methods are compared with.

    Args:
        source: "own" single-task runs, "published" constants, or "none".
        values: of each metric, where known.
        not_learnt: metrics that do not beat the trivial prediction by 20 %.
        missing: why there is no delta_m; None where there is one.
        left_out: metrics that delta_m leaves out, since nothing is relative to a value that may be 0: single-task runs
            that are not above 0 on every seed.
    """

    source: Baselines
    values: Mapping[str, Spread]
    not_learnt: frozenset[str]
    missing: str | None
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Summary:
    """All that a report says about a run directory; equal to itself alone, so that what is computed of it can be kept.

    Args:
        plan: of the directory.
        records: all of them, the last one where a run was repeated.
        methods: those with at least one finished run, in the order of the plan.
        baseline: the single-task values.
        baseline_runs: task -> its finished single-task runs at the chosen learning rate, possibly none.
        failed: runs that ended with an error.
        missing: runs of the plan that are still to come: their identifiers, and how many more wait for them.
        tolerance: of the convergence criterion.
    """

    plan: Plan
    records: tuple[Record, ...]
    methods: tuple[MethodSummary, ...]
    baseline: Baseline
    baseline_runs: Mapping[str, tuple[Record, ...]]
    failed: tuple[Record, ...]
    missing: tuple[str, ...]
    tolerance: float

    @property
    def is_demonstration(self) -> bool:
        """Whether the budget is too small for statements about the methods."""
        return self.plan.preset in DEMONSTRATION_PRESETS
