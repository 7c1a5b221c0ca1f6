"""Figures of what the methods did on the way: task weights and groups."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median_high
from typing import Any

from equipoise.benchmark.summary import Summary

from .grouping import MANY
from .histories import GroupHistory, WeightHistory, group_history, weight_history
from .style import Canvas, Plot, bare, log_ticks
from .wording import listed, ranked, short_labels

_MANY_HEIGHT = 4.0  # inches of a heat map of more tasks than can be named
_NAMED_GROUPS = 6


def weights(summary: Summary, directory: Path, canvas: Canvas) -> Plot | None:
    """Task weights over steps as multiples of the equal share: a panel per method."""
    tasks = [task.name for task in summary.plan.tasks]
    names = short_labels(summary.plan.methods)
    histories = {
        names[row.method]: weight_history(directory, row.runs[0].run_id, tasks) for row in ranked(summary)
    }
    shown = {name: history for name, history in histories.items() if history and not history.is_equal}
    if not shown:
        return None
    if len(tasks) > MANY:
        order = by_share(list(shown.values()))
        shown = {n: replace(h, shares=[h.shares[task] for task in order]) for n, h in shown.items()}
        tasks = [tasks[task] for task in order]
    columns = min(2, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = canvas(max(4.6 * columns, 6), (_height(tasks) + 0.6) * rows + 0.9)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    # between the median and the widest method, so that one with wild weights does not make the others white
    extremes = [history.extreme for history in shown.values()]
    limit = max(min(math.sqrt(median_high(extremes) * max(extremes)), 1e3), 1.5)
    for panel, (name, history) in zip(panels.flat, shown.items(), strict=False):
        image = _weight_panel(panel, history, tasks, limit)
        panel.set_title(name)
    for panel in list(panels.flat)[len(shown) :]:
        panel.set_visible(False)
    figure.supxlabel("training step", fontsize=9.5)
    _share_bar(figure, image, panels, limit)
    alt = f"Heat maps of {len(tasks)} tasks over training steps for {', '.join(shown)}."
    caption = weight_caption(histories) + order_caption(tasks)
    return Plot("weights", "Task weights over training", caption, figure, alt)


def groups(summary: Summary, directory: Path, canvas: Canvas) -> Plot | None:
    """Group assignment and group weights over steps: a row per method that groups tasks."""
    tasks = [task.name for task in summary.plan.tasks]
    names = short_labels(summary.plan.methods)
    found = {
        names[row.method]: history
        for row in ranked(summary)
        if (history := group_history(directory, row.runs[0].run_id, tasks))
    }
    if not found:
        return None
    if len(tasks) > MANY:
        found = {name: by_group(history) for name, history in found.items()}
    figure = canvas(9.4, max(_height(tasks) + 0.9, 1.6) * len(found) + 0.3)
    panels = figure.subplots(len(found), 2, squeeze=False, sharey=True)
    for (left, right), (name, history) in zip(panels, found.items(), strict=True):
        _assignment_panel(left, history, tasks)
        left.set_title(f"{name}: groups", pad=21)  # the legend goes between
        _group_weight_panel(figure, right, history)
    caption = (
        "Left: tasks of one colour are in one group at that step and share one weight. Groups are numbered by "
        "weight, 1 being the heaviest: anew at every step, or by their mean where they never change. Right: the "
        "weight itself, on a logarithmic scale. First seed; of neighbouring steps the most frequent group and "
        "the geometric mean weight are drawn."
    )
    if len(tasks) > MANY:
        caption += f" The {len(tasks)} tasks of each method are in the order of their mean group."
    alt = (
        f"Heat maps of {len(tasks)} tasks over training steps for {', '.join(found)}: group, and its weight."
    )
    return Plot("groups", "Which tasks are grouped, and what the groups weigh", caption, figure, alt)


def by_share(histories: Sequence[WeightHistory]) -> list[int]:
    """Places of the tasks, from the largest share of the weights to the smallest, by the mean over the methods."""
    logs = [
        [math.log(v) for history in histories for v in history.shares[task] if v > 0]
        for task in range(len(histories[0].shares))
    ]
    means = [fmean(values) if values else -math.inf for values in logs]
    return sorted(range(len(means)), key=lambda task: -means[task])


def by_group(history: GroupHistory) -> GroupHistory:
    """The same with the tasks in the order of their mean group."""
    means = [fmean(row) for row in history.assignment]
    order = sorted(range(len(means)), key=lambda task: means[task])
    return replace(
        history,
        assignment=[history.assignment[task] for task in order],
        weights=[history.weights[task] for task in order],
    )


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


def weight_caption(histories: Mapping[str, WeightHistory | None]) -> str:
    """How to read the weights, and which methods are not shown."""
    equal = [name for name, history in histories.items() if history and history.is_equal]
    absent = [name for name, history in histories.items() if history is None]
    return (
        "Colour: a task's share of all weights, as a multiple of the equal share 1/m, on a logarithmic scale. "
        "Red tasks get more than their equal share, blue ones less, white ones the same; grey: zero, "
        "as without a label in these steps, or negative. "
        "The darkest colours stand for that much or more. First seed; neighbouring steps are averaged."
        + (f" Not shown, since all weights are equal at all steps: {listed(equal)}." if equal else "")
        + (f" Without task weights in the log: {listed(absent)}." if absent else "")
    )


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


def order_caption(tasks: Sequence[str]) -> str:
    """The order of many tasks; nothing where there are few."""
    if len(tasks) <= MANY:
        return ""
    return (
        " Tasks from the largest share to the smallest, by the mean over methods and steps: on top "
        f"{listed(tasks[:5])}; at the bottom {listed(tasks[-5:])}."
    )


def _height(tasks: Sequence[str]) -> float:
    if len(tasks) > MANY:
        return _MANY_HEIGHT
    return (0.18 if len(tasks) <= 20 else 0.13) * len(tasks)
