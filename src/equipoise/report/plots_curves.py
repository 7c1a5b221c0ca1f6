"""Figures of learning curves: a panel per metric, or of many metrics the quantiles over tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from equipoise.benchmark.summary import Summary

from .grouping import has_many, kinds
from .learning import QUANTILES, SINGLE_TASK, Curves, of_kind, of_metric, read_curves
from .style import INK, Canvas, Plot, log_ticks, looks
from .wording import metric_title, short_labels

_BASELINE_LOOK = {"color": INK, "linestyle": (0, (1, 1.5)), "linewidth": 1.2}


def curves(summary: Summary, directory: Path, canvas: Canvas) -> Plot | None:
    """Validation metric over epochs: a panel per metric, a line per method."""
    read = read_curves(summary, directory)
    if not any(any(runs) for runs in read.values()):
        return None
    if has_many(summary.plan):
        return _of_many(summary, read, canvas)
    metrics = summary.plan.metrics
    columns = min(4, len(metrics))
    rows = math.ceil(len(metrics) / columns)
    figure = canvas(max(2.45 * columns, 5), 1.8 * rows + 0.6 + 0.22 * math.ceil((len(read) + 1) / 5))
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    drawn: dict[str, Any] = {}
    for panel, metric in zip(panels, metrics, strict=False):
        drawn |= _panel(panel, summary, of_metric(read, metric))
        _finish_panel(panel, metric_title(metric))
    for panel in panels[len(metrics) :]:
        panel.set_visible(False)
    figure.supxlabel("epoch", fontsize=9.5)
    figure.legend(drawn.values(), drawn.keys(), loc="outside upper center", ncols=5)
    caption = (
        "Validation metric over epochs, mean over seeds; the band goes from the lowest to the highest seed. "
        "Scales are logarithmic where a curve spans more than a factor of four. ↓: lower is better."
    )
    alt = f"{len(metrics)} panels, a line for each of {', '.join(drawn)}."
    return Plot("curves", "Learning curves of every task", caption, figure, alt)


def _of_many(summary: Summary, read: Mapping[str, list[Curves]], canvas: Canvas) -> Plot:
    found = kinds(summary.plan)
    figure = canvas(9.4, 2.3 * len(found) + 0.6 + 0.22 * math.ceil((len(read) + 1) / 5))
    grid = figure.subplots(len(found), len(QUANTILES), squeeze=False, sharex=True)
    drawn: dict[str, Any] = {}
    for panels, kind in zip(grid, found, strict=True):
        for panel, (name, share) in zip(panels, QUANTILES.items(), strict=True):
            drawn |= _panel(panel, summary, of_kind(read, kind, share))
            _finish_panel(panel, f"{metric_title(kind.metric)}: {name}")
    figure.supxlabel("epoch", fontsize=9.5)
    figure.legend(drawn.values(), drawn.keys(), loc="outside upper center", ncols=5)
    caption = (
        f"{len(summary.plan.metrics)} validation metrics over epochs: the value that a tenth of the tasks is better "
        "than, the median, and the value that a tenth is worse than. Mean over seeds; the band goes from the "
        "lowest to the highest seed. ↓: lower is better."
    )
    alt = f"Panels of three quantiles over the tasks, a line for each of {', '.join(drawn)}."
    return Plot("curves", "Learning curves over all tasks", caption, figure, alt)


def _panel(panel: Any, summary: Summary, lines: Mapping[str, list[dict[int, float]]]) -> dict[str, Any]:
    look, names = looks(summary), short_labels(summary.plan.methods)
    handles = {}
    for label, runs in lines.items():
        own = label == SINGLE_TASK
        style = _BASELINE_LOOK if own else {"color": look[label].colour, "linestyle": look[label].dash}
        handles[label if own else names[label]] = _line(panel, [run for run in runs if run], style)
    return {name: handle for name, handle in handles.items() if handle is not None}


def _line(panel: Any, runs: Sequence[Mapping[int, float]], style: Mapping[str, Any]) -> Any:
    by_epoch: dict[int, list[float]] = {}
    for run in runs:
        for epoch, value in run.items():
            by_epoch.setdefault(epoch, []).append(value)
    if not by_epoch:
        return None
    epochs = sorted(by_epoch)
    means = [fmean(by_epoch[epoch]) for epoch in epochs]
    (handle,) = panel.plot(epochs, means, **style, marker="o" if len(epochs) == 1 else None)
    if len(runs) > 1:
        lows, highs = [min(by_epoch[e]) for e in epochs], [max(by_epoch[e]) for e in epochs]
        panel.fill_between(epochs, lows, highs, color=style["color"], alpha=0.15, linewidth=0)
    return handle


def _finish_panel(panel: Any, title: str) -> None:
    values = [value for line in panel.lines for value in line.get_ydata()]
    if values and min(values) > 0 and max(values) > 4 * min(values):
        panel.set_yscale("log")
        panel.set_yticks(*log_ticks(min(values), max(values)))
        panel.minorticks_off()
    panel.set_title(title)
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.grid(True)
    panel.tick_params(labelsize=8)
