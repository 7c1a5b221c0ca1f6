"""What the runs of a directory show about its methods, with the certainty of each number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import combinations

from equipoise.solvers.solution import single_threaded
from equipoise.training.comparison import Comparison, compared, holm

from . import aggregates
from .bootstrap import SEED
from .estimates import LEVEL, Difference, Estimate, Evidence, MethodEvidence, Verdict
from .order import pending
from .records import Plan
from .samples import Samples, not_finite
from .summary import MethodSummary, Summary

__all__ = [
    "LEVEL",
    "REFERENCE",
    "Difference",
    "Estimate",
    "Evidence",
    "MethodEvidence",
    "Verdict",
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
    return Evidence(label, why, methods, failed, LEVEL, samples.resamples, SEED)


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
    tests = [_paired(scores[a], scores[b]) for a, b in pairs]
    corrected = holm([1.0 if test is None else test.p for test in tests])
    found: dict[str, list[str]] = {method: [] for method in scores}
    for (a, b), p in zip(pairs, corrected, strict=True):
        if not p < 1 - LEVEL:
            found[a].append(b)
            found[b].append(a)
    return {method: tuple(others) for method, others in found.items()}


def _against(samples: Samples, reference: MethodSummary) -> dict[str, Difference]:
    """Every other method minus the reference, with Holm's correction over all that could be tested."""
    others = [row for row in samples.summary.methods if row is not reference]
    theirs = samples.scores(reference)
    pairs = {row.method: _common(samples.scores(row), theirs) for row in others}
    tests = {method: _paired(*pair) for method, pair in pairs.items()}
    corrected = holm([test.p for test in tests.values() if test])
    p_holm = dict(zip([method for method, test in tests.items() if test], corrected, strict=True))
    steps = _steps({method: test.p for method, test in tests.items() if test}, p_holm)
    found = {}
    for row in others:
        test, n = tests[row.method], len(pairs[row.method][0])
        improvement = aggregates.improvement(samples, row, reference)
        if test is None:
            mean, why = _untested(samples, row, reference)
            found[row.method] = Difference(
                Estimate(mean, None, None, n, why), 1.0, 1.0, None, improvement, "unknown"
            )
            continue
        p = p_holm[row.method]
        estimate = Estimate(test.mean, test.mean - test.half, test.mean + test.half, n)
        visible = test.visible((1 - LEVEL) / steps[row.method])
        found[row.method] = Difference(estimate, test.p, p, visible, improvement, _word(test, p))
    return found


def _steps(plain: Mapping[str, float], corrected: Mapping[str, float]) -> dict[str, int]:
    """What Holm's procedure divides the level by: the tests that are left when it comes to this one, or stops."""
    order = sorted(plain, key=lambda method: plain[method])
    real = sum(corrected[method] < 1 - LEVEL for method in order)
    return {method: len(order) - min(place, real) for place, method in enumerate(order)}


def _word(test: Comparison, p: float) -> Verdict:
    if not p < 1 - LEVEL:
        return "tie"
    return "better" if test.mean < 0 else "worse"


def _paired(scores: Mapping[int, float], others: Mapping[int, float]) -> Comparison | None:
    """The paired test over common seeds; None where it says nothing: one seed, no number, or no spread."""
    mine, theirs = _common(scores, others)
    if len(mine) < 2 or not all(map(math.isfinite, [*mine.values(), *theirs.values()])):
        return None
    test = compared(list(mine.values()), list(theirs.values()))
    sizes = [abs(value) for value in [*mine.values(), *theirs.values()]]
    return test if test.error > 1e-12 * max(1.0, *sizes) else None


def _untested(samples: Samples, row: MethodSummary, reference: MethodSummary) -> tuple[float, str]:
    """The mean difference without a test, and why there is none."""
    missing = samples.summary.baseline.missing
    if row.delta_m is None:
        return math.nan, f"there is no delta_m: {missing}"
    mine, theirs = _common(samples.scores(row), samples.scores(reference))
    if not mine:
        return math.nan, f"no seed in common with {reference.method}"
    mean = sum(mine[seed] - theirs[seed] for seed in mine) / len(mine)
    if not math.isfinite(mean):
        own, other = not_finite(row, samples.usable), not_finite(reference, samples.usable)
        return math.nan, own or f"{reference.method} is {other or 'not finite'}"
    if len(mine) < 2:
        return mean, aggregates.ONE_SEED
    return mean, "every seed has the same difference, so there is no spread to judge it by"


def _common(
    scores: Mapping[int, float], others: Mapping[int, float]
) -> tuple[dict[int, float], dict[int, float]]:
    seeds: Sequence[int] = [seed for seed in scores if seed in others]
    return {seed: scores[seed] for seed in seeds}, {seed: others[seed] for seed in seeds}


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
