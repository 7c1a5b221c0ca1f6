"""What the numbers say, in sentences that claim no more than they hold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from equipoise.benchmark.evidence import Evidence, evidence, failed_words, failures, indistinct
from equipoise.benchmark.summary import MethodSummary, Spread, Summary

from .times import long_waits
from .wording import (
    counted,
    decimals_for,
    left_out,
    listed,
    number,
    points,
    ranked,
    short_labels,
    with_interval,
)

_TIED = 5  # methods of a tie that are named


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
    ends = [*_budget(summary), *long_waits(summary), *_open_ends(summary)]
    return [*result, *_learning(summary), *ends]


def _by_score(summary: Summary, scored: Sequence[tuple[MethodSummary, Spread]]) -> list[str]:
    found = evidence(summary)
    return [
        *_lead(summary, found, scored),
        *_against(found, short_labels(summary.plan.methods)),
        *_not_finite(summary, found),
        *_other_leader(summary, found, scored),
        *_weight_of_one(summary, scored),
        *left_out(summary),
    ]


def _lead(summary: Summary, found: Evidence, scored: Sequence[tuple[MethodSummary, Spread]]) -> list[str]:
    """Who has the lowest score, and who cannot be told from it."""
    names = short_labels(summary.plan.methods)
    best, score = scored[0]
    change = _change(summary, found, best.method, score)
    first = f"{names[best.method]} has the lowest Δm, {_percent(found, best)}: {change}."
    if len(scored) == 1:
        first = f"{names[best.method]} has a Δm of {_percent(found, best)}: {change}."
    if len(best.runs) < 2:
        return [first, "One seed: the spread is unknown, so the order of the methods may be chance."]
    alike = set(indistinct(summary)[best.method]) - _told_apart(found, best.method)
    tied = [row for row, _ in scored[1:] if row.method in alike]
    if tied:
        values = [f"{names[row.method]} ({_percent(found, row)})" for row in (best, *tied)]
        seeds = counted(len(best.runs), "seed")
        return [
            f"A tie: {listed(values, _TIED)} cannot be told apart on {seeds}.",
            f"Of {names[best.method]}: {change}.",
        ]
    apart = "It differs from every other method (paired tests, Holm's correction over all pairs)."
    return [first, apart] if len(scored) > 1 else [first]


def _told_apart(found: Evidence, best: str) -> set[str]:
    """The methods that differ from the best one by the comparison with the reference, which needs fewer tests."""
    if best == found.reference:
        return {
            label for label, one in found.methods.items() if one.against and one.against.verdict == "worse"
        }
    against = found.methods[best].against
    real = against is not None and against.verdict == "better"
    return {found.reference} if found.reference and real else set()


def _change(summary: Summary, found: Evidence, method: str, score: Spread) -> str:
    """How the method stands to single-task networks, and whether that may be chance."""
    own = summary.baseline.source == "own"
    source = "single-task networks" if own else "the published single-task networks"
    sign = "better" if score.mean < 0 else "worse"
    text = f"its metrics are on average {number(abs(score.mean), 1)} % {sign} than those of {source}"
    estimate = found.methods[method].delta_m
    if estimate is None or estimate.low is None or estimate.high is None:
        return text
    return f"{text}, which may be chance" if estimate.low <= 0 <= estimate.high else text


def _against(found: Evidence, names: Mapping[str, str]) -> list[str]:
    """Which methods differ from the reference, in at most two sentences."""
    differences = {label: one.against for label, one in found.methods.items() if one.against}
    real = {label: one for label, one in differences.items() if one.verdict in ("better", "worse")}
    ties = {label: one for label, one in differences.items() if one.verdict == "tie"}
    parts = []
    for word in ("better", "worse"):
        those = [
            f"{names[label]} ({with_interval(one.estimate, 1, sign=True)} points)"
            for label, one in sorted(real.items(), key=lambda pair: pair[1].estimate.mean)
            if one.verdict == word
        ]
        parts += [f"{word}: {listed(those)}"] * bool(those)
    sentences = [f"Against {found.reference}, after Holm's correction, {'; '.join(parts)}."] * bool(parts)
    if ties:
        seen = points(max(one.visible or 0.0 for one in ties.values()))
        who = listed([names[label] for label in ties]) if real else "No method is clearly different from"
        verb = f" {'ties' if len(ties) == 1 else 'tie'} with" if real else ""
        sentences.append(f"{who}{verb} {found.reference}: differences below {seen} count as chance here.")
    return sentences


def _not_finite(summary: Summary, found: Evidence) -> list[str]:
    names = short_labels(summary.plan.methods)
    return [
        f"{names[label]} has no Δm: {one.delta_m.why}."
        for label, one in found.methods.items()
        if one.delta_m and not math.isfinite(one.delta_m.mean)
    ]


def _other_leader(
    summary: Summary, found: Evidence, scored: Sequence[tuple[MethodSummary, Spread]]
) -> list[str]:
    best = scored[0][0].mean_rank
    leaders = _leaders([row for row, _ in scored])
    if leaders[0].mean_rank >= best:
        return []
    names = short_labels(summary.plan.methods)
    who, lead = listed([names[row.method] for row in leaders]), "leads" if len(leaders) == 1 else "lead"
    chance = "" if _apart(found, leaders[0].method, scored[0][0].method) else ", which may be chance"
    return [f"By mean rank {who} {lead}, {leaders[0].mean_rank:.2f} against {best:.2f}{chance}."]


def _apart(found: Evidence, leader: str, other: str) -> bool:
    """Whether the intervals of two mean ranks have nothing in common; a rank that never changes is its own."""
    first, second = found.methods[leader].mean_rank, found.methods[other].mean_rank
    if first is None or second is None or min(first.n, second.n) < 2:
        return False
    return (first.mean if first.high is None else first.high) < (
        second.mean if second.low is None else second.low
    )


def _weight_of_one(summary: Summary, scored: Sequence[tuple[MethodSummary, Spread]]) -> list[str]:
    """Whether some Δm is mostly one metric, as where its single-task value is nearly zero."""
    names = short_labels(summary.plan.methods)
    found: dict[str, list[str]] = {}
    for row, _ in scored:
        sizes = {name: abs(change) for name, change in row.changes.items()}
        top = max(sizes, key=lambda name: sizes[name])
        if len(sizes) > 2 and sizes[top] > sum(sizes.values()) / 2:
            found.setdefault(top, []).append(names[row.method])
    values = summary.baseline.values
    return [
        f"In the Δm of {listed(methods)} one metric, {metric}, weighs more than all others together; its single-task "
        f"value is {number(values[metric].mean, decimals_for([values[metric].mean]))}."
        for metric, methods in found.items()
    ]


def _leaders(rows: Sequence[MethodSummary]) -> list[MethodSummary]:
    first = min(row.mean_rank for row in rows)
    return [row for row in rows if row.mean_rank == first]


def _percent(found: Evidence, row: MethodSummary) -> str:
    return f"{with_interval(found.methods[row.method].delta_m, 1, sign=True)} %"


def _by_rank(summary: Summary, rows: tuple[MethodSummary, ...]) -> list[str]:
    names = short_labels(summary.plan.methods)
    leaders = _leaders(rows)
    reason = summary.baseline.missing or "a metric is not finite"
    if summary.missing:
        lead = f"There is no Δm yet ({reason})."
    else:
        lead = f"There is no Δm: {reason}."
    who = listed([names[row.method] for row in leaders])
    among = f"{leaders[0].mean_rank:.2f} among {len(rows)} methods over {len(summary.plan.metrics)} metrics"
    if len(rows) == 1:
        return [f"{lead} With {who} alone there is nothing to compare."]
    result = f"{who} has the best mean rank" if len(leaders) == 1 else f"A tie: {who} have the best mean rank"
    one_seed = all(len(row.runs) == 1 for row in rows)
    chance = ["One seed: the spread is unknown, so the order of the methods may be chance."] * one_seed
    return [f"{lead} {result}, {among}.", *chance]


def _learning(summary: Summary) -> list[str]:
    order = [metric.name for metric in summary.plan.metrics]
    nobody = [name for name in order if all(name in row.not_learnt for row in summary.methods)]
    baseline = [name for name in order if name in summary.baseline.not_learnt]
    sentences = []
    if nobody:
        sentences.append(f"Not learnt by any method: {listed(nobody)}.")
    if baseline:
        resting = [name for name in baseline if name not in summary.baseline.left_out]
        which = "them" if resting == baseline else listed(resting) if resting else ""
        rests = f"; Δm rests on {which} too" if which else ""
        sentences.append(f"Not learnt by the single-task networks: {listed(baseline)}{rests}.")
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
    runs = [f"Runs of the plan: {' and '.join(parts)}; see below."] if parts else []
    names = short_labels(summary.plan.methods)
    never = [names.get(label, label) for label in failures(summary)]
    how = failed_words(summary.plan).capitalize()
    return [*([f"{how}: {listed(never)}."] if never else []), *runs]
