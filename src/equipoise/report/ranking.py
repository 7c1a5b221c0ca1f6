"""The table of methods: what each came to, how certain that is, and what it cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from equipoise.benchmark.evidence import Difference, Estimate, Evidence, evidence, failed_words
from equipoise.benchmark.runs import COMPUTE
from equipoise.benchmark.summary import MethodSummary, Summary

from .cells import Cell, Table, best_of
from .times import UNIT, times
from .wording import (
    counted,
    decimals_for,
    first_line,
    left_out,
    listed,
    number,
    points,
    ranked,
    short_labels,
    small,
    with_interval,
    with_spread,
)


def ranking_table(summary: Summary) -> Table:
    """One row per method, the best first, with intervals and the comparison with `ls`; those that failed come last."""
    rows, found = ranked(summary), evidence(summary)
    columns = {**_scores(summary, rows, found), **_against(rows, found), **_costs(summary, rows)}
    cells = list(zip([Cell(row.method) for row in rows], *columns.values(), strict=True))
    empty = (Cell("–"),) * (len(columns) - 1)
    cells += [(Cell(method), Cell(failed_words(summary.plan)), *empty) for method in found.failed]
    return Table("ranking", _title(summary), ("method", *columns), tuple(cells), _notes(summary, found))


def _scores(summary: Summary, rows: Sequence[MethodSummary], found: Evidence) -> dict[str, list[Cell]]:
    known = [found.methods[row.method] for row in rows]
    ranks = _column([with_interval(one.mean_rank, 2) for one in known], [row.mean_rank for row in rows])
    if summary.baseline.source == "none":
        return {"mean rank ↓": ranks}
    scores = [row.delta_m.mean if row.delta_m else math.nan for row in rows]
    return {
        "Δm % ↓": _column([with_interval(one.delta_m, 1, sign=True) for one in known], scores),
        "IQM % ↓": [Cell(with_interval(one.iqm, 1, sign=True)) for one in known],
        "mean rank ↓": ranks,
    }


def _against(rows: Sequence[MethodSummary], found: Evidence) -> dict[str, list[Cell]]:
    """The comparison with the reference; nothing without one."""
    name, others = found.reference, [found.methods[row.method].against for row in rows]
    if name is None or not any(others):
        return {}
    chance = {f"P(better than {name}) ↑": [_improvement(one) for one in others]}
    if all(one is None or math.isnan(one.estimate.mean) for one in others):
        return chance
    return {
        f"Δm − {name} (points) ↓": [
            Cell(with_interval(one.estimate if one else None, 1, sign=True)) for one in others
        ],
        "p (Holm)": [Cell(small(one.p_holm) if one and one.verdict != "unknown" else "–") for one in others],
        f"than {name}": [Cell(one.verdict if one else "–") for one in others],
        **chance,
    }


def _improvement(difference: Difference | None) -> Cell:
    return Cell(with_interval(difference.improvement if difference else None, 2))


def _costs(summary: Summary, rows: Sequence[MethodSummary]) -> dict[str, list[Cell]]:
    digits = decimals_for([row.seconds_per_step.mean for row in rows])
    columns = {
        "not learnt": [Cell(str(len(row.not_learnt))) for row in rows],
        "convergence difference (epochs) ↓": [Cell(with_spread(row.convergence, 1)) for row in rows],
        "seconds / step": [Cell(with_spread(row.seconds_per_step, digits)) for row in rows],
        f"step time / {UNIT}": [Cell(with_spread(entry.relative, 2)) for entry in times(summary)],
        "forwards / step": [Cell(number(row.forwards, 2)) for row in rows],
        "backwards / step": [Cell(number(row.backwards, 2)) for row in rows],
        "peak memory (MB)": [Cell(number(row.peak_memory_mb)) for row in rows],
        "solver fallbacks": [Cell(str(row.fallbacks)) for row in rows],
        "lr": [Cell(f"{row.lr:g}") for row in rows],
        "seeds": [Cell(_seeds(summary, row)) for row in rows],
    }
    if all(row.method != UNIT for row in rows):
        del columns[f"step time / {UNIT}"]
    if all(row.forwards is None for row in rows):  # of a version that did not count
        del columns["forwards / step"], columns["backwards / step"]
    return columns


def _seeds(summary: Summary, row: MethodSummary) -> str:
    planned = len(summary.plan.seeds)
    return str(planned) if len(row.runs) == planned else f"{len(row.runs)} of {planned}"


def _title(summary: Summary) -> str:
    by = "Δm" if any(row.delta_m for row in summary.methods) else "mean rank"
    return f"{summary.plan.problem}, preset {summary.plan.preset}: methods by {by}"


def _notes(summary: Summary, found: Evidence) -> tuple[str, ...]:
    labels = [*(row.method for row in summary.methods), *found.failed]
    names = short_labels(summary.plan.methods)
    among = [names.get(row.method, row.method) for row in summary.methods]
    return (
        _delta_note(summary),
        *_interval_notes(summary, found),
        *_reference_notes(summary, found),
        "±: standard deviation over seeds; – where it is unknown (one seed).",
        f"Mean rank: over {counted(len(summary.plan.metrics), 'metric')} among "
        f"{listed(among, 30)}; it depends on that set. Single-task is not ranked.",
        "Convergence difference: standard deviation over tasks of the epoch from which the validation metric "
        f"stays within {100 * summary.tolerance:g} % of its total improvement of its best.",
        *_partial(summary),
        *(
            f"{label} {failed_words(summary.plan)}: {first_line(found.failed[label])}"
            for label in labels
            if label in found.failed
        ),
    )


def _partial(summary: Summary) -> list[str]:
    """Who has fewer seeds than planned since a run failed."""
    lost = {record.method for record in summary.failed}
    planned = len(summary.plan.seeds)
    some = [row.method for row in summary.methods if len(row.runs) < planned and row.method in lost]
    if not some:
        return []
    return [
        f"Runs that failed are left out: the numbers of {listed(some)} are of fewer seeds, which may flatter them."
    ]


def _delta_note(summary: Summary) -> str:
    baseline = summary.baseline
    if baseline.source == "none":
        return f"There is no Δm: {baseline.missing}. Methods are compared by mean rank alone."
    source = "own single-task runs" if baseline.source == "own" else "published single-task numbers"
    text = (
        f"Δm: mean relative change of the test metrics against {source}, lower is better, "
        "negative beats single-task."
    )
    if baseline.missing:
        return f"{text} Δm is missing: {baseline.missing}."
    iqm = "IQM: mean of the middle half of these changes over seeds and metrics."
    return " ".join([text, iqm, *left_out(summary)])


def _interval_notes(summary: Summary, found: Evidence) -> Iterable[str]:
    estimates: dict[str, Estimate | None] = {}
    for label, one in found.methods.items():
        estimates[label] = one.mean_rank if summary.baseline.source == "none" else one.delta_m
    if any(one and one.low is not None for one in estimates.values()):
        exact = " The published values count as exact." if summary.baseline.source == "published" else ""
        single = " and of the single-task runs" if summary.baseline.source == "own" else ""
        yield (
            f"[low, high]: {100 * found.level:g} % interval, from the spread over {found.resamples:,} resamples of the "
            f"seeds of the method{single}, with the quantile of Student's t.{exact}"
        )
    for who, why in _by_reason({label: one.why for label, one in estimates.items() if one}):
        yield f"No interval for {who}: {why}."


def _by_reason(reasons: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """The methods that share a reason, in words; those with an empty one are left out."""
    groups: dict[str, list[str]] = {}
    for label, why in reasons.items():
        groups.setdefault(why, []).append(label)
    for why, labels in groups.items():
        if why:
            yield "all methods" if len(labels) == len(reasons) > 1 else listed(labels), why


def _reference_notes(summary: Summary, found: Evidence) -> Iterable[str]:
    if found.reference is None:
        if found.methods:
            yield f"No method is compared with ls: {found.why}."
        return
    differences = {label: one.against for label, one in found.methods.items() if one.against}
    tested = [one for one in differences.values() if one.verdict != "unknown"]
    if tested:
        visible = [one.visible for one in tested if one.verdict == "tie" and one.visible is not None]
        seen = (
            f" Ties: an observed difference of {points(max(visible))} would have been clear in each; a true one of "
            "that size is missed half of the time."
            if visible
            else ""
        )
        yield (
            f"Against {found.reference}: paired t test over common seeds; p and verdict after Holm's correction over "
            f"{counted(len(tested), 'method')}, the interval before it. Tie: no difference was shown.{seen}"
        )
        yield _tuned(summary, found.reference)
    for who, why in _by_reason({label: one.estimate.why for label, one in differences.items()}):
        yield f"No test against {found.reference} for {who}: {why}."
    if differences:
        yield (
            f"P(better than {found.reference}): probability that a run beats one of {found.reference} in a metric "
            "drawn at random."
        )


def _tuned(summary: Summary, reference: str) -> str:
    """How far the reference was tuned: a difference to a row that was not is worth less."""
    tried = summary.plan.budget or len(summary.plan.lrs)
    if tried == 1:
        return f"{reference} was not tuned: every row has one setting."
    text = f"{reference} is tuned: chosen among {tried} settings on validation data, as every row."
    if summary.plan.budget is None:
        return text
    tuned = [row for row in summary.methods if not row.method.endswith(COMPUTE)]
    kept = sum(row.runs[0].trial == 0 for row in tuned)
    return f"{text} The preset's own setting was the best one of {kept} of {counted(len(tuned), 'method')}."


def _column(texts: list[str], values: list[float]) -> list[Cell]:
    best = best_of(values, higher_is_better=False)
    return [Cell(text, index in best) for index, text in enumerate(texts)]
