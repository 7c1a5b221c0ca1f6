"""The interactive figure of what a method costs against what it brings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from equipoise.benchmark.evidence import Estimate, Evidence
from equipoise.benchmark.summary import MethodSummary, Summary

from .interactive import (
    INK,
    Chart,
    Panel,
    Values,
    axis,
    error_bars,
    layout,
    marker,
    numbers,
    reference_line,
    scale,
)
from .style import Look, looks
from .times import ROUGH_TIMES, UNIT
from .wording import number, ranked, short_labels

_SINGLE_TASK = "single-task networks"


def quality(summary: Summary, evidence: Evidence) -> Chart | None:
    """Time per step against the mean change or the mean rank, with all single-task networks together beside it."""
    rows = [row for row in ranked(summary) if row.seconds_per_step.mean > 0]
    scored = all(row.delta_m and math.isfinite(row.delta_m.mean) for row in rows)
    if len(rows) < 2:
        return None
    points, what = _points(summary, rows, scored=scored)
    keys = {**_keys(summary, rows), _SINGLE_TASK: Look(INK, "s", "-")}
    traces = [_mark(label, at, keys[label]) for label, at in points.items()]
    if scored:
        for trace, row in zip(traces, rows, strict=False):
            trace["error_y"] = _bars(evidence.methods[row.method].delta_m, trace["marker"]["color"])
    up = "mean change Δm (%)" if scored else "mean rank"
    lines = [reference_line(0, vertical=False)] if scored else []
    across = axis(what, **scale([x for x, _ in points.values()], rangemode="tozero"))
    panel = Panel(tuple(traces), layout(420, across, axis(f"{up}   better ↓"), shapes=lines))
    body = ((label, number(x, 2), number(y, 2)) for label, (x, y) in points.items())
    table = numbers("quality", "Cost and quality", ("method", what, up), body)
    alone = (
        f" The square is all {len(summary.plan.tasks)} single-task networks together: the sum of their times, and "
        "as many times the parameters."
    ) * (_SINGLE_TASK in points)
    caption = f"Left is cheaper, down is better.{alone} {ROUGH_TIMES}"
    alt = f"A mark for each of {len(rows)} methods: the time of a step across, the quality upwards."
    shown = {label: keys[label] for label in points}
    return Chart("quality", "Cost against quality", caption, alt, (panel,), table, shown)


def _points(
    summary: Summary, rows: Sequence[MethodSummary], *, scored: bool
) -> tuple[dict[str, tuple[float, float]], str]:
    """Label -> time and quality, and what the time is in."""
    short = short_labels(summary.plan.methods)
    unit = next((row.seconds_per_step.mean for row in rows if row.method == UNIT), None)
    factor, what = 1000.0, "milliseconds per step"
    if unit:
        factor, what = 1 / unit, f"time per step, relative to {UNIT}"
    heights = [row.delta_m.mean if scored and row.delta_m else row.mean_rank for row in rows]
    points = {
        short[row.method]: (row.seconds_per_step.mean * factor, height)
        for row, height in zip(rows, heights, strict=True)
    }
    reference = _single_task_step(summary)
    if scored and reference:
        points[_SINGLE_TASK] = (reference * factor, 0.0)
    return points, what


def _keys(summary: Summary, rows: Sequence[MethodSummary]) -> dict[str, Look]:
    look, short = looks(summary), short_labels(summary.plan.methods)
    return {short[row.method]: look[row.method] for row in rows}


def _bars(found: Estimate | None, colour: str) -> Values:
    if found is None or found.low is None or found.high is None:
        return {"visible": False}
    return error_bars(colour, [found.mean - found.low], [found.high - found.mean])


def _single_task_step(summary: Summary) -> float | None:
    """Seconds that one step of every single-task network takes together; None where one has no run."""
    found = [summary.baseline_runs[task.name] for task in summary.plan.tasks]
    if summary.baseline.source != "own" or not all(found):
        return None
    return sum(fmean(run.seconds_per_step for run in runs) for runs in found)


def _mark(label: str, at: tuple[float, float], look: Look) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [at[0]],
        "y": [at[1]],
        "name": label,
        "legendgroup": label,
        "marker": marker(look, 12),
        "hovertemplate": "%{fullData.name}<br>%{x:.2f}, %{y:.2f}<extra></extra>",
    }
