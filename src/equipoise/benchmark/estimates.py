"""Estimates with their certainty, as data: `evidence.evidence` makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from equipoise.training.comparison import Comparison, Verdict


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval.

    Args:
        mean: of the n values; NaN where one of them is not finite.
        low: lower end; None where there is no interval.
        high: upper end; None where there is no interval.
        n: number of values.
        why: the reason where there is no interval, else empty.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    why: str = ""

    @classmethod
    def of(cls, comparison: Comparison) -> Estimate:
        """The mean of a paired comparison, with the interval of its test."""
        mean, half, n = comparison.mean, comparison.half, comparison.n
        if comparison.why:
            return cls(mean, None, None, n, comparison.why)
        return cls(mean, mean - half, mean + half, n)


@dataclass(frozen=True)
class Difference:
    """A method minus the reference, paired over their common seeds, in points of delta_m; lower is better.

    Args:
        estimate: the mean difference, with the interval of the paired t test.
        p: two-sided p-value of the paired t test; 1 where there is none.
        p_holm: p after Holm's correction over all methods of the table.
        visible: the smallest observed difference that would have been called real, at its step of that correction; a
            true one of that size is missed half of the time, see `power.difference_seen` for one that is not; None if
            unknown.
        improvement: probability of improvement over the reference, between 0 and 1.
        verdict: "better" or "worse" where `p_holm` is below 0.05, else "tie"; "unknown" where there is no test.
    """

    estimate: Estimate
    p: float
    p_holm: float
    visible: float | None
    improvement: Estimate
    verdict: Verdict


@dataclass(frozen=True)
class MethodEvidence:
    """All estimates of one method.

    Args:
        method: label.
        delta_m: mean relative change in percent, with the uncertainty of the single-task runs; None without them.
        iqm: inter-quartile mean of the changes over seeds and metrics, in percent; None without baselines.
        mean_rank: among the methods of the summary.
        changes: metric -> signed change against single-task in percent, with the uncertainty of the single-task runs.
        against: the difference to the reference; None for the reference itself, or without one.
    """

    method: str
    delta_m: Estimate | None
    iqm: Estimate | None
    mean_rank: Estimate | None
    changes: Mapping[str, Estimate]
    against: Difference | None


@dataclass(frozen=True)
class Evidence:
    """What a run directory shows.

    Args:
        reference: label of the method that the others are compared with, `ls`; None where there is none.
        why: why there is no reference; empty where there is one.
        methods: label -> its estimates, in the order of the summary.
        failed: label of each method that failed on all seeds, or with all of several settings on the first -> the
            reason.
        level: of the intervals, 0.95.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """

    reference: str | None
    why: str
    methods: Mapping[str, MethodEvidence]
    failed: Mapping[str, str]
    level: float
    resamples: int
    seed: int
