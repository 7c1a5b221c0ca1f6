"""The result tables: methods, metrics, and what is published."""

from __future__ import annotations

import itertools
import math

from equipoise.benchmark.evidence import failures
from equipoise.benchmark.published import Correction, published, published_benchmarks
from equipoise.benchmark.summary import MethodSummary, Summary
from equipoise.training.task import Metric

from .cells import Cell, Table, best_of, latex, markdown
from .export import METRICS_FILE
from .grouping import STATISTICS, Kind, baseline_statistics, has_many, kinds, method_statistics
from .ranking import ranking_table
from .times import ROUGH_TIMES, UNIT, times
from .wording import (
    NOT_LEARNT,
    NOT_LEARNT_MEANS,
    decimals_for,
    metric_title,
    number,
    ranked,
    selection,
    short_labels,
    with_spread,
)

__all__ = ["Cell", "Table", "latex", "markdown", "metric_table", "published_table", "ranking_table"]


def metric_table(summary: Summary) -> Table:
    """One row per metric, one column per method and, unless no baselines were asked for, one for single-task runs.

    The methods are in the order of `ranking_table`, those that failed on all seeds last. Above `grouping.MANY` metrics
    there are a few rows per kind of metric instead; each metric is in `metrics.csv`.
    """
    rows = ranked(summary)
    failed = failures(summary)
    names = short_labels(summary.plan.methods)
    shown = [*(row.method for row in rows), *failed]
    header: tuple[str, ...] = ("metric", "single-task", *(names.get(label, label) for label in shown))
    if has_many(summary.plan):
        body = tuple(line for kind in kinds(summary.plan) for line in _kind_rows(summary, rows, kind))
        notes = _kind_notes(summary)
    else:
        body = tuple(_metric_row(summary, rows, metric) for metric in summary.plan.metrics)
        notes = _metric_notes(summary)
    body = tuple((*line, *(Cell("failed") for _ in failed)) for line in body)
    if summary.baseline.source == "none":
        header, body = header[:1] + header[2:], tuple(row[:1] + row[2:] for row in body)
    return Table("metrics", f"Test metrics {selection(summary)}", header, body, notes)


def published_table(summary: Summary) -> Table | None:
    """Our scores beside the published ones; None where nothing is published about these methods."""
    problem = summary.plan.problem
    if problem not in published_benchmarks():
        return None
    known = published(problem)
    pairs = [(row, found) for row in ranked(summary) if (found := known.find(row.method))]
    cost = {entry.method: entry for entry in times(summary)}
    body = tuple(
        (
            Cell(row.method),
            Cell(with_spread(row.delta_m, 1, sign=True)),
            Cell(number(result.delta_m, 1, sign=True)),
            Cell(number(row.mean_rank, 2)),
            Cell(number(result.mean_rank, 2)),
            Cell(with_spread(cost[row.method].relative, 2)),
            Cell(number(cost[row.method].published, 2)),
        )
        for row, (_, result) in pairs
    )
    scores = ("Δm %", "mean rank", f"time / {UNIT}")
    header = ("method", *(f"{score} {where}" for score in scores for where in ("here", "published")))
    notes = (
        f"Another budget: the published networks were trained for {known.budget}; ours as the plan says.",
        f"Mean ranks: here among {len(summary.methods)} methods, published among {len(known.methods)}. "
        "Source: GO4Align, NeurIPS 2024, tables 1, 2, 7, 8.",
        f"Time relative to {UNIT}: here per step, published per epoch on one A100 (figures 1 and 4). {ROUGH_TIMES}",
        *(_misprint(name, known.corrections[name]) for _, (name, _) in pairs if name in known.corrections),
    )
    return Table("published", "Published numbers, from another budget", header, body, notes) if body else None


def _misprint(name: str, fixed: Correction) -> str:
    return (
        f"Printed wrong: the published row of {name} repeats that of {fixed.repeats}. It should have a Δm of "
        f"{number(fixed.delta_m, 1, sign=True)} % and a mean rank of {number(fixed.mean_rank, 2)} ({fixed.source})."
    )


def _metric_row(summary: Summary, rows: tuple[MethodSummary, ...], metric: Metric) -> tuple[Cell, ...]:
    baseline = summary.baseline
    reference = baseline.values.get(metric.name)
    values = [row.metrics[metric.name] for row in rows]
    known = [*values, *([reference] if reference else [])]
    decimals = decimals_for([spread.mean for spread in known], [spread.std for spread in known])
    learnt = [math.nan if metric.name in r.not_learnt else v.mean for r, v in zip(rows, values, strict=True)]
    best = best_of(learnt, higher_is_better=metric.higher_is_better)
    return (
        Cell(metric_title(metric)),
        Cell(with_spread(reference, decimals), not_learnt=metric.name in baseline.not_learnt),
        *(
            Cell(with_spread(value, decimals), index in best, metric.name in row.not_learnt)
            for index, (row, value) in enumerate(zip(rows, values, strict=True))
        ),
    )


def _kind_rows(summary: Summary, rows: tuple[MethodSummary, ...], kind: Kind) -> list[tuple[Cell, ...]]:
    """A row for the mean over the tasks, and for the best, the median and the worst of them."""
    reference = baseline_statistics(summary, kind)
    columns = [method_statistics(row, kind) for row in rows]
    known = [spread for spread in (*itertools.chain(*columns), *reference) if spread]
    decimals = decimals_for([spread.mean for spread in known], [spread.std for spread in known])
    lines = []
    for index, name in enumerate(STATISTICS):
        values = [column[index] for column in columns]
        best = best_of([v.mean for v in values], higher_is_better=kind.metric.higher_is_better)
        of = f"mean of {len(kind.members)} tasks" if name == "mean" else f"{name} task"
        cells = [Cell(with_spread(value, decimals), place in best) for place, value in enumerate(values)]
        title = Cell(f"{metric_title(kind.metric)}: {of}")
        lines.append((title, Cell(with_spread(reference[index], decimals)), *cells))
    return lines


def _metric_notes(summary: Summary) -> tuple[str, ...]:
    notes = ["Mean ± standard deviation over seeds. Bold: best mean of a method that learnt the task."]
    if summary.baseline.not_learnt or any(row.not_learnt for row in summary.methods):
        notes.append(f"{NOT_LEARNT} not learnt: {NOT_LEARNT_MEANS}.")
    return tuple(notes)


def _kind_notes(summary: Summary) -> tuple[str, ...]:
    return (
        f"{len(summary.plan.metrics)} metrics are too many to list: mean, best, median and worst are over the tasks "
        "of a run, then mean ± standard deviation over seeds; bold: best mean. The best and the worst task may be "
        f"another one for each method. {METRICS_FILE} beside this report has every metric of every run.",
        f"Not learnt: {NOT_LEARNT_MEANS}.",
    )
