"""Figures of how tasks progress: convergence difference against score, curves of tasks, and shares of the risks."""

from __future__ import annotations

import math
from statistics import fmean
from typing import Any

from equipoise.benchmark.logs import validations
from equipoise.study.answers import ArmResult, Result, Row
from equipoise.study.risks import Risks, risks_of_run

from .style import Canvas, Plot, cycle

_TASKS = 20  # tasks that are still told apart


def scatter(found: Result, canvas: Canvas) -> Plot | None:
    """The convergence difference of each run against its score."""
    rows = [row for row in found.arms[0].rows if row.convergence and row.scores]
    if "convergence" not in found.question.looks or len(rows) < 2:
        return None
    figure = canvas(7.4, 4.2)
    axes = figure.subplots()
    for row, look in zip(rows, cycle(len(rows)), strict=True):
        seeds = sorted(set(row.convergence) & set(row.scores))
        points = [(row.convergence[seed], row.scores[seed]) for seed in seeds]
        axes.scatter(
            *zip(*points, strict=True), color=look.colour, marker=look.marker, label=row.variant.name
        )
    axes.set_xlabel("convergence difference (epochs)")
    axes.set_ylabel("Δm (%)   ← better")
    axes.grid(True)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    caption = (
        "A mark for each run. Convergence difference: standard deviation over the tasks of the epoch from which the "
        f"validation metric stays within {100 * found.arms[0].summary.tolerance:g} % of its total improvement of its "
        "best."
    )
    return Plot(
        "convergence_difference", "Convergence difference against score", caption, figure, "A mark per run."
    )


def curves(found: Result, canvas: Canvas) -> Plot | None:
    """How far each task is on its way, a panel for each of three methods."""
    arm = found.arms[0]
    if "convergence" not in found.question.looks:
        return None
    drawn = [(row, way) for row in _named(arm, "uw", "famo", "go4align") if (way := _progress(arm, row))]
    if not drawn:
        return None
    figure = canvas(9.4, 3.2)
    panels = figure.subplots(1, len(drawn), squeeze=False, sharey=True)[0]
    tasks = [task.name for task in arm.summary.plan.tasks]
    for panel, (row, (epochs, lines)) in zip(panels, drawn, strict=True):
        for name, line, look in zip(tasks, lines, cycle(len(tasks)), strict=True):
            panel.plot(epochs, line, color=look.colour, linestyle=look.dash, linewidth=1.2, label=name)
        difference = fmean(row.convergence.values())
        panel.set_title(f"{row.variant.name}: {difference:.1f} epochs apart")
        panel.set_xlabel("epoch")
        panel.grid(True)
    panels[0].set_ylabel("share of the improvement")
    if len(tasks) <= _TASKS:
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=8)
    caption = (
        "The validation metric of each task on its way from its first value, 0, to its best, 1; first seed. Above: the "
        "convergence difference, mean over the seeds."
    )
    title = "How the tasks converge, as Fig. 2 of the GO4Align paper"
    return Plot("task_curves", title, caption, figure, f"Lines of {len(tasks)} tasks over epochs.")


def _named(arm: ArmResult, *names: str) -> list[Row]:
    """The variants of these names that have a run, in this order."""
    return [row for name in names for row in arm.rows if row.variant.name == name and row.runs]


def _progress(arm: ArmResult, row: Row) -> tuple[list[int], list[list[float]]] | None:
    leading = [task.metrics[0] for task in arm.summary.plan.tasks]
    epochs, values = validations(arm.directory, row.runs[0].run_id, [metric.name for metric in leading])
    if len(epochs) < 2:
        return None
    lines = []
    for curve, metric in zip(values, leading, strict=True):
        best = max(curve) if metric.higher_is_better else min(curve)
        lines.append([(value - curve[0]) / (best - curve[0]) if best != curve[0] else 1.0 for value in curve])
    return epochs, lines


def shares(found: Result, canvas: Canvas) -> Plot | None:
    """Shares of the risks before and after weighting, stacked, for some methods."""
    arm = found.arms[0]
    if "convergence" not in found.question.looks:
        return None
    tasks = [task.name for task in arm.summary.plan.tasks]
    drawn = [
        (row, risks)
        for row in _named(arm, "uw", "mgda", "nashmtl", "famo", "go4align")
        if (risks := risks_of_run(arm.directory, row.runs[0].run_id, tasks))
    ]
    if not drawn:
        return None
    figure = canvas(9.4, 4.6)
    panels = figure.subplots(2, len(drawn), squeeze=False, sharex=True, sharey=True)
    for (upper, lower), (row, risks) in zip(panels.T, drawn, strict=True):
        upper.set_title(row.variant.name)
        _stack(upper, risks.steps, risks.before)
        _stack(lower, risks.steps, risks.after)
        lower.set_xlabel("step")
    panels[0][0].set_ylabel("share of the risks")
    panels[1][0].set_ylabel("after weighting")
    caption = (
        f"Shares of the {len(tasks)} tasks in the sum of all losses, stacked in the order of the tasks: as they are, "
        "and times the weights. First seed, means over neighbouring steps. Even bands: no task dominates."
    )
    title = "Risk ratios over training, as Fig. 8 of the GO4Align paper"
    return Plot("risk_ratios", title, caption, figure, "Stacked bands of the tasks over training steps.")


def _stack(panel: Any, steps: tuple[float, ...], rows: tuple[tuple[float, ...], ...]) -> None:
    colours = [look.colour for look in cycle(len(rows[0]))]
    panel.stackplot(steps, *zip(*rows, strict=True), colors=colours, edgecolor="white", linewidth=0.3)
    panel.set_ylim(0, 1)
    if len(steps) > 1:
        panel.set_xlim(steps[0], steps[-1])


def mean_risks(arm: ArmResult, row: Row) -> tuple[float, float, float] | None:
    """Imbalance before and after weighting, and unrest after it, mean over the seeds; None without logs."""
    tasks = [task.name for task in arm.summary.plan.tasks]
    found: list[Risks] = [
        risks for run in row.runs if (risks := risks_of_run(arm.directory, run.run_id, tasks)) is not None
    ]
    if not found or not all(math.isfinite(one.unrest) for one in found):
        return None
    return (
        fmean(one.imbalance[0] for one in found),
        fmean(one.imbalance[1] for one in found),
        fmean(one.unrest for one in found),
    )
