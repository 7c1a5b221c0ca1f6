"""Interactive figures of many changes against single-task training: a map, and distributions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from equipoise.benchmark.summary import MethodSummary, Summary

from .grouping import Kind, has_many, kinds, quantile
from .interactive import (
    LEAST_ACROSS,
    SOFT,
    Chart,
    Panel,
    Values,
    apart,
    axis,
    layout,
    names,
    numbers,
    reference_line,
    room,
)
from .plots_changes import SHOWN_ENDS, TICKS, bend, shown_metrics
from .style import looks
from .wording import NOT_LEARNT, left_out, number, ranked, short_labels

_SPREAD_HEADER = (
    "method and kind",
    "5 %",
    "quarter",
    "median",
    "three quarters",
    "95 %",
    "better than single-task",
)
_SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
CHANGE = "change (%)   ← better"  # short: it stands in the middle of a phone, beside names
_SLANTED = 0.71  # of a label's length: its width, and its height, at 45 degrees
_COLUMN = 24  # CSS pixels, of a map of many methods on paper
_DIVERGING = [[0, "#2166ac"], [0.25, "#92c5de"], [0.5, "#f7f7f7"], [0.75, "#f4a582"], [1, "#b2182b"]]


def changes(summary: Summary) -> Chart | None:
    """A cell per metric and method, of many metrics the extreme ones; None without single-task values."""
    rows = [row for row in ranked(summary) if row.changes]
    if not rows:
        return None
    shown, many = shown_metrics(summary, rows), has_many(summary.plan)
    short = short_labels(summary.plan.methods)
    table = [[row.changes.get(name, math.nan) for row in rows] for name in shown]
    texts = [[_cell(row, name) for row in rows] for name in shown]
    trace = {
        **_map(table),
        "text": texts,
        "customdata": [[[name, short[row.method]] for row in rows] for name in shown],
    }
    labels = [short[row.method] for row in rows]
    top = names(labels, upwards=True, side="top", tickangle=-45)
    margin = {"l": 8, "r": _beyond(labels), "t": 8, "b": 8}
    height = 40 + math.ceil(_SLANTED * max(map(room, labels))) + 24 * len(shown)
    panel = Panel((trace,), layout(height, top, names(shown), margin=margin))
    title = "The metrics that gain and lose most" if many else "The same as a map"
    body = ((name, *line) for name, line in zip(shown, texts, strict=True))
    found = numbers("changes", "Changes against single-task in %", ("change in %", *labels), body)
    alt = f"Heat map of {len(shown)} metrics by {len(rows)} methods with a number in each cell."
    wide = math.ceil(40 + max(map(room, shown)) + 54 * len(rows)) + _beyond(labels)
    return Chart("changes", title, _changes_caption(summary, many=many), alt, (panel,), found, wide=wide)


def _beyond(labels: Sequence[str]) -> int:
    """The margin in CSS pixels that the slanted names of the last columns need, however narrow the columns are."""
    last = len(labels) - 0.5
    return (
        math.ceil(max(_SLANTED * room(label) - _COLUMN * (last - k) for k, label in enumerate(labels))) + 12
    )


def _map(table: Sequence[Sequence[float]]) -> dict[str, Any]:
    sizes = [abs(bend(v)) for line in table for v in line if math.isfinite(v)]
    limit = max(quantile(sizes, 0.95) if sizes else 0.0, bend(30))
    return {
        "type": "heatmap",
        "z": [[bend(v) for v in line] for line in table],
        "texttemplate": "%{text}",
        "hovertemplate": "%{customdata[0]}, %{customdata[1]}: %{text} %<extra></extra>",
        "colorscale": _DIVERGING,
        "zmin": -limit,
        "zmax": limit,
        "xgap": 1,
        "ygap": 1,
        "showscale": False,
    }


def _changes_caption(summary: Summary, *, many: bool) -> str:
    which = (
        f"The {SHOWN_ENDS} metrics that gain most and the {SHOWN_ENDS} that lose most, by the mean over the methods, "
        f"of {len(summary.plan.metrics)}; metrics.csv has all. "
    ) * many
    return (
        f"{which}Change against the single-task value in percent, mean over seeds: a minus (blue) is better, a plus "
        "(red) worse. Methods from left to right by Δm. The darkest colours stand for that much or more. "
        f"{NOT_LEARNT} marks a task that was not learnt."
    )


def spread(summary: Summary) -> Chart | None:
    """How the changes of many metrics are distributed, a panel per kind and a row per method; None for few metrics."""
    rows = [row for row in ranked(summary) if row.changes]
    if not rows or not has_many(summary.plan):
        return None
    short = short_labels(summary.plan.methods)
    by_kind = {kind: {row.method: _known(row, kind.names) for row in rows} for kind in kinds(summary.plan)}
    panels = tuple(_spread_panel(summary, kind, values) for kind, values in by_kind.items())
    body = [
        _spread_row(f"{short[method]}, {kind.metric.name}", found)
        for kind, values in by_kind.items()
        for method, found in values.items()
        if found
    ]
    caption = (
        "Changes of the metrics against their single-task values: the dot is the median, the thick bar holds half of "
        f"the metrics, the thin line 90 % of them.{scale_note(bent=True)} {' '.join(left_out(summary))}"
    ).strip()
    alt = f"A row with median, quartiles and 90 % range of the changes for each of {len(rows)} methods."
    table = numbers("spread", "Quantiles of the changes in %", _SPREAD_HEADER, body)
    title = f"{len(summary.plan.metrics)} metrics against single-task training"
    return Chart("spread", title, caption, alt, panels, table)


def _spread_panel(summary: Summary, kind: Kind, values: Mapping[str, Sequence[float]]) -> Panel:
    look, short = looks(summary), short_labels(summary.plan.methods)
    traces = [
        trace
        for place, (method, found) in enumerate(values.items())
        if found
        for trace in _distribution(place, found, look[method].colour, short[method])
    ]
    every = [v for found in values.values() for v in (*found, 0.0)]
    drawn = layout(
        70 + 30 * len(values),
        change_axis(every, CHANGE, bent=True),
        names([short[method] for method in values]),
        shapes=[reference_line(0, vertical=True)],
    )
    return Panel(tuple(traces), drawn, f"{len(kind.members)} metrics: {kind.metric.name}")


def _distribution(place: int, values: Sequence[float], colour: str, label: str) -> list[Values]:
    low, first, middle, third, high = (bend(quantile(values, share)) for share in _SHARES)
    line = {"type": "scatter", "mode": "lines", "y": [place, place], "hoverinfo": "skip"}
    return [
        {**line, "x": [low, high], "line": {"color": colour, "width": 2}},
        {**line, "x": [first, third], "line": {"color": colour, "width": 10}, "opacity": 0.55},
        {
            "type": "scatter",
            "mode": "markers",
            "x": [middle],
            "y": [place],
            "marker": {"color": colour, "size": 9, "line": {"width": 1, "color": SOFT}},
            "customdata": [[label, number(quantile(values, 0.5), 1, sign=True)]],
            "hovertemplate": "%{customdata[0]}: median %{customdata[1]} %<extra></extra>",
        },
    ]


def _spread_row(label: str, values: Sequence[float]) -> tuple[str, ...]:
    better = 100 * fmean(value < 0 for value in values)
    found = [number(quantile(values, share), 1, sign=True) for share in _SHARES]
    return (label, *found, f"{number(better)} %")


def _known(row: MethodSummary, metrics: Sequence[str]) -> list[float]:
    return [row.changes[name] for name in metrics if name in row.changes and math.isfinite(row.changes[name])]


def change_axis(values: Sequence[float], title: str, *, bent: bool) -> Values:
    """An axis of changes in percent.

    Args:
        values: that are shown.
        title: of the axis.
        bent: whether they were bent by `plots_changes.bend`.
    """
    if not bent:
        return axis(title)
    low, high = bend(min(values)), bend(max(values))
    tens = sorted(TICKS, key=lambda tick: (str(tick)[0] != "1", tick))  # 10, 100, ..., then 3, 30, ...
    ticks = [v for v in (0, *(side * tick for tick in tens for side in (-1, 1))) if low <= bend(v) <= high]
    scale = LEAST_ACROSS / (high - low) if high > low else 0.0
    texts = [number(v, sign=v != 0) for v in ticks]
    kept = apart([bend(v) * scale for v in ticks], [room(text) + 4 for text in texts])
    return axis(title, tickvals=[bend(ticks[k]) for k in kept], ticktext=[texts[k] for k in kept])


def scale_note(*, bent: bool) -> str:
    """How to read a bent scale; nothing of a linear one."""
    return " The scale is linear up to about 10 % and logarithmic beyond." if bent else ""


def _cell(row: MethodSummary, name: str) -> str:
    value = row.changes.get(name, math.nan)
    mark = f" {NOT_LEARNT}" if name in row.not_learnt else ""
    text = "–" if math.isnan(value) else number(value, 0 if abs(value) >= 9.95 else 1, sign=True)
    return text + mark
