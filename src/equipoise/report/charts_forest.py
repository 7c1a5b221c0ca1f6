"""Interactive figures of estimates with their intervals: the scores of the methods, and each metric's change."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from equipoise.benchmark.evidence import Estimate, Evidence
from equipoise.benchmark.summary import Summary

from .cells import Table
from .charts_changes import CHANGE, change_axis, scale_note
from .grouping import has_many
from .interactive import (
    SHADE,
    Chart,
    Panel,
    Values,
    axis,
    error_bars,
    layout,
    marker,
    names,
    numbers,
    reference_line,
)
from .plots_changes import bend
from .style import Look, looks
from .wording import left_out, number, ranked, short_labels, with_interval

_ROW = 26  # CSS pixels
_STEP = 11  # from a method to the next one in a row
_LINEAR = 60.0  # percent; if nothing is beyond, the scale is linear
_HOVER = "%{customdata[0]}: %{customdata[1]} %<extra></extra>"


def scores(summary: Summary, evidence: Evidence) -> Chart | None:
    """The mean change of each method with its interval, a row per method; None without single-task values."""
    found = {row.method: evidence.methods[row.method].delta_m for row in ranked(summary)}
    known = {method: one for method, one in found.items() if one and math.isfinite(one.mean)}
    if not known:
        return None
    look, short = looks(summary), short_labels(summary.plan.methods)
    traces = tuple(
        {
            **_marks([one], [place], [short[method]], look[method], bent=False),
            "marker": marker(look[method]),
        }
        for place, (method, one) in enumerate(known.items())
    )
    rows = names([short[method] for method in known])
    lines = [reference_line(0, vertical=True)]
    panel = Panel(
        traces, layout(60 + _ROW * len(known), axis("mean change Δm (%)   ← better"), rows, shapes=lines)
    )
    body = ((method, *_score_texts(one)) for method, one in known.items())
    table = numbers("scores", "Δm with its interval", ("method", "Δm %", "from", "to", "seeds"), body)
    caption = (
        f"Mean relative change of the test metrics against single-task, with its {100 * evidence.level:g} % interval "
        f"where there is one{_why(list(known.values()))}. The line at 0 is single-task level. The table says which "
        "differences between methods hold: their seeds are paired, which this picture cannot show."
    )
    alt = f"A mark with an interval for each of {len(known)} methods, the best on top."
    return Chart("scores", "Mean change with its interval", caption, alt, (panel,), table)


def forest(summary: Summary, evidence: Evidence) -> Chart | None:
    """A row per metric, a mark with an interval per method; None for many metrics, or without single-task values."""
    rows = [row for row in ranked(summary) if row.changes]
    if not rows or has_many(summary.plan):
        return None
    shown = [
        metric.name for metric in summary.plan.metrics if any(metric.name in row.changes for row in rows)
    ]
    look, short = looks(summary), short_labels(summary.plan.methods)
    found = {
        short[row.method]: {
            name: evidence.methods[row.method].changes[name] for name in shown if name in row.changes
        }
        for row in rows
    }
    keys = {short[row.method]: look[row.method] for row in rows}
    panel, bent = metric_panel(found, shown, keys, CHANGE)
    caption = (
        f"Change of each test metric against the single-task value in percent, with the {100 * evidence.level:g} % "
        "interval that the seeds of both leave; left of the line is better than single-task, whatever the metric's "
        f"direction.{scale_note(bent=bent)} {' '.join(left_out(summary))}"
    ).strip()
    alt = f"{len(shown)} rows of metrics with a mark and an interval for each of {len(rows)} methods."
    table = metric_numbers("forest", found, shown)
    title = "Each metric against single-task training"
    return Chart("forest", title, caption, alt, (panel,), table, keys, wide=330)


def metric_panel(
    found: Mapping[str, Mapping[str, Estimate]], shown: Sequence[str], keys: Mapping[str, Look], title: str
) -> tuple[Panel, bool]:
    """A row per metric with a mark and an interval per method, and whether its scale is bent.

    Args:
        found: label -> metric -> estimate in percent.
        shown: the metrics from top to bottom.
        keys: label -> look of the methods from top to bottom of a row.
        title: of the axis.
    """
    ends = [end for estimates in found.values() for one in estimates.values() for end in _ends(one)]
    bent = max(map(abs, ends), default=0.0) > _LINEAR
    height = 70 + len(shown) * max(_STEP * (len(keys) + 1), 26)
    across = change_axis(ends, title, bent=bent)
    traces = _metric_traces(found, shown, keys, bent=bent)
    return Panel(traces, layout(height, across, names(shown), shapes=_bands(len(shown)))), bent


def _metric_traces(
    found: Mapping[str, Mapping[str, Estimate]], shown: Sequence[str], keys: Mapping[str, Look], *, bent: bool
) -> tuple[Values, ...]:
    traces = []
    for k, (label, look) in enumerate(keys.items(), start=1):
        known = {name: one for name, one in found[label].items() if math.isfinite(one.mean)}
        places = [shown.index(name) + k / (len(keys) + 1) - 0.5 for name in known]
        texts = [f"{label}, {name}" for name in known]
        trace = _marks(list(known.values()), places, texts, look, bent=bent)
        traces.append({**trace, "marker": marker(look, 8), "name": label, "legendgroup": label})
    return tuple(traces)


def _marks(
    found: Sequence[Estimate], places: Sequence[float], texts: Sequence[str], look: Look, *, bent: bool
) -> dict[str, Any]:
    """Marks in rows, with bars to both sides where there is an interval."""

    def at(value: float) -> float:
        return bend(value) if bent else value

    below = [None if one.low is None else at(one.mean) - at(one.low) for one in found]
    above = [None if one.high is None else at(one.high) - at(one.mean) for one in found]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [at(one.mean) for one in found],
        "y": list(places),
        "error_x": error_bars(look.colour, below, above),
        "customdata": [
            [text, with_interval(one, 1, sign=True)] for text, one in zip(texts, found, strict=True)
        ],
        "hovertemplate": _HOVER,
    }


def metric_numbers(chart: str, found: Mapping[str, Mapping[str, Estimate]], shown: Sequence[str]) -> Table:
    """The numbers of `metric_panel`."""
    body = (
        (name, *(with_interval(one[name], 1, sign=True) if name in one else "–" for one in found.values()))
        for name in shown
    )
    return numbers(chart, "Changes with intervals, in %", ("change in %", *found), body)


def _score_texts(found: Estimate) -> list[str]:
    return [*(number(value, 2, sign=True) for value in (found.mean, found.low, found.high)), str(found.n)]


def _why(found: Sequence[Estimate]) -> str:
    reasons = sorted({one.why for one in found if one.low is None and one.why})
    return f" (none: {'; '.join(reasons)})" if reasons else ""


def _ends(one: Estimate) -> list[float]:
    return [end for end in (one.mean, one.low, one.high) if end is not None and math.isfinite(end)]


def _bands(count: int) -> list[Values]:
    band = {"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "layer": "below", "line": {"width": 0}}
    shaded = [{**band, "y0": k - 0.5, "y1": k + 0.5, "fillcolor": SHADE} for k in range(1, count, 2)]
    return [*shaded, reference_line(0, vertical=True)]
