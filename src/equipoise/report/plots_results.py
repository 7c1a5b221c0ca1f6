"""Figures of what came out: trade-off, convergence, published numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from equipoise.benchmark.published import published, published_benchmarks
from equipoise.benchmark.summary import Spread, Summary

from .grouping import MANY, has_many, quantile
from .style import BLUE, INK, LINE, ORANGE, Canvas, Look, Plot, bars, distribution, looks
from .wording import ranked, short_labels


def trade_off(summary: Summary, canvas: Canvas) -> Plot | None:
    """Mean change against the change of the metric that fares worst; of many metrics, the twentieth that does."""
    rows = [row for row in ranked(summary) if row.delta_m and math.isfinite(row.delta_m.mean)]
    if not rows:
        return None
    figure = canvas(6.4, max(3.4, 0.26 * len(rows) + 1.2))
    axes = figure.subplots()
    names, look, many = short_labels(summary.plan.methods), looks(summary), has_many(summary.plan)
    for row in rows:
        height, worst = worst_change(row.changes, many=many)
        label = names[row.method] if many else f"{names[row.method]} ({worst})"
        _mark(axes, row.delta_m, height, look[row.method], label)
    axes.grid(True)
    axes.axhline(0, color=INK, linewidth=1)
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_xlabel("mean change Δm (%)   ← better")
    axes.set_ylabel(f"{'worst 5 % of the changes' if many else 'change of the worst metric'} (%)   ← better")
    title = "method" if many else "method (its worst metric)"
    axes.legend(title=title, loc="center left", bbox_to_anchor=(1.01, 0.5))
    shown = (
        "the change that all but the worst 5 % of the metrics stay below"
        if many
        else "the metric that loses most against single-task"
    )
    caption = (
        f"Left is better on average, down is fairer: the vertical axis shows {shown}. The zero lines are single-task "
        "level; bars are one standard deviation over seeds."
    )
    alt = f"A mark for each of {len(rows)} methods: the mean change across, the worst change upwards."
    return Plot("trade_off", "Average against the worst-off task", caption, figure, alt)


def worst_change(changes: Mapping[str, float], *, many: bool) -> tuple[float, str]:
    """The change of the worst-off metric and its name; of many metrics the change that 95 % stay below, and no name."""
    if many:
        return quantile(list(changes.values()), 0.95), ""
    name = max(changes, key=lambda name: changes[name])
    return changes[name], name


def convergence(summary: Summary, canvas: Canvas) -> Plot | None:
    """When each task converges, and how far apart that is."""
    rows = [row for row in ranked(summary) if row.convergence]
    if not rows:
        return None
    rows.reverse()
    figure = canvas(8.4, 1.1 + 0.34 * len(rows))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1.5, 1])
    names, look = short_labels(summary.plan.methods), looks(summary)
    for place, row in enumerate(rows):
        _epochs(left, place, sorted(row.convergence_epochs.values()), look[row.method].colour)
    left.set_yticks(range(len(rows)), [names[row.method] for row in rows])
    many = len(summary.plan.tasks) > MANY
    left.set_xlabel(f"epoch of convergence, {'distribution over tasks' if many else 'one dot a task'}")
    left.grid(True, axis="x")
    left.set_xlim(left=0)
    left.xaxis.get_major_locator().set_params(integer=True)
    bars(right, [row.convergence for row in rows], [look[row.method].colour for row in rows], "{:.1f}")
    right.set_xlabel("convergence difference (epochs)")
    caption = (
        "Left: the epoch from which a task's validation metric stays within "
        f"{100 * summary.tolerance:g} % of its total improvement of its best (mean over seeds)"
        f"{': the dot is the median, the thick bar half of the tasks, the line 90 %' if many else ''}. Right: standard "
        "deviation of these epochs over the tasks, the convergence difference; short bars mean that the tasks "
        "finish together. Lines on the bars: one standard deviation over seeds."
    )
    alt = f"For each of {len(rows)} methods the epochs in which its tasks converge, and a bar of how far they differ."
    return Plot("convergence", "Do the tasks converge together?", caption, figure, alt)


def beside_published(summary: Summary, canvas: Canvas) -> Plot | None:
    """Our delta_m beside the published ones."""
    if summary.plan.problem not in published_benchmarks():
        return None
    known = published(summary.plan.problem)
    pairs = [(r, f[1]) for r in reversed(ranked(summary)) if r.delta_m and (f := known.find(r.method))]
    if not pairs:
        return None
    figure = canvas(7.4, 1.5 + 0.34 * len(pairs))
    axes = figure.subplots()
    names = short_labels(summary.plan.methods)
    for place, (row, result) in enumerate(pairs):
        here = row.delta_m.mean if row.delta_m else math.nan
        axes.plot([here, result.delta_m], [place, place], color=LINE, linewidth=2, zorder=1)
        axes.scatter(here, place, color=BLUE, s=55, zorder=2, label="this run" if not place else None)
        open_mark = {"facecolors": "none", "edgecolors": ORANGE, "linewidths": 2, "marker": "D"}
        label = f"published ({known.budget})" if not place else None
        axes.scatter(result.delta_m, place, s=50, zorder=3, label=label, **open_mark)
    axes.axvline(0, color=INK, linewidth=1)
    axes.grid(True, axis="x")
    axes.set_yticks(range(len(pairs)), [names[row.method] for row, _ in pairs])
    axes.set_ylim(-0.6, len(pairs) - 0.4)
    axes.set_xlabel("Δm (%)   ← better")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    alt = f"Two marks for each of {len(pairs)} methods: Δm of this run and the published one, as in the table below."
    return Plot(
        "published", "Beside the published numbers (another budget)", published_caption(summary), figure, alt
    )


def published_caption(summary: Summary) -> str:
    """What to keep in mind beside published numbers."""
    other = ", with other single-task networks to compare with" if summary.baseline.source == "own" else ""
    return (
        f"Another budget: published, {published(summary.plan.problem).budget}; ours as the plan says{other}. Not a "
        "reproduction: look at the order of the methods, not at the distance of the marks."
    )


def _epochs(axes: Any, place: int, epochs: Sequence[float], colour: str) -> None:
    """One dot per task, or of many tasks their distribution."""
    if len(epochs) > MANY:
        distribution(axes, place, epochs, colour)
        return
    axes.plot([epochs[0], epochs[-1]], [place, place], color=LINE, linewidth=3, zorder=1)
    offsets = [place + 0.11 * (index % 3 - 1) for index in range(len(epochs))]
    axes.scatter(epochs, offsets, color=colour, s=22, alpha=0.85, zorder=2)


def _mark(axes: Any, score: Spread | None, worst: float, look: Look, label: str) -> None:
    if score is not None:
        axes.errorbar(score.mean, worst, xerr=score.std, color=look.colour, capsize=3, linestyle="none")
        style = {"marker": look.marker, "markersize": 8, "linestyle": "none"}
        axes.plot(score.mean, worst, color=look.colour, label=label, **style)
