"""Interactive figures of what the methods did on the way: task weights and groups."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from equipoise.benchmark.summary import Summary

from .grouping import MANY
from .histories import GroupHistory, WeightHistory
from .interactive import Chart, Panel, Values, apart, axis, layout, names, numbers
from .shown_histories import shown_groups, shown_weights
from .wording import number

_DIVERGING = [[0, "#2166ac"], [0.25, "#92c5de"], [0.5, "#f7f7f7"], [0.75, "#f4a582"], [1, "#b2182b"]]
_ABSENT = "#9aa1aa"  # where a weight is not positive
_FRAME = 80  # CSS pixels above and below a map and its scale of colours
_LINE = 15  # CSS pixels of a line of text
_FEW_BINS = 24  # of more tasks than can be named
_TICKS = {
    2.0: (1.2, 1.5),
    5.0: (1.5, 3),
    30.0: (3, 10, 20),
    math.inf: (10, 100, 1000),
}  # up to this limit -> shares

_GROUPS = (
    "Groups: tasks of one colour are in one group at that step and share one weight. Groups are numbered by "
    "weight, 1 being the heaviest: anew at every step, or by their mean where they never change. Beside them the "
    "weight itself, on a logarithmic scale. First seed; of neighbouring steps the most frequent group and the "
    "geometric mean weight are drawn."
)


def weights(summary: Summary, directory: Path) -> Chart | None:
    """Shares of the task weights over steps, a panel per method; None where all weights are equal or not logged."""
    found = shown_weights(summary, directory)
    if found is None:
        return None
    tasks, shown, limit = found.tasks, found.methods, found.limit
    panels = tuple(
        Panel((_share_trace(history, tasks, limit),), _map_layout(tasks, plot_bgcolor=_ABSENT), name)
        for name, history in shown.items()
    )
    body = ((task, *(_from_to(h.shares[k]) for h in shown.values())) for k, task in enumerate(tasks))
    table = numbers("weights", "Share of the weights, first to last step", ("task", *shown), body)
    return Chart("weights", "Task weights over training", found.caption, found.alt, panels, table)


def groups(summary: Summary, directory: Path) -> Chart | None:
    """Groups and their weights over steps, two panels for each method that groups tasks; None where none does."""
    found = shown_groups(summary, directory)
    if found is None:
        return None
    tasks = found.tasks
    panels = tuple(
        panel
        for name, history in found.ordered.items()
        for panel in (
            Panel((_group_trace(history, tasks),), _map_layout(tasks), f"{name}: groups{_moves(history)}"),
            Panel((_group_weight_trace(history, tasks),), _map_layout(tasks), f"{name}: weight of the group"),
        )
    )
    usual = found.methods.values()
    body = ((task, *(_usual_group(h.assignment[k]) for h in usual)) for k, task in enumerate(tasks))
    table = numbers("groups", "The usual group of each task", ("task", *found.methods), body)
    title = "Which tasks are grouped, and what the groups weigh"
    return Chart("groups", title, _GROUPS + found.order, found.alt, panels, table)


def _map_layout(tasks: Sequence[str], **more: Any) -> Values:
    many = len(tasks) > MANY
    side = (
        axis(f"{len(tasks)} tasks", showticklabels=False, ticks="", autorange="reversed")
        if many
        else names(tasks)
    )
    return layout(_map_height(tasks), axis("training step", showgrid=False, nticks=6), side, **more)


def _map_height(tasks: Sequence[str]) -> int:
    """In CSS pixels: a line for each task where they can be named, and room for three colours of the scale."""
    if len(tasks) > MANY:
        return 360
    return _FRAME + max((18 if len(tasks) <= 20 else 13) * len(tasks), 90)


def _map(steps: tuple[float, float], rows: Sequence[Sequence[float]], tasks: Sequence[str]) -> dict[str, Any]:
    """A heat map of the logarithms to base 2, the bins spread over the steps."""
    shown = [_thinned(row) for row in rows] if len(tasks) > MANY else [list(row) for row in rows]
    bins = len(shown[0])
    width = (steps[1] - steps[0] + 1) / bins
    return {
        "type": "heatmap",
        "z": [[math.log2(v) if v > 0 else math.nan for v in row] for row in shown],
        "x0": steps[0] - 0.5 + width / 2,
        "dx": width,
        "hoverongaps": False,
    }


def _share_trace(history: WeightHistory, tasks: Sequence[str], limit: float) -> Values:
    ends = math.log2(limit)
    known = next(ticks for most, ticks in _TICKS.items() if limit <= most)
    above = [tick for tick in known if tick <= 1.001 * limit]
    ticks = [1.0, *(share for tick in above for share in (tick, 1 / tick))]
    texts = ["1", *(text for tick in above for text in (f"{tick:g}", f"1/{tick:g}"))]
    scale = (_map_height(tasks) - _FRAME) / (2 * ends)
    kept = apart([scale * math.log2(share) for share in ticks], [_LINE] * len(ticks))
    bar = {
        "tickvals": [math.log2(ticks[k]) for k in kept],
        "ticktext": [texts[k] for k in kept],
        "thickness": 10,
        "outlinewidth": 0,
    }
    return {
        **_map(history.steps, history.shares, tasks),
        "colorscale": _DIVERGING,
        "zmin": -ends,
        "zmax": ends,
        "colorbar": bar,
        **_hover(tasks, history.shares, "equal shares"),
    }


def _group_weight_trace(history: GroupHistory, tasks: Sequence[str]) -> Values:
    values = [value for row in history.weights for value in row if value > 0] or [1.0]
    low, high = min(values), max(values)
    ticks = [low, math.sqrt(low * high), high] if high > 1.02 * low else [low]
    bar = {
        "tickvals": [math.log2(tick) for tick in ticks],
        "ticktext": [f"{float(f'{tick:.2g}'):g}" for tick in ticks],
        "thickness": 10,
        "outlinewidth": 0,
    }
    return {
        **_map(history.steps, history.weights, tasks),
        "colorscale": "Cividis",
        "zmin": math.log2(min(low, high / 1.5)),
        "zmax": math.log2(max(high, low * 1.5)),
        "colorbar": bar,
        **_hover(tasks, history.weights, "as weight"),
    }


def _group_trace(history: GroupHistory, tasks: Sequence[str]) -> Values:
    ticks = list(range(1, history.count + 1)) if history.count <= 8 else [1, history.count]
    bar = {"tickvals": ticks, "ticktext": list(map(str, ticks)), "thickness": 10, "outlinewidth": 0}
    step = max(1, math.ceil(len(history.assignment[0]) / _FEW_BINS)) if len(tasks) > MANY else 1
    shown = [row[::step] for row in history.assignment]
    return {
        **_map(history.steps, shown, tasks),
        "z": shown,
        "colorscale": "Viridis",
        "reversescale": True,
        "zmin": 1,
        "zmax": max(history.count, 2),
        "ygap": 1 if len(tasks) <= MANY else 0,
        "colorbar": bar,
        "hovertemplate": "step %{x:.0f}, %{y}: group %{z}<extra></extra>",
    }


def _hover(tasks: Sequence[str], rows: Sequence[Sequence[float]], what: str) -> Values:
    """The number itself where there are few tasks, else its logarithm, which needs no room of its own."""
    if len(tasks) > MANY:
        return {"hovertemplate": f"step %{{x:.0f}}: 2^%{{z:.1f}} {what}<extra></extra>"}
    form = f"step %{{x:.0f}}, %{{y}}: %{{customdata:.3g}} {what}<extra></extra>"
    return {"customdata": [list(row) for row in rows], "hovertemplate": form}


def _thinned(row: Sequence[float]) -> list[float]:
    """At most `_FEW_BINS` geometric means of neighbours."""
    count = min(_FEW_BINS, len(row))
    edges = [len(row) * k // count for k in range(count + 1)]
    parts = ([math.log(v) for v in row[a:b] if v > 0] for a, b in itertools.pairwise(edges))
    return [math.exp(fmean(part)) if part else math.nan for part in parts]


def _from_to(row: Sequence[float]) -> str:
    return f"{number(row[0], 2)} → {number(row[-1], 2)}"


def _usual_group(row: Sequence[float]) -> str:
    group, count = Counter(row).most_common(1)[0]
    return f"{group:.0f} ({number(100 * count / len(row))} %)"


def _moves(history: GroupHistory) -> str:
    return "" if history.moves is None else f" ({100 * history.moves:.1f} % change from step to step)"
