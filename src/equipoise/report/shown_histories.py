"""The task weights and groups that figures show, whichever way they are drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median_high

from equipoise.benchmark.summary import Summary

from .grouping import MANY
from .histories import GroupHistory, WeightHistory, group_history, weight_history
from .wording import listed, ranked, short_labels


@dataclass(frozen=True)
class ShownWeights:
    """Shares of the task weights over steps.

    Args:
        tasks: their names in the order of the rows: that of the plan, or by falling share where there are many.
        methods: short label -> history, the rows in this order; those whose weights are not equal all along.
        limit: the share, and one over it, at which colours end.
        alt: what a figure of them shows, for those who do not see it.
        caption: how to read it.
    """

    tasks: list[str]
    methods: Mapping[str, WeightHistory]
    limit: float
    alt: str
    caption: str


@dataclass(frozen=True)
class ShownGroups:
    """Groups of the tasks over steps.

    Args:
        tasks: their names in the order of the plan.
        methods: short label -> history, its rows in that order.
        ordered: the same with the rows as they are drawn: where there are many, by mean group.
        alt: what a figure of them shows.
        order: what the caption says of the order; empty where there are few.
    """

    tasks: list[str]
    methods: Mapping[str, GroupHistory]
    ordered: Mapping[str, GroupHistory]
    alt: str
    order: str


def shown_weights(summary: Summary, directory: Path) -> ShownWeights | None:
    """The logged weights of each method's first run; None where all weights are equal or not logged."""
    tasks = [task.name for task in summary.plan.tasks]
    short = short_labels(summary.plan.methods)
    histories = {
        short[row.method]: weight_history(directory, row.runs[0].run_id, tasks) for row in ranked(summary)
    }
    shown = {name: history for name, history in histories.items() if history and not history.is_equal}
    if not shown:
        return None
    if len(tasks) > MANY:
        order = _by_share(list(shown.values()))
        shown = {n: replace(h, shares=[h.shares[task] for task in order]) for n, h in shown.items()}
        tasks = [tasks[task] for task in order]
    # between the median and the widest method, so that one with wild weights does not make the others white
    extremes = [history.extreme for history in shown.values()]
    limit = max(min(math.sqrt(median_high(extremes) * max(extremes)), 1e3), 1.5)
    alt = f"Heat maps of {len(tasks)} tasks over training steps for {', '.join(shown)}."
    return ShownWeights(tasks, shown, limit, alt, _weight_caption(histories) + _order_caption(tasks))


def shown_groups(summary: Summary, directory: Path) -> ShownGroups | None:
    """The logged groups of each method's first run; None where no method groups tasks."""
    tasks = [task.name for task in summary.plan.tasks]
    short = short_labels(summary.plan.methods)
    found = {
        short[row.method]: history
        for row in ranked(summary)
        if (history := group_history(directory, row.runs[0].run_id, tasks))
    }
    if not found:
        return None
    many = len(tasks) > MANY
    ordered = {name: _by_group(history) if many else history for name, history in found.items()}
    alt = (
        f"Heat maps of {len(tasks)} tasks over training steps for {', '.join(found)}: group, and its weight."
    )
    order = f" The {len(tasks)} tasks of each method are in the order of their mean group." * many
    return ShownGroups(tasks, found, ordered, alt, order)


def _by_share(histories: Sequence[WeightHistory]) -> list[int]:
    """Places of the tasks, from the largest share of the weights to the smallest, by the mean over the methods."""
    logs = [
        [math.log(v) for history in histories for v in history.shares[task] if v > 0]
        for task in range(len(histories[0].shares))
    ]
    means = [fmean(values) if values else -math.inf for values in logs]
    return sorted(range(len(means)), key=lambda task: -means[task])


def _by_group(history: GroupHistory) -> GroupHistory:
    """The same with the tasks in the order of their mean group."""
    means = [fmean(row) for row in history.assignment]
    order = sorted(range(len(means)), key=lambda task: means[task])
    return replace(
        history,
        assignment=[history.assignment[task] for task in order],
        weights=[history.weights[task] for task in order],
    )


def _weight_caption(histories: Mapping[str, WeightHistory | None]) -> str:
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


def _order_caption(tasks: Sequence[str]) -> str:
    """The order of many tasks; nothing where there are few."""
    if len(tasks) <= MANY:
        return ""
    return (
        " Tasks from the largest share to the smallest, by the mean over methods and steps: on top "
        f"{listed(tasks[:5])}; at the bottom {listed(tasks[-5:])}."
    )
