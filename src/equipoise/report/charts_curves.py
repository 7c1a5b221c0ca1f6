"""Interactive figures of learning curves, and of when the tasks converge."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from equipoise.benchmark.summary import MethodSummary, Spread, Summary

from .grouping import MANY, has_many, kinds, quantile
from .interactive import INK, LINE, Chart, Panel, Values, axis, dash, layout, names, numbers, scale
from .learning import QUANTILES, SINGLE_TASK, of_kind, of_metric, read_curves
from .style import Look, looks
from .wording import decimals_for, metric_title, number, ranked, short_labels, with_spread

_HEADER = ("method", "first task", "median", "last task", "convergence difference (epochs)")
_MOST_BANDS = 8  # methods; the bands of more would hide each other

Runs = Mapping[str, list[dict[int, float]]]  # label -> epoch -> value, a curve per run


def curves(summary: Summary, directory: Path) -> Chart | None:
    """Validation metrics over epochs, a panel per metric or per quantile over many; None without logs."""
    read = read_curves(summary, directory)
    if not any(any(runs) for runs in read.values()):
        return None
    panels: dict[str, Runs] = {}
    if has_many(summary.plan):
        for kind in kinds(summary.plan):
            for name, share in QUANTILES.items():
                panels[f"{metric_title(kind.metric)}: {name}"] = of_kind(read, kind, share)
    else:
        panels = {metric_title(metric): of_metric(read, metric) for metric in summary.plan.metrics}
    look = {**looks(summary), SINGLE_TASK: Look(INK, "o", ("", (1, 1)))}
    short = {**short_labels(summary.plan.methods), SINGLE_TASK: SINGLE_TASK}
    drawn = tuple(_panel(title, runs, look, short) for title, runs in panels.items())
    shown = [label for label, runs in read.items() if any(runs)]
    body = ((title, *_last(runs, shown)) for title, runs in panels.items())
    header = ("validation metric", *(short[label] for label in shown))
    table = numbers("curves", "Validation metrics at the last epoch, mean over seeds", header, body)
    caption = _curves_caption(summary, band=len(read) <= _MOST_BANDS)
    alt = f"{len(drawn)} panels, a line for each of {', '.join(short[label] for label in shown)}."
    keys = {short[label]: look[label] for label in shown}
    return Chart("curves", "Learning curves", caption, alt, drawn, table, keys, column=300)


def _curves_caption(summary: Summary, *, band: bool) -> str:
    which = (
        f"{len(summary.plan.metrics)} validation metrics over epochs: the value that a tenth of the tasks is better "
        "than, the median, and the value that a tenth is worse than. Mean over seeds"
        if has_many(summary.plan)
        else "Validation metric over epochs, mean over seeds"
    )
    bands = "; the band goes from the lowest to the highest seed" * band
    return f"{which}{bands}. Scales are logarithmic where a curve spans more than a factor of four. ↓: lower is better."


def convergence(summary: Summary) -> Chart | None:
    """When each task converges, and how far apart that is; None without logs."""
    rows = [row for row in ranked(summary) if row.convergence]
    if not rows:
        return None
    look, short = looks(summary), short_labels(summary.plan.methods)
    labels, many = [short[row.method] for row in rows], len(summary.plan.tasks) > MANY
    dots = tuple(
        trace for place, row in enumerate(rows) for trace in _epochs(place, row, look[row.method], many=many)
    )
    height = 80 + 26 * len(rows)
    panels = (
        Panel(dots, layout(height, axis("epoch of convergence", rangemode="tozero"), names(labels))),
        Panel(
            (_differences(rows, look),),
            layout(height, axis("difference (epochs)"), names(labels)),
        ),
    )
    caption = (
        "First the epoch from which a task's validation metric stays within "
        f"{100 * summary.tolerance:g} % of its total improvement of its best (mean over seeds)"
        f"{': the dot is the median, the bar half of the tasks' if many else ', a dot a task'}; then the standard "
        "deviation of these epochs over the tasks, the convergence difference: short bars mean that the tasks finish "
        "together. Lines on the bars: one standard deviation over seeds."
    )
    alt = f"For each of {len(rows)} methods the epochs in which its tasks converge, and a bar of how far they differ."
    table = numbers("convergence", "Epochs of convergence", _HEADER, map(_convergence_row, rows))
    return Chart("convergence", "Do the tasks converge together?", caption, alt, panels, table)


def _differences(rows: Sequence[MethodSummary], look: Mapping[str, Look]) -> Values:
    found = [row.convergence or Spread(math.nan, None, 0) for row in rows]
    bars = {"type": "data", "array": [one.std or 0.0 for one in found], "color": INK, "thickness": 1.2}
    return {
        "type": "bar",
        "orientation": "h",
        "y": list(range(len(rows))),
        "x": [one.mean for one in found],
        "marker": {"color": [look[row.method].colour for row in rows]},
        "error_x": bars,
        "customdata": [with_spread(row.convergence, 1) for row in rows],
        "hovertemplate": "%{customdata} epochs<extra></extra>",
    }


def _panel(title: str, runs: Runs, look: Mapping[str, Look], short: Mapping[str, str]) -> Panel:
    traces: list[Values] = []
    lowest, highest = [], []
    for label, found in runs.items():
        by_epoch = _by_epoch(found)
        if by_epoch:
            traces += _curve(by_epoch, look[label], short[label], band=len(runs) <= _MOST_BANDS)
            means = [fmean(values) for values in by_epoch.values()]
            lowest.append(min(means))
            highest.append(max(means))
    epochs = [epoch for found in runs.values() for run in found for epoch in run]
    few = max(epochs, default=0) - min(epochs, default=0) < 5
    across = axis("epoch", **{"dtick": 1} if few else {"nticks": 6})  # no half epochs
    drawn = layout(230, across, axis(**scale([*lowest, *highest])))
    return Panel(tuple(traces), drawn, title)


def _by_epoch(runs: Sequence[Mapping[int, float]]) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for run in runs:
        for epoch, value in run.items():
            found.setdefault(epoch, []).append(value)
    return dict(sorted(found.items()))


def _curve(by_epoch: Mapping[int, list[float]], look: Look, label: str, *, band: bool) -> list[Values]:
    """The mean over seeds, and a band from the lowest to the highest where there are several and it is asked for."""
    epochs = list(by_epoch)
    line = {
        "type": "scatter",
        "mode": "lines" if len(epochs) > 1 else "markers",
        "x": epochs,
        "y": [fmean(values) for values in by_epoch.values()],
        "name": label,
        "legendgroup": label,
        "line": {"color": look.colour, "dash": dash(look), "width": 1.8},
        "marker": {"color": look.colour},
        "hovertemplate": "epoch %{x}: %{y:.4g}<extra>%{fullData.name}</extra>",
    }
    if not band or max(map(len, by_epoch.values())) == 1 or look.colour == INK:
        return [line]
    between = {
        "type": "scatter",
        "mode": "lines",
        "x": [*epochs, *reversed(epochs)],
        "y": [*map(min, by_epoch.values()), *reversed([*map(max, by_epoch.values())])],
        "fill": "toself",
        "fillcolor": look.colour,
        "opacity": 0.15,
        "line": {"width": 0},
        "legendgroup": label,
        "hoverinfo": "skip",
    }
    return [between, line]


def _last(runs: Runs, shown: Sequence[str]) -> list[str]:
    last = [list(_by_epoch(runs[label]).values())[-1:] for label in shown]
    values = [fmean(found[0]) if found else None for found in last]
    decimals = decimals_for([value for value in values if value is not None])
    return [number(value, decimals) for value in values]


def _epochs(place: int, row: MethodSummary, look: Look, *, many: bool) -> list[Values]:
    """One dot per task on a line, or of many tasks the median and the middle half."""
    epochs = sorted(row.convergence_epochs.items(), key=lambda pair: pair[1])
    values = [epoch for _, epoch in epochs]
    ends = [quantile(values, 0.25), quantile(values, 0.75)] if many else [values[0], values[-1]]
    shown = [("median", quantile(values, 0.5))] if many else epochs
    offsets = [0.0] if many else [0.13 * (index % 3 - 1) for index in range(len(epochs))]
    colour = look.colour if many else LINE
    line: dict[str, Any] = {"type": "scatter", "mode": "lines", "y": [place, place], "hoverinfo": "skip"}
    return [
        {
            **line,
            "x": ends,
            "line": {"color": colour, "width": 9 if many else 3},
            "opacity": 0.6 if many else 1,
        },
        {
            "type": "scatter",
            "mode": "markers",
            "x": [epoch for _, epoch in shown],
            "y": [place + offset for offset in offsets],
            "marker": {"color": look.colour, "size": 7},
            "customdata": [name for name, _ in shown],
            "hovertemplate": "%{customdata}: epoch %{x:.1f}<extra></extra>",
        },
    ]


def _convergence_row(row: MethodSummary) -> tuple[str, ...]:
    epochs = list(row.convergence_epochs.values())
    found = [number(quantile(epochs, share), 1) for share in (0.0, 0.5, 1.0)]
    return (row.method, *found, with_spread(row.convergence, 1))
