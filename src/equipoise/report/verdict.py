"""What the numbers say, in sentences that claim no more than they hold."""

from __future__ import annotations

import math
from collections.abc import Sequence

from equipoise.benchmark.summary import MethodSummary, Spread, Summary

from .wording import listed, number, ranked, short_labels, with_spread


def verdict(summary: Summary) -> list[str]:
    """The result in a few sentences, the leading one first."""
    rows = ranked(summary)
    if not rows:
        return ["No method has a finished run yet.", *_open_ends(summary)]
    if all(len(row.not_learnt) == len(summary.plan.metrics) for row in rows):
        lead = "No method learnt a single task within this budget: the numbers say nothing about the methods."
        return [lead, *_budget(summary), *_open_ends(summary)]
    scored = [(row, row.delta_m) for row in rows if row.delta_m and math.isfinite(row.delta_m.mean)]
    result = _by_score(summary, scored) if scored else _by_rank(summary, rows)
    return [*result, *_learning(summary), *_budget(summary), *_open_ends(summary)]


def ties(scored: Sequence[tuple[MethodSummary, Spread]]) -> list[tuple[MethodSummary, Spread]]:
    """Those whose score is within one standard deviation (the larger of the two) of the first one's."""
    _, first = scored[0]
    return [
        (row, score)
        for row, score in scored[1:]
        if score.mean - first.mean <= max(first.std or 0.0, score.std or 0.0)
    ]


def _by_score(summary: Summary, scored: Sequence[tuple[MethodSummary, Spread]]) -> list[str]:
    names = short_labels(summary.plan.methods)
    best, score = scored[0]
    source = (
        "single-task networks" if summary.baseline.source == "own" else "the published single-task networks"
    )
    sign = "better" if score.mean < 0 else "worse"
    change = f"its metrics are on average {number(abs(score.mean), 1)} % {sign} than those of {source}"
    tied = ties(scored) if score.std is not None else []
    if tied:
        values = [f"{names[row.method]} ({_percent(value)})" for row, value in [scored[0], *tied]]
        sentences = [f"A tie: {listed(values)} have the lowest Δm within one standard deviation."]
        sentences.append(f"Of {names[best.method]}: {change}.")
    elif len(scored) > 1:
        sentences = [f"{names[best.method]} has the lowest Δm, {_percent(score)}: {change}."]
    else:
        sentences = [f"{names[best.method]} has a Δm of {_percent(score)}: {change}."]
    if score.std is None:
        sentences.append("One seed: the spread is unknown, so the order of the methods may be chance.")
    elif not tied and len(scored) > 1:
        sentences.append("No other method lies within one standard deviation of it.")
    leader = min((row for row, _ in scored), key=lambda row: row.mean_rank)
    if leader.mean_rank < best.mean_rank:
        sentences.append(
            f"By mean rank {names[leader.method]} leads, {leader.mean_rank:.2f} against {best.mean_rank:.2f}."
        )
    return sentences


def _percent(score: Spread) -> str:
    return f"{with_spread(score, 1, sign=True)} %"


def _by_rank(summary: Summary, rows: tuple[MethodSummary, ...]) -> list[str]:
    best = min(rows, key=lambda row: row.mean_rank)
    name = short_labels(summary.plan.methods)[best.method]
    reason = summary.baseline.missing or "a metric is not finite"
    among = f"among {len(rows)} methods over {len(summary.plan.metrics)} metrics"
    return [f"There is no Δm yet ({reason}). {name} has the best mean rank, {best.mean_rank:.2f} {among}."]


def _learning(summary: Summary) -> list[str]:
    order = [metric.name for metric in summary.plan.metrics]
    nobody = [name for name in order if all(name in row.not_learnt for row in summary.methods)]
    baseline = [name for name in order if name in summary.baseline.not_learnt]
    sentences = []
    if nobody:
        sentences.append(f"Not learnt by any method: {listed(nobody)}.")
    if baseline:
        sentences.append(f"Not learnt by the single-task networks: {listed(baseline)}; Δm rests on them too.")
    return sentences


def _budget(summary: Summary) -> list[str]:
    if not summary.is_demonstration:
        return []
    return [
        f"Demonstration budget (preset {summary.plan.preset}): it shows how the methods behave, "
        "not which one is better after full training."
    ]


def _open_ends(summary: Summary) -> list[str]:
    failed, missing = len(summary.failed), len(summary.missing)
    parts = [f"{failed} failed"] * bool(failed) + [f"{missing} not finished"] * bool(missing)
    return [f"Runs of the plan: {' and '.join(parts)}; see below."] if parts else []
