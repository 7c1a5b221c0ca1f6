"""The interactive figure of our results beside the published ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from equipoise.benchmark.published import published, published_benchmarks
from equipoise.benchmark.summary import Summary

from .interactive import (
    LINE,
    Chart,
    Panel,
    Values,
    axis,
    layout,
    names,
    numbers,
    reference_line,
)
from .plots_results import published_caption
from .style import BLUE, ORANGE, Look
from .wording import number, ranked, short_labels

_ROW = 26  # CSS pixels


def beside_published(summary: Summary) -> Chart | None:
    """Our mean changes beside the published ones; None where nothing is published about these methods."""
    if summary.plan.problem not in published_benchmarks():
        return None
    known = published(summary.plan.problem)
    pairs = [(row, found[1]) for row in ranked(summary) if row.delta_m and (found := known.find(row.method))]
    if not pairs:
        return None
    short = short_labels(summary.plan.methods)
    ours = [row.delta_m.mean if row.delta_m else math.nan for row, _ in pairs]
    theirs = [result.delta_m for _, result in pairs]
    diamond = {"color": ORANGE, "size": 10, "symbol": "diamond-open", "line": {"width": 2, "color": ORANGE}}
    traces = (
        *(_joined(place, a, b) for place, (a, b) in enumerate(zip(ours, theirs, strict=True))),
        _dots("this run", ours, {"color": BLUE, "size": 10}),
        _dots("published", theirs, diamond),
    )
    rows = names([short[row.method] for row, _ in pairs])
    lines = [reference_line(0, vertical=True)]
    panel = Panel(traces, layout(80 + _ROW * len(pairs), axis("Δm (%)   ← better"), rows, shapes=lines))
    body = (
        (row.method, number(a, 1, sign=True), number(b, 1, sign=True))
        for (row, _), a, b in zip(pairs, ours, theirs, strict=True)
    )
    table = numbers("published", "Δm in %", ("method", "this run", "published"), body)
    alt = f"Two marks for each of {len(pairs)} methods: Δm of this run and the published one."
    keys = {"this run": Look(BLUE, "o", "-"), "published": Look(ORANGE, "D", "-")}
    title = "Beside the published numbers (another budget)"
    return Chart("published", title, published_caption(summary), alt, (panel,), table, keys)


def _joined(place: int, a: float, b: float) -> Values:
    line = {"color": LINE, "width": 3}
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [a, b],
        "y": [place, place],
        "hoverinfo": "skip",
        "line": line,
    }


def _dots(label: str, values: Sequence[float], mark: Mapping[str, Any]) -> Values:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": list(values),
        "y": list(range(len(values))),
        "name": label,
        "legendgroup": label,
        "marker": mark,
        "hovertemplate": "%{fullData.name}: %{x:.1f} %<extra></extra>",
    }
