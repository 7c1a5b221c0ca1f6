"""Figures of the studies of questions: answers with their intervals, sweeps, arms, cost and convergence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from equipoise.study.answers import ArmResult, Result, Row
from equipoise.study.elbow import elbow
from equipoise.study.estimates import t_quantile

from .style import BLUE, GREY, INK, ORANGE, Canvas, Plot, cycle, log_ticks


def answers(found: Result, canvas: Canvas) -> Plot | None:
    """A row for each comparison: the difference and its interval."""
    rows = [
        (f"{one.contrast.question}{_where(found, arm)}", one)
        for arm in found.arms
        for one in arm.answers
        if not one.comparison.why
    ]
    if not rows:
        return None
    rows.reverse()
    figure = canvas(9.4, 1.0 + 0.3 * len(rows))
    axes = figure.subplots()
    for place, (_, one) in enumerate(rows):
        colour = {"yes": BLUE, "no": ORANGE, "cannot be told": GREY}[one.said]
        bar = {"color": colour, "capsize": 3, "linewidth": 1.6, "marker": "o", "markersize": 5}
        axes.errorbar(one.comparison.mean, place, xerr=one.comparison.half, **bar)
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8.5)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel("difference of delta_m in points   ← yes")
    axes.grid(True, axis="x")
    return Plot(
        "answers",
        "The answers",
        "Dots: mean of the paired differences over the seeds; bars: their 95 % intervals, not corrected. Blue and "
        "orange stand for yes and no after Holm's correction over all rows, grey for what cannot be told.",
        figure,
        f"A dot with an interval for each of {len(rows)} comparisons, as in the table of answers.",
    )


def _where(found: Result, arm: ArmResult) -> str:
    return f" ({arm.arm.name})" if len(found.arms) > 1 else ""


def sweep(found: Result, canvas: Canvas) -> Plot | None:
    """Scores over the axis of a sweep, with the other variants as lines."""
    arm = found.arms[0]
    rows = sorted((row for row in arm.rows if row.variant.x is not None and row.scores), key=_x)
    if len(rows) < 2:
        return None
    figure = canvas(7.4, 3.9)
    axes = figure.subplots()
    means = [fmean(row.scores.values()) for row in rows]
    halves = [_half(row) for row in rows]
    axes.errorbar([_x(row) for row in rows], means, yerr=halves, color=BLUE, marker="o", capsize=3)
    _levels(axes, [row for row in arm.rows if row.variant.x is None and row.scores])
    axes.set_ylabel("Δm (%)   ← better")
    axes.grid(True)
    caption = "Mean over seeds; bars: 95 % intervals. Broken lines: variants that are not on the axis."
    if found.question.name == "k":
        axes.set_xlabel("number of groups K")
        title = "Score against the number of groups, as Fig. 6 of the GO4Align paper"
        caption += f" The elbow is at K = {elbow([_x(row) for row in rows], means):g}."
    else:
        title = "Score against beta"
        axes.set_xlabel("beta")
        axes.set_xscale("log")
        axes.set_xticks([_x(row) for row in rows], [f"{_x(row):g}" for row in rows])
        axes.minorticks_off()
    alt = f"{len(rows)} points with intervals, as in the table of scores."
    return Plot("sweep", title, caption, figure, alt)


def _levels(axes: Any, rows: Sequence[Row]) -> None:
    """A broken line for the mean score of each row."""
    for row, look in zip(rows, cycle(len(rows) + 1)[1:], strict=True):
        level = fmean(row.scores.values())
        axes.axhline(level, color=look.colour, linestyle=(0, (5, 2)), label=row.variant.name)
    if rows:
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))


def _x(row: Row) -> float:
    return row.variant.x if row.variant.x is not None else math.nan


def _half(row: Row) -> float:
    """Half of the 95 % interval of a mean score; 0, no bar, with one or two seeds, of which little is known."""
    n = len(row.scores)
    if n < 3:
        return 0.0
    mean = fmean(row.scores.values())
    spread = math.sqrt(sum((score - mean) ** 2 for score in row.scores.values()) / (n - 1))
    return t_quantile(n - 1) * spread / math.sqrt(n)


def over_arms(found: Result, canvas: Canvas) -> Plot | None:
    """Scores and agreement with the known groups over the arms."""
    if len(found.arms) < 2 or "memory" in found.question.looks:
        return None
    names = [row.variant.name for row in found.arms[0].rows]
    figure = canvas(9.4, 3.8)
    left, right = figure.subplots(1, 2)
    for name, look in zip(names, cycle(len(names)), strict=True):
        style = {"color": look.colour, "marker": look.marker, "linestyle": look.dash, "label": name}
        rows = [(arm.arm.x, arm.row(name)) for arm in found.arms if arm.row(name).scores]
        left.plot([x for x, _ in rows], [fmean(row.scores.values()) for _, row in rows], **style)
        known = [
            (x, row.groups.agreement) for x, row in rows if row.groups and row.groups.agreement is not None
        ]
        if known:
            right.plot(*zip(*known, strict=True), **style)
    left.set_ylabel("Δm (%)   ← better")
    right.set_ylabel("agreement with the planted groups\n(adjusted Rand index)")
    for panel in (left, right):
        panel.set_xlabel("noise of the scales")
        panel.grid(True)
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=5)
    caption = (
        "Left: mean score over seeds. Right: agreement of the groups with the planted ones in the second half of "
        "training: 1 for the same groups, 0 for chance."
    )
    return Plot(
        "arms", "Planted groups against noise", caption, figure, "Lines over the noise, as in the tables."
    )


def run_times(found: Result, canvas: Canvas) -> Plot | None:
    """Time of a step relative to equal weights, or to the first variant."""
    arm = found.arms[-1]
    rows = [row for row in arm.rows if math.isfinite(row.seconds)]
    if len(found.arms) > 1 or "cost" not in found.question.looks or len(rows) < 2:
        return None
    base = rows[0]
    figure = canvas(7.4, 1.0 + 0.3 * len(rows))
    axes = figure.subplots()
    ratios = [row.seconds / base.seconds for row in reversed(rows)]
    axes.barh(range(len(rows)), ratios, color=BLUE, height=0.62)
    for place, ratio in enumerate(ratios):
        axes.annotate(
            f"{ratio:.2f}", (ratio, place), (5, 0), textcoords="offset points", va="center", fontsize=9
        )
    axes.set_yticks(range(len(rows)), [row.variant.name for row in reversed(rows)])
    axes.set_xlabel(f"time of a training step, relative to {base.variant.name}")
    axes.grid(True, axis="x")
    return Plot(
        "run_time",
        "Relative run time, as Fig. 4 of the GO4Align paper",
        "Mean over the seeds of the time of a training step, without validation. Runs beside each other share the "
        "machine, so differences of a few hundredths mean nothing.",
        figure,
        "A bar for each variant, as in the table of scores.",
    )


def costs(found: Result, canvas: Canvas) -> Plot | None:
    """Time and memory over the number of tasks, relative to equal weights."""
    if "memory" not in found.question.looks:
        return None
    names = [row.variant.name for row in found.arms[0].rows]
    figure = canvas(9.4, 3.8)
    left, right = figure.subplots(1, 2)
    for name, look in zip(names[1:], cycle(len(names) - 1), strict=True):
        style = {"color": look.colour, "marker": look.marker, "linestyle": look.dash, "label": name}
        for panel, kind in ((left, "seconds"), (right, "memory")):
            panel.plot(*_ratios(found.arms, name, names[0], kind), **style)
    left.set_ylabel(f"time of a step, relative to {names[0]}")
    right.set_ylabel(f"peak memory, relative to {names[0]}")
    counts = [arm.arm.x for arm in found.arms]
    for panel in (left, right):
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xticks(counts, [f"{count:g}" for count in counts])
        panel.set_yticks(*log_ticks(*panel.get_ylim()))
        panel.minorticks_off()
        panel.set_xlabel("tasks")
        panel.grid(True)
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=5)
    caption = "Ratios to equal weights with as many tasks. Memory is that of the process, Python and torch included."
    return Plot(
        "costs",
        "Time and memory against the number of tasks",
        caption,
        figure,
        "Lines over the number of tasks.",
    )


def _ratios(arms: Sequence[ArmResult], name: str, base: str, kind: str) -> tuple[list[Any], list[float]]:
    pairs = [
        (arm.arm.x, getattr(arm.row(name), kind), getattr(arm.row(base), kind))
        for arm in arms
    ]  # fmt: skip
    known = [(x, own / other) for x, own, other in pairs if own and other and math.isfinite(own / other)]
    return [x for x, _ in known], [ratio for _, ratio in known]
