"""Figures of a search: how members did and moved, the weights that won, and what they were worth."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from equipoise.search.generations import Result, best_of
from equipoise.search.plan import SearchPlan
from equipoise.search.ranking import WORDS
from equipoise.search.retrain import Retrained, Schedule
from equipoise.search.run import Found
from equipoise.search.weights import Weights, uniform

from .style import BLUE, GREY, INK, LINE, ORANGE, Canvas, Plot

_COLOURS = (BLUE, "#e69f00", "#009e73", "#cc79a7", "#56b4e9", ORANGE)
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)))


def members(plan: SearchPlan, found: Found, canvas: Canvas) -> Plot | None:
    """Scores of all members over epochs, with the line of the winner's ancestors."""
    if not found.history:
        return None
    figure = canvas(7.2, 3.8)
    axes = figure.subplots()
    place = {one.assignment.place: one for row in found.history for one in row}
    line = _ancestors(place, best_of(found.history))
    for one in place.values():
        if one.assignment.parent is not None:
            _step(axes, place[one.assignment.generation - 1, one.assignment.parent], one, LINE, 0.9)
    for before, one in itertools.pairwise(line):
        _step(axes, before, one, BLUE, 2.2)
    scored = [one for one in place.values() if one.score is not None]
    _marks(axes, scored, line, uniform(len(plan.names)))
    axes.set_xlabel("epochs trained")
    axes.set_ylabel(f"score: {WORDS[plan.rank]}")
    _limit(axes, [one.score or 0.0 for one in scored])
    axes.grid(True)
    figure.legend(loc="outside upper center", ncols=3)
    caption = (
        "Score of each member on the part of the training data that was held out, lower is better. Lines go from a "
        "network to the one that went on from it. Members far above the others are beyond the upper edge."
    )
    alt = f"{len(scored)} members; the best one ends at {line[-1].score:.2f}."
    return Plot("members", "Members of the search", caption, figure, alt)


def _marks(axes: Any, scored: Sequence[Result], line: Sequence[Result], even: Weights) -> None:
    for name, chosen, colour, marker in (
        ("members", [one for one in scored if one.assignment.weights != even], GREY, "o"),
        ("uniform weights", [one for one in scored if one.assignment.weights == even], ORANGE, "D"),
        ("winner and its ancestors", line, BLUE, "o"),
    ):
        x, y = [one.assignment.end for one in chosen], [one.score for one in chosen]
        axes.plot(x, y, marker, color=colour, markersize=5, label=name, zorder=3)


def schedule(plan: SearchPlan, found: Found, canvas: Canvas) -> Plot | None:
    """Weights over epochs: the schedule that led to the winner, against uniform weights."""
    rows = found.variants.get("schedule") or found.variants.get("constant")
    return None if rows is None else schedule_plot(plan.names, rows, plan.config.train.epochs, canvas)


def schedule_plot(names: Sequence[str], rows: Schedule, epochs: int, canvas: Canvas) -> Plot:
    """Weights over epochs as multiples of the uniform weight: a line per task.

    Args:
        names: of the tasks.
        rows: (first epoch, point).
        epochs: of the run.
        canvas: to draw on.
    """
    figure = canvas(7.2, 3.4 + 0.16 * math.ceil(len(names) / 4))
    axes = figure.subplots()
    edges = [begin for begin, _ in rows] + [epochs]
    for k, name in enumerate(names):
        values = [len(names) * point.weights[k] for _, point in rows]
        x = [edge for pair in itertools.pairwise(edges) for edge in pair]
        y = [value for value in values for _ in (0, 1)]
        axes.plot(x, y, color=_COLOURS[k % 6], linestyle=_DASHES[k // 6 % 3], label=name, linewidth=2)
    axes.axhline(1, color=INK, linewidth=0.8, linestyle=(0, (1, 2)))
    axes.set_xlabel("epoch")
    axes.set_ylabel("weight / uniform weight")
    axes.set_xlim(0, epochs)
    axes.set_ylim(bottom=0)
    axes.grid(True)
    figure.legend(loc="outside upper center", ncols=4)
    caption = "Weights that led to the best member, as multiples of the uniform weight (dotted line)."
    last = ", ".join(f"{name} {weight:.2f}" for name, weight in zip(names, rows[-1][1].weights, strict=True))
    return Plot("schedule", "Weights of the winner over the run", caption, figure, f"At the end: {last}.")


def anew(plan: SearchPlan, found: Found, canvas: Canvas) -> Plot | None:
    """Test scores of the networks that were trained anew: a row per variant, a dot per seed."""
    groups: dict[str, list[Retrained]] = {}
    for one in found.retrained:
        groups.setdefault("uniform, restarts" if one.variant == "restart" else one.variant, []).append(one)
    rows = {name: [one.score for one in row if one.score is not None] for name, row in groups.items()}
    shown = {name: scores for name, scores in rows.items() if scores}
    if not shown:
        return None
    figure = canvas(7.2, 1.2 + 0.5 * len(shown))
    axes = figure.subplots()
    _pairs(axes, groups, list(shown))
    for place, scores in enumerate(shown.values()):
        axes.plot(scores, [place] * len(scores), "o", color=BLUE, markersize=6, alpha=0.8, zorder=3)
        axes.plot(fmean(scores), place, "|", color=INK, markersize=22, markeredgewidth=2, zorder=4)
    axes.set_yticks(range(len(shown)), list(shown))
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlabel(f"test score: {WORDS[plan.rank]} (lower is better)")
    axes.grid(True, axis="x")
    caption = (
        "Networks trained anew on all of the training part: a dot for each seed, a bar at the mean. Thin lines join "
        "networks of the same seed."
    )
    alt = ", ".join(f"{name}: mean {fmean(scores):.2f} of {len(scores)}" for name, scores in shown.items())
    return Plot("anew", "Trained anew", caption, figure, alt + ".")


def _pairs(axes: Any, groups: Mapping[str, Sequence[Retrained]], shown: Sequence[str]) -> None:
    for place in range(len(shown) - 1):
        first, second = ({one.seed: one.score for one in groups[shown[place + k]]} for k in (0, 1))
        for seed in first.keys() & second.keys():
            if first[seed] is not None and second[seed] is not None:
                axes.plot([first[seed], second[seed]], [place, place + 1], color=LINE, linewidth=1, zorder=1)


def _ancestors(place: Mapping[tuple[int, int], Result], result: Result) -> list[Result]:
    found = [result]
    while (parent := found[-1].assignment.parent) is not None:
        found.append(place[found[-1].assignment.generation - 1, parent])
    return found[::-1]


def _step(axes: Any, before: Result, after: Result, colour: str, width: float) -> None:
    if before.score is not None and after.score is not None:
        ends = [before.assignment.end, after.assignment.end]
        axes.plot(ends, [before.score, after.score], color=colour, linewidth=width, zorder=1 + width)


def _limit(axes: Any, scores: Sequence[float]) -> None:
    """Leave out what is far above the rest."""
    order = sorted(scores)
    middle, low = order[len(order) // 2], order[0]
    top = min(order[-1], middle + 4 * (middle - low))
    if top > low:
        axes.set_ylim(low - 0.06 * (top - low), top + 0.06 * (top - low))
