"""Interactive figures of the trade-off: the average against the worst-off task, and task against task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from equipoise.benchmark.evidence import Estimate, Evidence
from equipoise.benchmark.summary import MethodSummary, Summary

from .grouping import has_many
from .interactive import (
    SOFT,
    Chart,
    Choice,
    Panel,
    Values,
    axis,
    axis_of_choice,
    error_bars,
    layout,
    marker,
    numbers,
    reference_line,
)
from .plots_changes import shown_metrics
from .plots_results import worst_change
from .style import looks
from .wording import number, ranked, short_labels

_HEIGHT = 440  # CSS pixels
_LINES = [reference_line(0, vertical=True), reference_line(0, vertical=False)]
_HOVER = "%{fullData.name}<br>Δm %{x:.1f} %<br>%{customdata[0]}: %{y:.1f} %<extra></extra>"


def trade_off(summary: Summary, evidence: Evidence) -> Chart | None:
    """Mean change against the change of the metric that fares worst; of many metrics, the twentieth that does."""
    rows = [row for row in ranked(summary) if row.delta_m and math.isfinite(row.delta_m.mean)]
    if not rows:
        return None
    look, short, many = looks(summary), short_labels(summary.plan.methods), has_many(summary.plan)
    worst = {row.method: worst_change(row.changes, many=many) for row in rows}
    traces = []
    for row in rows:
        found = evidence.methods[row.method].delta_m
        height, metric = worst[row.method]
        mark = _point(short[row.method], _mean(row), height, marker(look[row.method], 12))
        bars = _bars(look[row.method].colour, [found] if found else [])
        said = {"customdata": [[metric or "worst 5 %"]], "hovertemplate": _HOVER}
        traces.append({**mark, **said, "error_x": bars})
    up = "worst 5 % of the changes" if many else "change of the worst metric"
    across, upwards = axis("mean change Δm (%)   ← better"), axis(f"{up} (%)   better ↓")
    panel = Panel(tuple(traces), layout(_HEIGHT, across, upwards, shapes=_LINES))
    body = (
        (
            row.method,
            *(number(v, 1, sign=True) for v in (_mean(row), worst[row.method][0])),
            worst[row.method][1],
        )
        for row in rows
    )
    table = numbers("trade_off", "Mean and worst change", ("method", "Δm %", f"{up} %", "its metric"), body)
    caption = _caption(many=many)
    alt = f"A mark for each of {len(rows)} methods: the mean change across, the worst change upwards."
    keys = {short[row.method]: look[row.method] for row in rows}
    return Chart("trade_off", "Average against the worst-off task", caption, alt, (panel,), table, keys)


def _caption(*, many: bool) -> str:
    shown = "what all but the worst 5 % of the metrics stay below" if many else "the metric that loses most"
    return (
        f"Left is better on average, down is fairer: the vertical axis shows {shown}. The lines at 0 are single-task "
        "level; bars are intervals of the mean change."
    )


def pairs(summary: Summary) -> Chart | None:
    """The change of one metric against that of another one, which the reader chooses; None with fewer than two."""
    rows = [row for row in ranked(summary) if row.changes]
    metrics = [name for name in shown_metrics(summary, rows) if any(name in row.changes for row in rows)]
    if not rows or len(metrics) < 2:
        return None
    look, short = looks(summary), short_labels(summary.plan.methods)
    values = tuple(tuple(row.changes.get(name, math.nan) for row in rows) for name in metrics)
    first, second = _apart(values)
    said = {"hovertemplate": "%{fullData.name}<br>%{x:.1f} %, %{y:.1f} %<extra></extra>"}
    traces = tuple(
        {
            **_point(short[row.method], values[first][k], values[second][k], marker(look[row.method], 12)),
            **said,
        }
        for k, row in enumerate(rows)
    )
    sides = axis(axis_of_choice(metrics[first])), axis(axis_of_choice(metrics[second]))
    panel = Panel(traces, layout(_HEIGHT, *sides, shapes=_LINES))
    alt = f"A mark for each of {len(rows)} methods: the change of one metric across, of another one upwards."
    caption = (
        "What a method gives to one metric and takes from another: left and down are better than single-task. At first "
        "the two metrics are shown that pull apart most, by the correlation of their changes over the methods."
    )
    keys = {short[row.method]: look[row.method] for row in rows}
    body = (
        (name, *(number(v, 1, sign=True) for v in line)) for name, line in zip(metrics, values, strict=True)
    )
    table = numbers("pairs", "Changes against single-task in %", ("change in %", *keys), body)
    choice = Choice(tuple(metrics), values, (first, second))
    title = "Two metrics against each other"
    return Chart("pairs", title, caption, alt, (panel,), table, keys, choice=choice)


def _apart(values: Sequence[Sequence[float]]) -> tuple[int, int]:
    """The two quantities with the lowest correlation over the methods; the first two where there is none."""
    found = [
        (_correlation(values[a], values[b]), a, b)
        for a in range(len(values))
        for b in range(a + 1, len(values))
    ]
    known = [entry for entry in found if math.isfinite(entry[0])]
    _, first, second = min(known, default=(0.0, 0, 1))
    return first, second


def _correlation(x: Sequence[float], y: Sequence[float]) -> float:
    known = [(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(a) and math.isfinite(b)]
    if len(known) < 3:
        return math.nan
    means = [sum(column) / len(known) for column in zip(*known, strict=True)]
    sides = [(a - means[0], b - means[1]) for a, b in known]
    sizes = math.sqrt(sum(a * a for a, _ in sides) * sum(b * b for _, b in sides))
    return sum(a * b for a, b in sides) / sizes if sizes else math.nan


def _mean(row: MethodSummary) -> float:
    return row.delta_m.mean if row.delta_m else math.nan


def _point(label: str, x: float, y: float, mark: Values) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "markers", "x": [x], "y": [y], "marker": mark, "name": label, "legendgroup": label,
    }  # fmt: skip


def _bars(colour: str, found: Sequence[Estimate]) -> Values:
    return error_bars(
        colour or SOFT,
        [None if one.low is None else one.mean - one.low for one in found],
        [None if one.high is None else one.high - one.mean for one in found],
    )
