"""From a run directory to one summary per method: means and spreads over seeds, delta_m, ranks, cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from equipoise.training.metrics import (
    convergence_difference,
    convergence_epoch,
    delta_m,
    mean_rank,
    relative_changes,
)
from equipoise.training.task import Metric

from .belonging import check_records
from .cost import per_step, setting_text
from .logs import validations
from .order import left, pending
from .published import published, published_benchmarks
from .records import Baselines, Plan, Record, RunDirectoryError, read_plan, read_records
from .runs import chosen, of_setting
from .summary import Baseline, MethodSummary, Spread, Summary

LEARNT_MARGIN = 0.2
_NAMED = 12  # of a list of tasks in a sentence; the others are counted


def summarise(directory: Path, *, baselines: Baselines | None = None, tolerance: float = 0.05) -> Summary:
    """Read a run directory, complete or not, and take means over the seeds.

    Of each method only the setting (learning rate, or trial of a budget) with the best validation score on the first
    seed counts, and of a budget only the runs that have read the test part. `delta_m` is
    taken per seed against the mean over seeds of the single-task runs at their own chosen learning rates, over the
    metrics whose single-task value is above 0: a change relative to R2 = -0.1 says nothing.

    Args:
        directory: with `plan.json` and `records.jsonl`.
        baselines: "own" single-task runs, "published" constants or "none"; None takes what the plan says.
        tolerance: of `equipoise.training.metrics.convergence_epoch`.

    Raises:
        RunDirectoryError: without a plan or a single record, and on records of another plan.
    """
    plan = read_plan(directory)
    records = _records(directory, plan)
    done = [record for record in records if record.status == "ok"]
    own = {task.name: _chosen([r for r in done if r.task == task.name], plan) for task in plan.tasks}
    baseline = _baseline(plan, own, baselines or plan.baselines)
    found = {m: _chosen([r for r in done if r.task is None and r.method == m], plan) for m in plan.methods}
    with_runs = {method: runs for method, runs in found.items() if runs}
    means = {
        method: [_mean(runs, metric.name) for metric in plan.metrics] for method, runs in with_runs.items()
    }
    ranks = mean_rank(means, _directions(plan)) if means else {}
    methods = [
        _method(directory, plan, runs, baseline, ranks[method], tolerance)
        for method, runs in with_runs.items()
    ]
    return Summary(
        plan=plan,
        records=records,
        methods=tuple(methods),
        baseline=baseline,
        baseline_runs=own,
        failed=tuple(record for record in records if record.status == "failed"),
        missing=_missing(plan, records),
        tolerance=tolerance,
    )


def _records(directory: Path, plan: Plan) -> tuple[Record, ...]:
    """The records of a plan, the last one where a run was repeated."""
    lines = read_records(directory)
    check_records(directory, plan, lines)
    if not lines:
        raise RunDirectoryError(
            f"{directory} should hold at least one finished run. Found no line in records.jsonl; "
            "wait for `equipoise bench` to finish one, or start it again."
        )
    return tuple({record.run_id: record for record in lines}.values())


def _method(
    directory: Path, plan: Plan, runs: tuple[Record, ...], baseline: Baseline, rank: float, tolerance: float
) -> MethodSummary:
    metrics = {m.name: Spread.of(_value(run, m.name) for run in runs) for m in plan.metrics}
    changes, scores = _against(plan, runs, baseline)
    differences, epochs = _convergence(directory, plan, runs, tolerance)
    memory = [run.peak_memory_mb for run in runs if run.peak_memory_mb is not None]
    return MethodSummary(
        method=runs[0].method,
        lr=runs[0].lr,
        runs=runs,
        metrics=metrics,
        not_learnt=_not_learnt(plan.metrics, runs, metrics),
        changes=changes,
        delta_m=scores,
        mean_rank=rank,
        convergence=Spread.of(differences) if differences else None,
        convergence_epochs=epochs,
        seconds_per_step=Spread.of(run.seconds_per_step for run in runs),
        peak_memory_mb=max(memory, default=None),
        fallbacks=sum(run.fallbacks for run in runs),
        forwards=per_step(runs, "forwards"),
        backwards=per_step(runs, "backwards"),
        setting=setting_text(runs[0]),
    )


def _chosen(runs: Sequence[Record], plan: Plan) -> tuple[Record, ...]:
    """The runs with the setting whose first-seed run validates best, by seed."""
    best = chosen(plan, runs) or next(iter(runs), None)
    if best is None:
        return ()
    read = [run for run in runs if of_setting(run, best) and (run.trial is None or "test" in run.metrics)]
    return tuple(sorted(read, key=lambda run: run.seed))


def _baseline(plan: Plan, runs: Mapping[str, tuple[Record, ...]], source: Baselines) -> Baseline:
    if source == "none":
        return Baseline("none", {}, frozenset(), "single-task networks were not asked for")
    return _own(plan, runs) if source == "own" else _published(plan)


def _own(plan: Plan, runs: Mapping[str, tuple[Record, ...]]) -> Baseline:
    values: dict[str, Spread] = {}
    not_learnt: frozenset[str] = frozenset()
    for task in plan.tasks:
        found = runs[task.name]
        own = {m.name: Spread.of(_value(run, m.name) for run in found) for m in task.metrics if found}
        values |= own
        not_learnt |= _not_learnt(task.metrics, found, own)
    absent = [task.name for task in plan.tasks if not runs[task.name]]
    left_out = tuple(
        metric.name
        for task in plan.tasks
        for metric in task.metrics
        if any(_value(run, metric.name) <= 0 for run in runs[task.name])
    )
    reason = f"no finished single-task run of {_listed(absent)}" if absent else None
    if not reason and len(left_out) == len(plan.metrics):
        reason = "no single-task value is above 0"
    return Baseline("own", values, not_learnt, reason, left_out)


def _published(plan: Plan) -> Baseline:
    names = tuple(metric.name for metric in plan.metrics)
    if plan.problem not in published_benchmarks():
        return Baseline("published", {}, frozenset(), f"no published single-task numbers of {plan.problem}")
    found = dict(zip(names, published(plan.problem).baseline(names), strict=True))
    absent = [name for name, value in found.items() if value is None]
    reason = f"no published single-task numbers of {_listed(absent)}" if absent else None
    values = {name: Spread(value, None, 1) for name, value in found.items() if value is not None}
    return Baseline("published", values, frozenset(), reason)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _against(
    plan: Plan, runs: tuple[Record, ...], baseline: Baseline
) -> tuple[dict[str, float], Spread | None]:
    left_out = frozenset(baseline.left_out)
    usable = [m for m in plan.metrics if m.name in baseline.values and m.name not in left_out]
    references = [baseline.values[metric.name].mean for metric in usable]
    higher = [metric.higher_is_better for metric in usable]
    if not usable:
        return {}, None
    means = relative_changes([_mean(runs, metric.name) for metric in usable], references, higher)
    changes = {metric.name: change for metric, change in zip(usable, means, strict=True)}
    if baseline.missing:
        return changes, None
    rows = ([_value(run, metric.name) for metric in usable] for run in runs)
    return changes, Spread.of(delta_m(row, references, higher) for row in rows)


def _convergence(
    directory: Path, plan: Plan, runs: tuple[Record, ...], tolerance: float
) -> tuple[list[float], dict[str, float]]:
    """Per run the convergence difference over the tasks' first metrics, per task the mean epoch."""
    leading = {task.name: task.metrics[0] for task in plan.tasks}
    directions = [metric.higher_is_better for metric in leading.values()]
    differences: list[float] = []
    found: dict[str, list[int]] = {name: [] for name in leading}
    for run in runs:
        epochs, curves = validations(directory, run.run_id, [metric.name for metric in leading.values()])
        if not epochs:
            continue
        differences.append(
            convergence_difference(curves, higher_is_better=directions, tolerance=tolerance, epochs=epochs)
        )
        for name, curve, higher in zip(leading, curves, directions, strict=True):
            found[name].append(
                convergence_epoch(curve, higher_is_better=higher, tolerance=tolerance, epochs=epochs)
            )
    return differences, {name: fmean(values) for name, values in found.items() if values}


