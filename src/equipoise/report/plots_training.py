"""Figures of what the methods did on the way: task weights and groups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from equipoise.benchmark.summary import Summary

from .grouping import MANY
from .histories import GroupHistory, WeightHistory
from .shown_histories import shown_groups, shown_weights
from .style import Canvas, Plot, bare, log_ticks

_MANY_HEIGHT = 4.0  # inches of a heat map of more tasks than can be named
_NAMED_GROUPS = 6


def weights(summary: Summary, directory: Path, canvas: Canvas) -> Plot | None:
    """Task weights over steps as multiples of the equal share: a panel per method."""
    found = shown_weights(summary, directory)
    if found is None:
        return None
    tasks, shown, limit = found.tasks, found.methods, found.limit
    columns = min(2, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = canvas(max(4.6 * columns, 6), (_height(tasks) + 0.6) * rows + 0.9)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for panel, (name, history) in zip(panels.flat, shown.items(), strict=False):
        image = _weight_panel(panel, history, tasks, limit)
        panel.set_title(name)
    for panel in list(panels.flat)[len(shown) :]:
        panel.set_visible(False)
    figure.supxlabel("training step", fontsize=9.5)
    _share_bar(figure, image, panels, limit)
    return Plot("weights", "Task weights over training", found.caption, figure, found.alt)


def groups(summary: Summary, directory: Path, canvas: Canvas) -> Plot | None:
    """Group assignment and group weights over steps: a row per method that groups tasks."""
    found = shown_groups(summary, directory)
    if found is None:
        return None
    tasks = found.tasks
    figure = canvas(9.4, max(_height(tasks) + 0.9, 1.6) * len(found.ordered) + 0.3)
    panels = figure.subplots(len(found.ordered), 2, squeeze=False, sharey=True)
    for (left, right), (name, history) in zip(panels, found.ordered.items(), strict=True):
        _assignment_panel(left, history, tasks)
        left.set_title(f"{name}: groups", pad=21)  # the legend goes between
        _group_weight_panel(figure, right, history)
    caption = (
        "Left: tasks of one colour are in one group at that step and share one weight. Groups are numbered by "
        "weight, 1 being the heaviest: anew at every step, or by their mean where they never change. Right: the "
        "weight itself, on a logarithmic scale. First seed; of neighbouring steps the most frequent group and "
        "the geometric mean weight are drawn."
    )
    title = "Which tasks are grouped, and what the groups weigh"
    return Plot("groups", title, caption + found.order, figure, found.alt)


def _weight_panel(panel: Any, history: WeightHistory, tasks: list[str], limit: float) -> Any:
    panel.set_facecolor("#9aa1aa")
    image = panel.imshow(
        history.shares,
        cmap="RdBu_r",
        norm="log",
        vmin=1 / limit,
        vmax=limit,
        aspect="auto",
        interpolation="nearest",
        extent=(history.steps[0] - 0.5, history.steps[1] + 0.5, len(tasks) - 0.5, -0.5),
    )
    _name_tasks(panel, tasks)
    bare(panel)
    return image


def _share_bar(figure: Any, image: Any, panels: Any, limit: float) -> None:
    inch = 1 / figure.get_figheight()
    size = {"fraction": 0.2 * inch, "pad": 0.1 * inch, "shrink": 0.6, "aspect": 45}
    bar = figure.colorbar(image, ax=panels, location="top", **size)
    known = (1.2, 1.5, 2, 3) if limit < 5 else (2, 5, 10, 20) if limit < 30 else (3, 10, 30, 100, 300, 1000)
    ticks = [tick for tick in known if tick <= limit * 1.001]
    values = [*(1 / tick for tick in reversed(ticks)), 1.0, *ticks]
    labels = [*(f"1/{tick:g}" for tick in reversed(ticks)), "1", *(f"{tick:g}" for tick in ticks)]
    bar.set_ticks(values, labels=labels)
    bar.minorticks_off()
    bar.set_label("share of the weights, in equal shares")
    bar.outline.set_visible(False)


def _assignment_panel(panel: Any, history: GroupHistory, tasks: list[str]) -> None:
    image = panel.imshow(
        history.assignment,
        cmap="viridis_r",
        vmin=1,
        vmax=max(history.count, 2),
        aspect="auto",
        interpolation="nearest",
        extent=(history.steps[0] - 0.5, history.steps[1] + 0.5, len(tasks) - 0.5, -0.5),
    )
    for edge in range(1, len(tasks) if len(tasks) <= MANY else 1):
        panel.axhline(edge - 0.5, color="white", linewidth=0.7)
    for group in range(1, history.count + 1) if history.count <= _NAMED_GROUPS else (1, history.count):
        panel.scatter(
            [],
            [],
            marker="s",
            s=60,
            color=image.cmap(image.norm(group)),
            label=_group_name(group, history.count),
        )
    panel.legend(
        loc="lower left", bbox_to_anchor=(-0.02, 0.99), ncols=_NAMED_GROUPS,
        columnspacing=0.7, handletextpad=0.0, fontsize=8.5, borderpad=0,
    )  # fmt: skip
    _name_tasks(panel, tasks)
    moves = (
        "" if history.moves is None else f" (a task changes its group in {100 * history.moves:.1f} % of them)"
    )
    panel.set_xlabel(f"logged training step{moves}", fontsize=8.5)
    bare(panel)


def _group_name(group: int, count: int) -> str:
    return {1: "1 (heaviest)", count: f"{count} (lightest)"}.get(group, str(group))


def _group_weight_panel(figure: Any, panel: Any, history: GroupHistory) -> None:
    values = [value for row in history.weights for value in row if value > 0]
    low, high = (min(values), max(values)) if values else (1.0, 1.0)
    image = panel.imshow(
        history.weights,
        cmap="cividis",
        norm="log",
        vmin=min(low, high / 1.5),
        vmax=max(high, low * 1.5),
        aspect="auto",
        interpolation="nearest",
        extent=(history.steps[0] - 0.5, history.steps[1] + 0.5, len(history.weights) - 0.5, -0.5),
    )
    bare(panel)
    panel.set_title("weight of the task's group")
    panel.set_xlabel("training step", fontsize=8.5)
    bar = figure.colorbar(image, ax=panel, fraction=0.06, pad=0.02)
    ticks, labels = log_ticks(image.norm.vmin, image.norm.vmax)
    bar.set_ticks(ticks, labels=labels)
    bar.minorticks_off()
    bar.outline.set_visible(False)


def _name_tasks(panel: Any, tasks: Sequence[str]) -> None:
    if len(tasks) > MANY:
        panel.set_yticks([])
        panel.set_ylabel(f"{len(tasks)} tasks", fontsize=8.5)
    else:
        panel.set_yticks(range(len(tasks)), tasks, fontsize=8.5 if len(tasks) <= 20 else 7)


def _height(tasks: Sequence[str]) -> float:
    if len(tasks) > MANY:
        return _MANY_HEIGHT
    return (0.18 if len(tasks) <= 20 else 0.13) * len(tasks)
