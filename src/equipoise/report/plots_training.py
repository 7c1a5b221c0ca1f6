"""Figures of what happened on the way: validation curves, task weights, groups."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median_high
from typing import Any

from equipoise.benchmark.logs import validations
from equipoise.benchmark.records import Record
from equipoise.benchmark.summary import Summary
from equipoise.training.task import Metric

from .histories import GroupHistory, WeightHistory, group_history, weight_history
from .style import INK, Canvas, Plot, bare, looks
from .wording import listed, metric_title, ranked, short_labels


def curves(summary: Summary, directory: Path, canvas: Canvas) -> Plot | None:
    """Validation metric over epochs: a panel per metric, a line per method."""
    metrics = summary.plan.metrics
    columns = min(4, len(metrics))
    rows = math.ceil(len(metrics) / columns)
    figure = canvas(
        max(2.45 * columns, 5), 1.8 * rows + 0.6 + 0.22 * math.ceil((len(summary.methods) + 1) / 5)
    )
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    drawn: dict[str, Any] = {}
    for panel, metric in zip(panels, metrics, strict=False):
        drawn |= _curve_panel(panel, summary, directory, metric)
    if not drawn:
        return None
    for panel in panels[len(metrics) :]:
        panel.set_visible(False)
    figure.supxlabel("epoch", fontsize=9.5)
    figure.legend(drawn.values(), drawn.keys(), loc="outside upper center", ncols=5)
    caption = (
        "Validation metric over epochs, mean over seeds; the band goes from the lowest to the highest seed. "
        "Scales are logarithmic where a curve spans more than a factor of four. ↓: lower is better."
    )
    return Plot("curves", "Learning curves of every task", caption, figure)


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
    columns = min(2, len(shown))
    rows = math.ceil(len(shown) / columns)
    height = _row_height(tasks) * len(tasks) + 0.6
    figure = canvas(max(4.6 * columns, 6), height * rows + 0.9)
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
    return Plot("weights", "Task weights over training", _weight_caption(histories), figure)


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
    height = max(_row_height(tasks) * len(tasks) + 0.9, 1.6)
    figure = canvas(9.4, height * len(found) + 0.3)
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
    return Plot("groups", "Which tasks are grouped, and what the groups weigh", caption, figure)


def _curve_panel(panel: Any, summary: Summary, directory: Path, metric: Metric) -> dict[str, Any]:
    look, names = looks(summary), short_labels(summary.plan.methods)
    handles = {}
    for row in ranked(summary):
        style = {"color": look[row.method].colour, "linestyle": look[row.method].dash}
        handles[names[row.method]] = _line(panel, directory, row.runs, metric, style)
    task = next(task.name for task in summary.plan.tasks if metric in task.metrics)
    style = {"color": INK, "linestyle": (0, (1, 1.5)), "linewidth": 1.2}
    handles["single-task"] = _line(panel, directory, summary.baseline_runs[task], metric, style)
    _finish_panel(panel, metric)
    return {name: handle for name, handle in handles.items() if handle is not None}


def _line(panel: Any, directory: Path, runs: Sequence[Record], metric: Metric, style: dict[str, Any]) -> Any:
    found = [validations(directory, run.run_id, [metric.name]) for run in runs]
    by_epoch: dict[int, list[float]] = {}
    for epochs, (curve,) in found:
        for epoch, value in zip(epochs, curve, strict=True):
            by_epoch.setdefault(epoch, []).append(value)
    if not by_epoch:
        return None
    epochs = sorted(by_epoch)
    means = [fmean(by_epoch[epoch]) for epoch in epochs]
    (handle,) = panel.plot(epochs, means, **style, marker="o" if len(epochs) == 1 else None)
    if len(found) > 1:
        lows, highs = [min(by_epoch[e]) for e in epochs], [max(by_epoch[e]) for e in epochs]
        panel.fill_between(epochs, lows, highs, color=style["color"], alpha=0.15, linewidth=0)
    return handle


def _finish_panel(panel: Any, metric: Metric) -> None:
    values = [value for line in panel.lines for value in line.get_ydata()]
    if values and min(values) > 0 and max(values) > 4 * min(values):
        panel.set_yscale("log")
        panel.set_yticks(*_log_ticks(min(values), max(values)))
        panel.minorticks_off()
    panel.set_title(metric_title(metric))
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.grid(True)
    panel.tick_params(labelsize=8)


def _log_ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """1, 2, 5 times powers of ten, the powers alone on a long scale, the ends on a short one."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    digits = (1, 2, 5) if high < 100 * low else (1,)
    ticks = [digit * 10.0**decade for decade in decades for digit in digits]
    shown = [tick for tick in ticks if low <= tick <= high]
    if len(shown) < 2:
        shown = [low, math.sqrt(low * high), high]
    return shown, [f"{float(f'{tick:.3g}'):g}" for tick in shown]


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
    panel.set_yticks(range(len(tasks)), tasks, fontsize=8.5 if len(tasks) <= 20 else 7)
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


def _weight_caption(histories: Mapping[str, WeightHistory | None]) -> str:
    equal = [name for name, history in histories.items() if history and history.is_equal]
    absent = [name for name, history in histories.items() if history is None]
    return (
        "Colour: a task's share of all weights, as a multiple of the equal share 1/m, on a logarithmic scale. "
        "Red tasks get more than their equal share, blue ones less, white ones the same; grey: zero or negative. "
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
    for edge in range(1, len(tasks)):
        panel.axhline(edge - 0.5, color="white", linewidth=0.7)
    for group in range(1, history.count + 1):
        panel.scatter(
            [],
            [],
            marker="s",
            s=60,
            color=image.cmap(image.norm(group)),
            label=_group_name(group, history.count),
        )
    panel.legend(
        loc="lower left", bbox_to_anchor=(-0.02, 0.99), ncols=min(history.count, 6),
        columnspacing=0.7, handletextpad=0.0, fontsize=8.5, borderpad=0,
    )  # fmt: skip
    panel.set_yticks(range(len(tasks)), tasks, fontsize=8.5 if len(tasks) <= 20 else 7)
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
    ticks, labels = _log_ticks(image.norm.vmin, image.norm.vmax)
    bar.set_ticks(ticks, labels=labels)
    bar.minorticks_off()
    bar.outline.set_visible(False)


def _row_height(tasks: Sequence[str]) -> float:
    return 0.18 if len(tasks) <= 20 else 0.13