def _not_learnt(
    asked: Sequence[Metric], runs: Sequence[Record], metrics: Mapping[str, Spread]
) -> frozenset[str]:
    names = []
    for metric in asked:
        trivial = [run.metrics.get("trivial", {}).get(metric.name) for run in runs]
        known = [value for value in trivial if value is not None]
        if metric.name not in metrics or not known:
            continue
        guess = fmean(known)
        gain = (
            metrics[metric.name].mean - guess
            if metric.higher_is_better
            else guess - metrics[metric.name].mean
        )
        if not gain >= LEARNT_MARGIN * _size(metric, guess):  # also true of NaN
            names.append(metric.name)
    return frozenset(names)


def _size(metric: Metric, guess: float) -> float:
    """What the margin is relative to: the trivial guess, or, of a metric that is at most 1 or 100 %, the room above it.

    The smaller of the two counts, and the whole scale where the guess is worth nothing, as for R2.
    """
    scale = 100.0 if metric.unit == "%" else 1.0
    if not metric.higher_is_better or guess >= scale:
        return abs(guess)
    return min(guess, scale - guess) if guess > 0 else scale


def _missing(plan: Plan, records: Sequence[Record]) -> tuple[str, ...]:
    runs = [run.run_id for run in pending(plan, records)]
    waiting = left(plan, records) - len(runs)
    if waiting:
        runs.append(f"{waiting} on the other seeds, once the learning rates are chosen")
    return tuple(runs)


def _value(run: Record, metric: str) -> float:
    return run.metrics.get("test", {}).get(metric, math.nan)


def _mean(runs: Sequence[Record], metric: str) -> float:
    return fmean(_value(run, metric) for run in runs)


def _directions(plan: Plan) -> list[bool]:
    return [metric.higher_is_better for metric in plan.metrics]
