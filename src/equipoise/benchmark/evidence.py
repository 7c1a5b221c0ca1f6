"""What the runs of a directory show about its methods, with the certainty of each number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import combinations

from equipoise.solvers.solution import single_threaded
from equipoise.training.comparison import (
    CONFIDENCE,
    NOT_FINITE,
    Comparison,
    Judged,
    judged,
    paired,
    verdict_on,
)

from . import aggregates
from .bootstrap import SEED
from .estimates import Difference, Estimate, Evidence, MethodEvidence
from .order import pending
from .records import Plan
from .samples import Samples, not_finite
from .summary import MethodSummary, Summary

__all__ = [
    "REFERENCE",
    "Difference",
    "Estimate",
    "Evidence",
    "MethodEvidence",
    "evidence",
    "failed_words",
    "failures",
    "indistinct",
]

REFERENCE = "ls"


@lru_cache(maxsize=1)  # a report asks for the same several times
@single_threaded  # on two busy cores, two threads took 23 s where one took 0.5
def evidence(summary: Summary) -> Evidence:
    """All estimates of a summary, with intervals where the runs allow them and the reason where they do not.

    A method counts with the seeds that it finished; a run that ended with an error is a seed less, and one metric that
    is not finite makes what rests on it not finite: neither is dropped in silence.

    Args:
        summary: of a run directory.
    """
    samples = Samples(summary)
    reference = next((row for row in summary.methods if row.method == REFERENCE), None)
    failed = failures(summary)
    ranks = aggregates.ranks(samples)
    against = _against(samples, reference) if reference else {}
    methods = {
        row.method: MethodEvidence(
            row.method,
            aggregates.delta(samples, row),
            aggregates.interquartile(samples, row),
            ranks.get(row.method),
            aggregates.changes(samples, row),
            against.get(row.method),
        )
        for row in summary.methods
    }
    label = reference.method if reference else None
    why = _absent(summary, failed, label)
    return Evidence(label, why, methods, failed, CONFIDENCE, samples.resamples, SEED)


def failures(summary: Summary) -> dict[str, str]:
    """The methods that have failed runs, no finished one and none to come, with their first error."""
    found: dict[str, str] = {}
    others = {row.method for row in summary.methods}
    others |= {run.method for run in pending(summary.plan, summary.records)} if summary.failed else set()
    for record in summary.failed:
        if record.task is None and record.method not in others:
            found.setdefault(record.method, record.error or "no message")
    return found


def failed_words(plan: Plan) -> str:
    """What happened to those of `failures`: with several settings there is none to run on the other seeds."""
    tried = plan.budget or len(plan.lrs)
    return "failed on all seeds" if tried == 1 else f"failed with all {tried} settings on the first seed"


def indistinct(summary: Summary) -> dict[str, tuple[str, ...]]:
    """Method -> the methods whose delta_m cannot be told from its own.

    Paired t tests over the common seeds of every two methods, after Holm's correction over all of these pairs, so that
    it holds for a method that was picked by its result too. A pair without a test cannot be told apart.
    """
    samples = Samples(summary)
    scores = {row.method: _finite(samples.scores(row)) for row in summary.methods}
    pairs = list(combinations(scores, 2))
    family = judged([paired(scores[a], scores[b]) for a, b in pairs])
    found: dict[str, list[str]] = {method: [] for method in scores}
    for (a, b), one in zip(pairs, family, strict=True):
        if not one.clear:
            found[a].append(b)
            found[b].append(a)
    return {method: tuple(others) for method, others in found.items()}


def _against(samples: Samples, reference: MethodSummary) -> dict[str, Difference]:
    """Every other method minus the reference, with Holm's correction over all that could be tested."""
    others = [row for row in samples.summary.methods if row is not reference]
    theirs = samples.scores(reference)
    family = judged([paired(samples.scores(row), theirs) for row in others])
    return {
        row.method: _difference(samples, row, reference, one) for row, one in zip(others, family, strict=True)
    }


def _difference(
    samples: Samples, row: MethodSummary, reference: MethodSummary, one: Judged[Comparison]
) -> Difference:
    estimate = Estimate.of(one.test)
    if row.delta_m is None:
        missing = f"there is no delta_m: {samples.summary.baseline.missing}"
        estimate = Estimate(math.nan, None, None, 0, missing)
    elif one.test.why == NOT_FINITE:
        own, other = not_finite(row, samples.usable), not_finite(reference, samples.usable)
        estimate = replace(estimate, why=own or f"{reference.method} is {other or 'not finite'}")
    visible = None if one.test.why else one.visible
    improvement = aggregates.improvement(samples, row, reference)
    return Difference(estimate, one.test.p, one.p, visible, improvement, verdict_on(one))


def _finite(scores: Mapping[int, float]) -> dict[int, float]:
    """Scores, or none at all where one is not finite: such a method is compared with nobody."""
    return dict(scores) if all(map(math.isfinite, scores.values())) else {}


def _absent(summary: Summary, failed: Mapping[str, str], reference: str | None) -> str:
    if reference:
        return ""
    if REFERENCE in failed:
        return f"{REFERENCE} {failed_words(summary.plan)}: {failed[REFERENCE]}"
    if REFERENCE in summary.plan.methods:
        return f"{REFERENCE} has no finished run yet"
    return f"{REFERENCE} is not among the methods"
