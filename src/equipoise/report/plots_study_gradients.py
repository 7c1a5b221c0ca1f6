"""Figures of a study of scalarization: what gradients of two losses do, and whether that tells the metric."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from equipoise.study.analysis import Findings
from equipoise.study.cell import CellResult
from equipoise.study.plan import Pair

from .grouping import quantile
from .plots_study import merit_label
from .style import INK, Canvas, Plot, cycle

_STATISTICS = {
    "conflict": "conflict (share of batches)",
    "cosine": "mean cosine",
    "magnitude": "magnitude similarity",
}


def conflict_scatter(found: Findings, canvas: Canvas) -> Plot | None:
    """Conflict and mean cosine against the validation metric, a mark for each epoch of each cell."""
    cells = _joint(found)
    if not cells:
        return None
    figure = canvas(8.4, 3.6)
    panels = figure.subplots(1, 2, sharey=True)
    for panel, statistic in zip(panels, ("conflict", "cosine"), strict=True):
        _cloud(panel, found, statistic, labelled=panel is panels[0])
    panels[0].set_ylabel(merit_label(found).replace("test", "validation"))
    figure.legend(loc="outside upper center", ncols=3)
    return Plot(
        "conflict_against_metric",
        "Conflict of gradients against the metric",
        "A mark for each epoch of each joint cell; the line is the least-squares fit through all of them. Left: share "
        "of fixed training batches on which the two gradients point apart. Right: their mean cosine. In brackets: 95 % "
        "interval of Pearson's r, by drawing whole cells.",
        figure,
        f"A cloud of marks of {len(cells)} cells in two panels with a line through each.",
    )


def _cloud(panel: Any, found: Findings, statistic: str, *, labelled: bool) -> None:
    cells = _joint(found)
    for pair, look in zip(found.plan.pairs, cycle(len(found.plan.pairs)), strict=True):
        own = [result for result in cells if result.cell.names == pair]
        points = [point for result in own for point in _points(found, result, statistic)]
        _scatter(panel, points, look, " + ".join(pair) if labelled else None)
    every = {one.statistic: one.pearson for one in found.correlations if one.epochs == "all"}
    row = every[statistic]
    if row is not None:
        _fit(panel, [point for result in cells for point in _points(found, result, statistic)])
        panel.set_title(f"r = {row.value:.2f} ({row.low:.2f} to {row.high:.2f})")
    panel.set_xlabel(_STATISTICS[statistic])
    panel.grid(True)


def _joint(found: Findings) -> list[CellResult]:
    return [result for result in found.results if result.cell.joint and result.history]


def _points(found: Findings, result: CellResult, statistic: str) -> list[tuple[float, float]]:
    return [
        (
            row[statistic],
            fmean(found.plan.measure(name).merit(row["validation"][name]) for name in result.cell.names),
        )
        for row in result.history
    ]


def _scatter(panel: Any, points: list[tuple[float, float]], look: Any, label: str | None) -> None:
    style = {"color": look.colour, "marker": look.marker, "alpha": 0.5, "s": 16, "linewidths": 0}
    panel.scatter([x for x, _ in points], [y for _, y in points], label=label, **style)


def _fit(panel: Any, points: list[tuple[float, float]]) -> None:
    xs, ys = [x for x, _ in points], [y for _, y in points]
    centre, level = fmean(xs), fmean(ys)
    rise = sum((x - centre) * (y - level) for x, y in points) / sum((x - centre) ** 2 for x in xs)
    ends = [min(xs), max(xs)]
    panel.plot(ends, [level + rise * (x - centre) for x in ends], color=INK, linewidth=1.2)


def gradients_over_epochs(found: Findings, canvas: Canvas) -> Plot | None:
    """Conflict, cosine and magnitude similarity over epochs: a line and a band for each pair."""
    cells = _joint(found)
    if not cells:
        return None
    figure = canvas(9.2, 3.1)
    panels = figure.subplots(1, 3)
    looks = cycle(len(found.plan.pairs))
    for panel, (statistic, title) in zip(panels, _STATISTICS.items(), strict=True):
        for pair, look in zip(found.plan.pairs, looks, strict=True):
            _band(
                panel,
                _over_epochs(cells, pair, statistic),
                look,
                " + ".join(pair) if panel is panels[0] else None,
            )
        panel.set_ylabel(title)
        panel.set_xlabel("epoch")
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(True)
    panels[1].axhline(0, color=INK, linewidth=1)
    figure.legend(loc="outside upper center", ncols=3)
    return Plot(
        "gradients_over_epochs",
        "Gradients over the epochs",
        "Median over all capacities, p and seeds, with the middle 80 % as a band. Left: share of fixed training "
        "batches on which the two gradients point apart. Middle: their mean cosine. Right: 1 where both gradients have "
        "the same length, near 0 where one is much longer.",
        figure,
        f"Lines over epochs of three statistics for {len(found.plan.pairs)} pairs.",
    )


def _over_epochs(cells: list[CellResult], pair: Pair, statistic: str) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for result in cells:
        for row in result.history if result.cell.names == pair else ():
            found.setdefault(row["epoch"], []).append(row[statistic])
    return dict(sorted(found.items()))


def _band(panel: Any, values: dict[int, list[float]], look: Any, label: str | None) -> None:
    if not values:
        return
    low, middle, high = ([quantile(own, share) for own in values.values()] for share in (0.1, 0.5, 0.9))
    panel.fill_between(list(values), low, high, color=look.colour, alpha=0.15, linewidth=0)
    panel.plot(
        list(values),
        middle,
        color=look.colour,
        marker=look.marker,
        markersize=4,
        linestyle=look.dash,
        label=label,
    )
