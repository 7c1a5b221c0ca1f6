"""The interactive figure of what a method costs against what it brings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from equipoise.benchmark.cost import costs
from equipoise.benchmark.evidence import Estimate, Evidence
from equipoise.benchmark.matched import BACKWARD, FORWARD
from equipoise.benchmark.runs import COMPUTE
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

_ROOM = 0.08  # decades beside the outermost marks
_SINGLE_TASK = "single-task networks"

Sizes = Mapping[str, float]  # label -> cost of a whole run


def quality(summary: Summary, evidence: Evidence) -> Chart | None:
    """Passes and time of whole runs against the mean change or the mean rank, single-task networks beside them."""
    rows = [row for row in ranked(summary) if row.seconds_per_step.mean > 0]
    if len(rows) < 2:
        return None
    scored = all(row.delta_m and math.isfinite(row.delta_m.mean) for row in rows)
    sizes = _sizes(summary, rows, scored=scored)
    look, short = looks(summary), short_labels(summary.plan.methods)
    heights = {short[row.method]: _height(row, scored=scored) for row in rows}
    bars = {short[row.method]: evidence.methods[row.method].delta_m for row in rows if scored}
    keys = {short[row.method]: look[row.method] for row in rows}
    if any(_SINGLE_TASK in found for found in sizes.values()):
        heights[_SINGLE_TASK], keys[_SINGLE_TASK] = 0.0, Look(INK, "s", "-")
    up = "mean change Δm (%)" if scored else "mean rank"
    lines = [reference_line(0, vertical=False)] if scored else []
    across = _across([value for found in sizes.values() for value in found.values()])
    panels = tuple(
        Panel(
            tuple(_mark(label, (x[label], heights[label]), keys[label], bars.get(label)) for label in keys),
            layout(400, axis(what, **across), axis(f"{up}   better ↓"), shapes=lines),
        )
        for what, x in sizes.items()
    )
    body = (
        (label, *(number(found[label], 2) for found in sizes.values()), number(heights[label], 2))
        for label in keys
    )
    table = numbers("quality", "Cost and quality", ("method", *sizes, up), body)
    caption = _caption(summary, alone=_SINGLE_TASK in keys, passes=len(sizes) > 1)
    alt = f"A mark for each of {len(rows)} methods: {' and '.join(sizes)} across, the quality upwards."
    return Chart("quality", "Cost against quality", caption, alt, panels, table, keys)


def _height(row: MethodSummary, *, scored: bool) -> float:
    return row.delta_m.mean if scored and row.delta_m else row.mean_rank


def _sizes(summary: Summary, rows: Sequence[MethodSummary], *, scored: bool) -> dict[str, Sizes]:
    """Title of an axis -> costs of whole runs: passes, where every run counted them, and time."""
    short = short_labels(summary.plan.methods)
    shown = {row.method for row in rows}
    if scored and summary.baseline.source == "own":
        shown |= {cost.name for cost in costs(summary)} - set(short)
    found = {short.get(cost.name, _SINGLE_TASK): cost for cost in costs(summary) if cost.name in shown}
    passes = {label: cost.units for label, cost in found.items() if cost.units}
    seconds = {label: cost.seconds for label, cost in found.items()}
    known = [("passes of a run", "in forward passes", passes)] if len(passes) == len(found) else []
    return dict(_relative(*one) for one in (*known, ("time of a run", "seconds", seconds)))


def _across(values: Sequence[float]) -> Values:
    """One scale for all panels: from 0, or logarithmic where costs span more than a factor of ten."""
    low, high = min(values), max(values)
    if not 0 < 10 * low < high:
        return {"rangemode": "tozero"}
    return {**scale(values), "range": [math.log10(low) - _ROOM, math.log10(high) + _ROOM]}


def _relative(what: str, unit: str, found: Sizes) -> tuple[str, Sizes]:
    """The title of an axis and the costs on it: as multiples of those of `ls` where it was run."""
    if not found.get(UNIT):
        return f"{what} ({unit})", found
    return f"{what}, relative to {UNIT}", {label: value / found[UNIT] for label, value in found.items()}


def _caption(summary: Summary, *, alone: bool, passes: bool) -> str:
    count = len(summary.plan.tasks)
    said = [
        "Left is cheaper, down is better.",
        f"A batch forwards through the network counts {FORWARD} pass, backwards {BACKWARD}."
        if passes
        else "Passes are not shown: not every run counted them.",
    ]
    if any(method.endswith(COMPUTE) for method in summary.plan.methods):
        said.append(
            f"Rows that end in {COMPUTE} are trained for as many whole epochs as the passes of {UNIT} pay for."
        )
    if alone:
        said.append(
            f"The square is all {count} single-task networks together: the sum of their runs, and {count} times the "
            "parameters."
        )
    return " ".join((*said, ROUGH_TIMES))


def _mark(label: str, at: tuple[float, float], look: Look, found: Estimate | None) -> Values:
    mark: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers",
        "x": [at[0]],
        "y": [at[1]],
        "name": label,
        "legendgroup": label,
        "marker": marker(look, 12),
        "hovertemplate": "%{fullData.name}<br>%{x:.2f}, %{y:.2f}<extra></extra>",
    }
    if found and found.low is not None and found.high is not None:
        mark["error_y"] = error_bars(look.colour, [found.mean - found.low], [found.high - found.mean])
    return mark
