"""Critical-difference picture: mean ranks on a line, with bars over methods that do not differ."""

from __future__ import annotations

import math
from statistics import fmean
from typing import Any

from equipoise.benchmark.ranks import RankTest, rank_test
from equipoise.benchmark.summary import Summary
from equipoise.training.comparison import LEVEL

from .style import INK, LINE, Canvas, Plot, looks
from .wording import counted, listed, short_labels, small

_LEAST = 3  # methods; fewer need no picture
_ROW = 0.26  # inches


def ranks(summary: Summary, canvas: Canvas) -> Plot | None:
    """Mean ranks of methods with finite metrics, with bars over those that do not differ; None of under three."""
    found = ranks_of(summary)
    if found is None:
        return None
    names, look = short_labels(summary.plan.methods), looks(summary)
    count = len(found.mean_ranks)
    depth = len(found.cliques) + (count + 1) // 2 + 1
    figure = canvas(7.6, 0.7 + _ROW * depth)
    axes = figure.subplots()
    for place, (method, rank) in enumerate(found.mean_ranks.items()):
        left = place < (count + 1) // 2
        level = len(found.cliques) + 1 + (place if left else count - 1 - place)
        end = 0.6 if left else count + 0.4
        colour = look[method].colour
        axes.plot([rank, rank, end], [0, -level, -level], color=colour, linewidth=1.3)
        axes.plot(rank, 0, look[method].marker, color=colour, markersize=6)
        side = {"ha": "right", "xytext": (-5, 0)} if left else {"ha": "left", "xytext": (5, 0)}
        label = f"{names.get(method, method)} {rank:.2f}"
        axes.annotate(label, (end, -level), textcoords="offset points", va="center", fontsize=9, **side)
    _bars(axes, found)
    _frame(axes, count, depth)
    return Plot("ranks", "Who differs in rank", _caption(summary, found, names), figure, _alt(found))


def ranks_of(summary: Summary) -> RankTest | None:
    """The test over the metrics of a summary, of the means over seeds; None with fewer than three methods."""
    table = {
        row.method: [row.metrics[metric.name].mean for metric in summary.plan.metrics]
        for row in summary.methods
    }
    finite = {method: row for method, row in table.items() if all(map(math.isfinite, row))}
    if len(finite) < _LEAST:
        return None
    return rank_test(finite, [metric.higher_is_better for metric in summary.plan.metrics])


def _bars(axes: Any, found: RankTest) -> None:
    """A thick line from the first to the last method of each group, below the axis."""
    for number, clique in enumerate(found.cliques, start=1):
        reach = [found.mean_ranks[method] for method in clique]
        ends = [min(reach) - 0.06, max(reach) + 0.06]
        axes.plot(ends, [-number * 0.8, -number * 0.8], color=INK, linewidth=4, solid_capstyle="butt")


def _frame(axes: Any, count: int, depth: int) -> None:
    axes.set_xlim(-1.0, count + 2.0)
    axes.set_ylim(-depth, 0.9)
    axes.plot([1, count], [0, 0], color=LINE, linewidth=1.2, zorder=0)
    for rank in range(1, count + 1):
        axes.annotate(str(rank), (rank, 0), (0, 7), textcoords="offset points", ha="center", fontsize=9)
    axes.set_title("mean rank   ← better")
    axes.axis("off")


def _caption(summary: Summary, found: RankTest, names: dict[str, str]) -> str:
    among = listed([names.get(method, method) for method in found.mean_ranks], 30)
    sentences = [
        f"Mean rank over {counted(found.blocks, 'metric')} among {among}: in another set the ranks would be others.",
        f"A thick bar joins methods of which no two differ at {100 * LEVEL:g} % (Wilcoxon's signed-rank test over "
        "metrics, Holm's correction over all pairs).",
    ]
    if 2 / 2**found.blocks * len(found.pairs) >= LEVEL:
        sentences.append(
            f"With {counted(found.blocks, 'metric')} and {len(found.pairs)} pairs no two methods could have differed."
        )
    if not math.isnan(found.statistic):
        sentences.append(
            f"Friedman's test of all together: p {'' if found.p < 1e-4 else '= '}{small(found.p)}."
        )
    sentences.append(
        "Metrics of one benchmark are related, so take this as a description; the table says over seeds who beats ls."
    )
    left_out = [row.method for row in summary.methods if row.method not in found.mean_ranks]
    if left_out:
        sentences.append(f"Left out, since a metric is not finite: {listed(left_out)}.")
    return " ".join(sentences)


def _alt(found: RankTest) -> str:
    ranks_said = ", ".join(f"{method} {rank:.2f}" for method, rank in found.mean_ranks.items())
    groups = "; ".join(" ".join(clique) for clique in found.cliques) or "none"
    middle = fmean(found.mean_ranks.values())
    return f"Mean ranks around {middle:.1f}: {ranks_said}. Groups that do not differ: {groups}."
