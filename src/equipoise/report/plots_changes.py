"""Figures of each metric's change against single-task training: one by one, or as a distribution over many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from equipoise.benchmark.summary import MethodSummary, Summary

from .grouping import has_many, quantile
from .style import INK, Canvas, Plot, bare, distribution, looks
from .wording import NOT_LEARNT, left_out, number, ranked, short_labels

SHOWN_ENDS = 20  # of many metrics, so many with the largest gain and as many with the largest loss
_DARKEST = (
    0.95  # of the cells are lighter than the darkest colour, so that one wild cell does not whiten the others
)
TICKS = (3, 10, 30, 100, 300, 1000, 3000, 10000)
_MEANING = (
    "a minus (blue) is better than single-task, a plus (red) worse, whatever the metric's direction. Methods from left "
    "to right by Δm."
)


def changes(summary: Summary, canvas: Canvas) -> Plot | None:
    """A cell per metric and method: signed change against the single-task value; of many metrics the extreme ones."""
    rows = [row for row in ranked(summary) if row.changes]
    if not rows:
        return None
    names, scored = shown_metrics(summary, rows), all(row.delta_m for row in rows)
    table = [[row.changes.get(name, math.nan) for row in rows] for name in names]
    marks = [[name in row.not_learnt for row in rows] for name in names]
    if scored:
        table.append([row.delta_m.mean if row.delta_m else math.nan for row in rows])
        marks.append([False] * len(rows))
    figure = canvas(max(1.9 + 0.95 * len(rows), 5.5), 1.5 + 0.3 * len(table))
    axes = figure.subplots()
    labels, many = short_labels(summary.plan.methods), has_many(summary.plan)
    image = _signed_heat_map(axes, table, marks)
    axes.set_xticks(range(len(rows)), [_wrapped(labels[row.method]) for row in rows])
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(table)), [*names, "Δm (mean)"] if scored else names)
    for edge in ([len(names)] if scored else []) + ([SHOWN_ENDS] if many else []):
        axes.axhline(edge - 0.5, color=INK, linewidth=1.5)
    _signed_colour_bar(figure, axes, image)
    alt = f"Heat map of {len(names)} metrics by {len(rows)} methods with a number in each cell."
    title = "The tasks that gain and lose most" if many else "Each task against single-task training"
    return Plot("changes", title, _changes_caption(summary, many), figure, alt)


def _changes_caption(summary: Summary, many: bool) -> str:
    which = (
        f"The {SHOWN_ENDS} metrics that gain most and the {SHOWN_ENDS} that lose most, by the mean over the methods, "
        f"of {len(summary.plan.metrics)}; metrics.csv has all. "
        if many
        else ""
    )
    return (
        f"{which}Change of each test metric against the single-task value in percent, mean over seeds; {_MEANING} "
        f"The darkest colours stand for that much or more. {NOT_LEARNT} marks a task that was not learnt. "
        f"{' '.join(left_out(summary))}".strip()
    )


def shown_metrics(summary: Summary, rows: Sequence[MethodSummary]) -> list[str]:
    """The metrics that have a row: all in order, or of many the extreme ones from the best to the worst."""
    if not has_many(summary.plan):
        return [metric.name for metric in summary.plan.metrics]
    known = [
        (fmean(values), metric.name)
        for metric in summary.plan.metrics
        if (values := [row.changes[metric.name] for row in rows if metric.name in row.changes])
    ]
    order = [name for mean, name in sorted(known) if not math.isnan(mean)]
    return order if len(order) <= 2 * SHOWN_ENDS else order[:SHOWN_ENDS] + order[-SHOWN_ENDS:]


def spread(summary: Summary, canvas: Canvas) -> Plot | None:
    """How the changes of many metrics are distributed, a row per method."""
    rows = [row for row in reversed(ranked(summary)) if _finite(row)]
    if not has_many(summary.plan) or not rows:
        return None
    figure = canvas(7.4, 1.2 + 0.4 * len(rows))
    axes = figure.subplots()
    names, look = short_labels(summary.plan.methods), looks(summary)
    for place, row in enumerate(rows):
        distribution(axes, place, [bend(v) for v in _finite(row)], look[row.method].colour)
        text = f"{100 * fmean(value < 0 for value in _finite(row)):.0f} % better"
        axes.annotate(text, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=9)
    axes.axvline(0, color=INK, linewidth=1)
    axes.grid(True, axis="x")
    axes.set_yticks(range(len(rows)), [names[row.method] for row in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    _bent_axis(axes)
    axes.set_xlabel("change against single-task (%)   ← better")
    count = max(len(row.changes) for row in rows)
    caption = (
        f"Changes of {count} metrics against their single-task values: the dot is the median, the thick bar holds half "
        "of the metrics, the thin line 90 % of them; on the right, the share of metrics that beat single-task. The "
        f"scale is linear up to about 10 % and logarithmic beyond. {' '.join(left_out(summary))}".strip()
    )
    alt = f"A row with median, quartiles and 90 % range of the changes for each of {len(rows)} methods."
    return Plot("spread", f"{count} metrics against single-task training", caption, figure, alt)


def _finite(row: MethodSummary) -> list[float]:
    return [value for value in row.changes.values() if math.isfinite(value)]


def _bent_axis(axes: Any) -> None:
    low, high = axes.get_xlim()
    ticks = [v for v in (*(-t for t in reversed(TICKS)), 0, *TICKS) if low <= bend(v) <= high]
    axes.set_xticks([bend(v) for v in ticks], [number(v, sign=v != 0) for v in ticks])


def _signed_heat_map(axes: Any, table: list[list[float]], marks: list[list[bool]]) -> Any:
    bent = [[bend(value) for value in row] for row in table]
    sizes = [abs(v) for row in bent for v in row if math.isfinite(v)]
    limit = max(quantile(sizes, _DARKEST) if sizes else 0.0, bend(30))
    image = axes.imshow(bent, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    for y, (row, flags) in enumerate(zip(table, marks, strict=True)):
        for x, (value, flag) in enumerate(zip(row, flags, strict=True)):
            strong = math.isfinite(value) and abs(bend(value)) > 0.68 * limit
            colour = "white" if strong else "black" if math.isfinite(value) else INK
            axes.text(x, y, _cell_text(value, flag), ha="center", va="center", color=colour, fontsize=9)
    bare(axes)
    return image


def _cell_text(value: float, not_learnt: bool) -> str:
    mark = f" {NOT_LEARNT}" if not_learnt else ""
    return ("–" if math.isnan(value) else number(value, 0 if abs(value) >= 9.95 else 1, sign=True)) + mark


def _signed_colour_bar(figure: Any, axes: Any, image: Any) -> None:
    limit = image.norm.vmax
    ticks = [tick for tick in TICKS if bend(tick) <= limit and (tick > 3 or limit < bend(300))]
    values = [*(-tick for tick in reversed(ticks)), 0, *ticks]
    inch = 1 / figure.get_figheight()
    bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02, anchor=(0, 1), shrink=min(1, 5 * inch))
    bar.set_ticks(
        [bend(value) for value in values], labels=[number(value, sign=value != 0) for value in values]
    )
    bar.set_label("change (%)")
    bar.outline.set_visible(False)


def bend(percent: float) -> float:
    """Linear up to about 10 %, logarithmic beyond, so that +300 % does not drown -8 %."""
    return math.asinh(percent / 10)


def _wrapped(label: str) -> str:
    return label.replace("+", "\n+").replace(":", "\n:")
