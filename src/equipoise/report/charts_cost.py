"""Interactive figures of what the methods cost: time of a step, memory, and where the time of a run goes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from equipoise.benchmark.summary import Spread, Summary

from .interactive import (
    INK,
    Chart,
    Panel,
    Values,
    axis,
    layout,
    names,
    numbers,
)
from .plots_cost import cost_caption
from .style import BLUE, GREY, ORANGE, Look
from .times import ROUGH_TIMES, UNIT, times, waiting_sentences
from .wording import number, ranked, short_labels, with_spread

_ROW = 26  # CSS pixels
_SINGLE_TASK = "single-task networks"


def cost(summary: Summary) -> Chart | None:
    """Time per step and peak memory, a bar per method; None without methods."""
    rows, entries = ranked(summary), times(summary)
    if not rows:
        return None
    unit = next((row.seconds_per_step.mean for row in rows if row.method == UNIT), None)
    panels: dict[str, tuple[Sequence[Spread | None], int]] = {}
    if unit:
        panels[f"time per step, relative to {UNIT}"] = ([entry.relative for entry in entries], 2)
    else:
        panels["milliseconds per step"] = ([_thousandfold(row.seconds_per_step) for row in rows], 1)
    known = unit is not None and any(entry.published for entry in entries)
    if known:
        panels[f"published, relative to {UNIT}"] = ([_point(entry.published) for entry in entries], 2)
    if any(row.peak_memory_mb for row in rows):
        panels["peak memory (MB)"] = ([_point(row.peak_memory_mb) for row in rows], 0)
    short = short_labels(summary.plan.methods)
    labels = [short[row.method] for row in rows]
    colours = [GREY if row.method == UNIT else BLUE for row in rows]
    drawn = tuple(
        Panel((_bars(values, colours, decimals),), layout(80 + _ROW * len(rows), axis(title), names(labels)))
        for title, (values, decimals) in panels.items()
    )
    columns = [[with_spread(v, decimals) for v in values] for values, decimals in panels.values()]
    body = ((row.method, *texts) for row, *texts in zip(rows, *columns, strict=True))
    table = numbers("cost", "What a step costs", ("method", *panels), body)
    alt = f"Bars for {len(rows)} methods: {', '.join(panels)}."
    return Chart("cost", "What a step costs", cost_caption(unit, known), alt, drawn, table, column=340)


def time_split(summary: Summary) -> Chart | None:
    """Seconds of a run in computing, waiting for batches and evaluation; None where nobody measured them."""
    entries = [entry for entry in times(summary) if entry.waiting is not None]
    if not entries:
        return None
    short = short_labels(summary.plan.methods)
    parts = {
        "computing": ([entry.computing or 0.0 for entry in entries], BLUE),
        "waiting for batches": ([entry.waiting or 0.0 for entry in entries], ORANGE),
        "evaluation": ([entry.evaluation or 0.0 for entry in entries], GREY),
    }
    traces = tuple(_stacked(name, seconds, colour) for name, (seconds, colour) in parts.items())
    labels = names([short[entry.method] for entry in entries])
    height = 80 + _ROW * len(entries)
    panel = Panel(traces, layout(height, axis("seconds of one run"), labels, barmode="stack"))
    columns = [[number(value, 2) for value in seconds] for seconds, _ in parts.values()]
    body = ((entry.method, *texts) for entry, *texts in zip(entries, *columns, strict=True))
    table = numbers("times", "Seconds of a run", ("method", *parts), body)
    caption = (
        "Mean over the seeds. Steps are computing and waiting for batches; evaluation of the validation and test part "
        f"comes on top. {' '.join(waiting_sentences(summary))} {ROUGH_TIMES}"
    )
    alt = f"Stacked bars of seconds for {len(entries)} methods: {', '.join(parts)}."
    keys = {name: Look(colour, "s", "-") for name, (_, colour) in parts.items()}
    return Chart("times", "Seconds of a run", caption, alt, (panel,), table, keys)


def _stacked(name: str, seconds: Sequence[float], colour: str) -> Values:
    return {
        "type": "bar",
        "orientation": "h",
        "x": list(seconds),
        "y": list(range(len(seconds))),
        "name": name,
        "legendgroup": name,
        "marker": {"color": colour},
        "hovertemplate": "%{fullData.name}: %{x:.2f} s<extra></extra>",
    }


def _bars(values: Sequence[Spread | None], colours: Sequence[str], decimals: int) -> Values:
    known = [spread if spread and math.isfinite(spread.mean) else None for spread in values]
    return {
        "type": "bar",
        "orientation": "h",
        "x": [spread.mean if spread else None for spread in known],
        "y": list(range(len(known))),
        "marker": {"color": list(colours)},
        "error_x": {
            "type": "data",
            "array": [(spread.std or 0.0) if spread else 0.0 for spread in known],
            "color": INK,
            "thickness": 1.2,
        },
        "customdata": [with_spread(spread, decimals) for spread in known],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _point(value: float | None) -> Spread | None:
    return Spread(value, None, 1) if value else None


def _thousandfold(spread: Spread) -> Spread:
    return Spread(spread.mean * 1000, None if spread.std is None else spread.std * 1000, spread.n)
