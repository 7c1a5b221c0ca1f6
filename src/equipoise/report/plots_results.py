"""Figures of what came out: changes against single-task, trade-off, convergence, cost, published numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from equipoise.benchmark.published import published, published_benchmarks
from equipoise.benchmark.summary import Spread, Summary

from .style import BLUE, GREY, INK, LINE, ORANGE, Canvas, Look, Plot, bare, looks
from .wording import NOT_LEARNT, number, ranked, short_labels

_TICKS = (3, 10, 30, 100, 300, 1000, 3000, 10000)


def changes(summary: Summary, canvas: Canvas) -> Plot | None:
    """A cell per metric and method: signed change against the single-task value."""
    rows = [row for row in ranked(summary) if row.changes]
    if not rows:
        return None
    metrics = [metric.name for metric in summary.plan.metrics]
    scored = all(row.delta_m for row in rows)
    table = [[row.changes.get(name, math.nan) for row in rows] for name in metrics]
    marks = [[name in row.not_learnt for row in rows] for name in metrics]
    if scored:
        table.append([row.delta_m.mean if row.delta_m else math.nan for row in rows])
        marks.append([False] * len(rows))
    figure = canvas(max(1.9 + 0.95 * len(rows), 5.5), 1.5 + 0.3 * len(table))
    axes = figure.subplots()
    names = short_labels(summary.plan.methods)
    image = _signed_heat_map(axes, table, marks)
    axes.set_xticks(range(len(rows)), [_wrapped(names[row.method]) for row in rows])
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(table)), [*metrics, "Δm (mean)"] if scored else metrics)
    if scored:
        axes.axhline(len(metrics) - 0.5, color=INK, linewidth=1.5)
    _signed_colour_bar(figure, axes, image)
    caption = (
        "Change of each test metric against the single-task value in percent, mean over seeds; a minus (blue) "
        "is better than single-task, a plus (red) worse, whatever the metric's direction. Methods from left to "
        f"right by Δm. {NOT_LEARNT} marks a task that was not learnt."
    )
    return Plot("changes", "Each task against single-task training", caption, figure)


def trade_off(summary: Summary, canvas: Canvas) -> Plot | None:
    """Mean change against the change of the task that fares worst."""
    rows = [row for row in ranked(summary) if row.delta_m and math.isfinite(row.delta_m.mean)]
    if not rows:
        return None
    figure = canvas(6.4, max(3.4, 0.26 * len(rows) + 1.2))
    axes = figure.subplots()
    names, look = short_labels(summary.plan.methods), looks(summary)
    for row in rows:
        worst = max(row.changes, key=lambda name: row.changes[name])
        style = look[row.method]
        _mark(axes, row.delta_m, row.changes[worst], style, f"{names[row.method]} ({worst})")
    axes.grid(True)
    axes.axhline(0, color=INK, linewidth=1)
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_xlabel("mean change Δm (%)   ← better")
    axes.set_ylabel("change of the worst metric (%)   ← better")
    axes.legend(title="method (its worst metric)", loc="center left", bbox_to_anchor=(1.01, 0.5))
    caption = (
        "Left is better on average, down is fairer: the vertical axis shows the metric that loses most against "
        "single-task training. The zero lines are single-task level; bars are one standard deviation over seeds."
    )
    return Plot("trade_off", "Average against the worst-off task", caption, figure)


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
        epochs = sorted(row.convergence_epochs.values())
        left.plot([epochs[0], epochs[-1]], [place, place], color=LINE, linewidth=3, zorder=1)
        offsets = [place + 0.11 * (index % 3 - 1) for index in range(len(epochs))]
        left.scatter(epochs, offsets, color=look[row.method].colour, s=22, alpha=0.85, zorder=2)
    left.set_yticks(range(len(rows)), [names[row.method] for row in rows])
    left.set_xlabel("epoch of convergence, one dot a task")
    left.grid(True, axis="x")
    left.set_xlim(left=0)
    left.xaxis.get_major_locator().set_params(integer=True)
    _bars(right, [row.convergence for row in rows], [look[row.method].colour for row in rows], "{:.1f}")
    right.set_xlabel("convergence difference (epochs)")
    caption = (
        "Left: the epoch from which a task's validation metric stays within "
        f"{100 * summary.tolerance:g} % of its total improvement of its best (mean over seeds). Right: standard "
        "deviation of these epochs over the tasks, the convergence difference; short bars mean that the tasks "
        "finish together. Lines on the bars: one standard deviation over seeds."
    )
    return Plot("convergence", "Do the tasks converge together?", caption, figure)


def cost(summary: Summary, canvas: Canvas) -> Plot | None:
    """Seconds per step relative to equal weights, and peak memory."""
    rows = list(reversed(ranked(summary)))
    if not rows:
        return None
    unit = next((row.seconds_per_step.mean for row in rows if row.method == "ls"), None)
    times = [_scaled(row.seconds_per_step, 1 / unit if unit else 1000.0) for row in rows]
    remembered = [row.peak_memory_mb for row in rows]
    panels = 2 if any(remembered) else 1
    figure = canvas(8.4 if panels == 2 else 5.5, 1.1 + 0.34 * len(rows))
    axes = figure.subplots(1, panels, sharey=True, squeeze=False)[0]
    names = short_labels(summary.plan.methods)
    colours = [GREY if row.method == "ls" else BLUE for row in rows]
    _bars(axes[0], times, colours, "{:.2f}×" if unit else "{:.0f}")
    axes[0].set_yticks(range(len(rows)), [names[row.method] for row in rows])
    axes[0].set_xlabel("time per step, relative to ls" if unit else "milliseconds per step")
    if unit:
        axes[0].axvline(1, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    if panels == 2:
        _bars(axes[1], [Spread(m, None, 1) if m else None for m in remembered], colours, "{:.0f}")
        axes[1].set_xlabel("peak memory (MB)")
    base = f" ls takes {unit * 1000:.1f} ms a step." if unit else ""
    caption = (
        f"Training only, without evaluation, on the machine named under provenance.{base} "
        "Peak memory is that of the whole process or device, model and data included."
    )
    return Plot("cost", "What a step costs", caption, figure)


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
    caption = (
        f"Another budget: published, {known.budget}; ours as the plan says, with other single-task networks to "
        "compare with. Not a reproduction: look at the order of the methods, not at the distance of the marks."
    )
    return Plot("published", "Beside the published numbers (another budget)", caption, figure)


def _signed_heat_map(axes: Any, table: list[list[float]], marks: list[list[bool]]) -> Any:
    bent = [[_bend(value) for value in row] for row in table]
    limit = max((abs(v) for row in bent for v in row if math.isfinite(v)), default=1.0)
    limit = max(limit, _bend(30))
    image = axes.imshow(bent, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    for y, (row, flags) in enumerate(zip(table, marks, strict=True)):
        for x, (value, flag) in enumerate(zip(row, flags, strict=True)):
            text = number(value, 0 if abs(value) >= 9.95 else 1, sign=True) + (
                f" {NOT_LEARNT}" if flag else ""
            )
            strong = math.isfinite(value) and abs(_bend(value)) > 0.68 * limit
            axes.text(x, y, text, ha="center", va="center", color="white" if strong else "black", fontsize=9)
    bare(axes)
    return image


def _signed_colour_bar(figure: Any, axes: Any, image: Any) -> None:
    limit = image.norm.vmax
    ticks = [tick for tick in _TICKS if _bend(tick) <= limit]
    values = [*(-tick for tick in reversed(ticks)), 0, *ticks]
    bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02)
    bar.set_ticks(
        [_bend(value) for value in values], labels=[number(value, sign=value != 0) for value in values]
    )
    bar.set_label("change (%)")
    bar.outline.set_visible(False)


def _bend(percent: float) -> float:
    """Linear up to about 10 %, logarithmic beyond, so that +300 % does not drown -8 %."""
    return math.asinh(percent / 10)


def _mark(axes: Any, score: Spread | None, worst: float, look: Look, label: str) -> None:
    if score is not None:
        axes.errorbar(score.mean, worst, xerr=score.std, color=look.colour, capsize=3, linestyle="none")
        style = {"marker": look.marker, "markersize": 8, "linestyle": "none"}
        axes.plot(score.mean, worst, color=look.colour, label=label, **style)


def _bars(axes: Any, spreads: Sequence[Spread | None], colours: list[str], form: str) -> None:
    axes.barh(range(len(spreads)), [s.mean if s else 0.0 for s in spreads], color=colours, height=0.62)
    ends = [s.mean + (s.std or 0.0) if s else 0.0 for s in spreads]
    for place, (spread, end) in enumerate(zip(spreads, ends, strict=True)):
        if spread and spread.std is not None:
            axes.errorbar(spread.mean, place, xerr=spread.std, color=INK, capsize=3, linewidth=1.2)
        text = form.format(spread.mean) if spread else "unknown"
        axes.annotate(text, (end, place), (6, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_xlim(0, 1.22 * max(ends) or 1)
    axes.set_ylim(-0.6, len(spreads) - 0.4)
    axes.grid(True, axis="x")


def _scaled(spread: Spread, factor: float) -> Spread:
    return Spread(spread.mean * factor, None if spread.std is None else spread.std * factor, spread.n)


def _wrapped(label: str) -> str:
    return label.replace("+", "\n+").replace(":", "\n:")
