"""Run directories side by side: what differs in their plans, and by how much their methods differ over common seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from equipoise.benchmark.belonging import flat
from equipoise.benchmark.evidence import LEVEL, Estimate
from equipoise.benchmark.records import Plan, RunDirectoryError
from equipoise.benchmark.samples import Samples
from equipoise.benchmark.statistics import summarise
from equipoise.benchmark.summary import MethodSummary, Summary
from equipoise.training.comparison import compared, holm
from equipoise.training.task import Metric

Word = Literal["better", "worse", "tie", "unknown"]


@dataclass(frozen=True)
class MethodDifference:
    """A method in another run minus the same one in the first run; lower is better.

    Args:
        method: label.
        delta_m: difference in points, paired over the common seeds; None where a run has no delta_m.
        p_holm: p-value of the paired t test after Holm's correction over the common methods; None without a test.
        word: "better" or "worse" where `p_holm` is below 0.05, else "tie"; "unknown" where there is no test.
        metrics: metric -> relative change in percent, paired, signed so that lower is better.
    """

    method: str
    delta_m: Estimate | None
    p_holm: float | None
    word: Word
    metrics: Mapping[str, Estimate]


@dataclass(frozen=True)
class Side:
    """Another run beside the first one.

    Args:
        name: of its directory.
        summary: of it.
        methods: those in common, in the order of the first run.
    """

    name: str
    summary: Summary
    methods: tuple[MethodDifference, ...]


@dataclass(frozen=True)
class Beside:
    """Several runs.

    Args:
        name: of the first run's directory.
        summary: of the first run.
        sides: the other ones.
        plans: setting -> its value in each run, where they differ.
    """

    name: str
    summary: Summary
    sides: tuple[Side, ...]
    plans: Mapping[str, tuple[str, ...]]


def beside(directory: Path, others: Sequence[Path]) -> Beside:
    """Read run directories of one problem and compare the methods that they have in common.

    With the seeds s in both runs, the difference of delta_m is mean_s(other_s - first_s), and of a metric
    100 mean_s(other_s - first_s) / |mean_s first_s|, turned round where higher is better; both with the interval of
    the paired t test.

    Args:
        directory: that the other ones are compared with.
        others: at least one.

    Raises:
        RunDirectoryError: on a directory that is none, twice the same one, other problems or metrics, or no common
            method with finished runs.
    """
    every = [directory, *others]
    for path in every:
        if [one.resolve() for one in every].count(path.resolve()) > 1:
            raise RunDirectoryError(f"`--compare` should name other run directories. Found {path} twice.")
    names, summaries = _names(every), [summarise(path) for path in every]
    first = summaries[0]
    sides = tuple(
        _side(first, name, other, path)
        for name, other, path in zip(names[1:], summaries[1:], others, strict=True)
    )
    return Beside(names[0], first, sides, _plans([summary.plan for summary in summaries]))


def _side(first: Summary, name: str, other: Summary, path: Path) -> Side:
    _check(first.plan, other.plan, path)
    theirs = {row.method: row for row in other.methods}
    common = [row for row in first.methods if row.method in theirs]
    if not common:
        here = ", ".join(row.method for row in first.methods) or "none finished"
        raise RunDirectoryError(
            f"{path} should have a method in common with the first run, with finished runs in both. Found "
            f"{', '.join(theirs) or 'none finished'} there, {here} in the first one."
        )
    scores = _delta_scores(first, other)
    tests = {row.method: _paired(scores[1].get(row.method), scores[0].get(row.method)) for row in common}
    known = {method: p for method, (_, p) in tests.items() if p is not None}
    corrected = dict(zip(known, holm(list(known.values())), strict=True))
    found = tuple(
        MethodDifference(
            row.method,
            tests[row.method][0],
            corrected.get(row.method),
            _word(tests[row.method][0], corrected.get(row.method)),
            {
                metric.name: _relative(row, theirs[row.method], metric)
                for metric in first.plan.metrics
            },
        )
        for row in common
    )  # fmt: skip
    return Side(name, other, found)


def _check(first: Plan, other: Plan, path: Path) -> None:
    if other.problem != first.problem:
        raise RunDirectoryError(
            f"{path} should be of the problem {first.problem}, as the first run. Found {other.problem}: changes of "
            "other tasks cannot be compared."
        )
    if other.metrics != first.metrics:
        mine, theirs = ({metric.name for metric in plan.metrics} for plan in (first, other))
        odd = ", ".join(sorted(mine ^ theirs)[:5]) or "others in unit or direction"
        raise RunDirectoryError(
            f"{path} should have the metrics of the first run. Found a difference: {odd}. Compare runs of the "
            "same tasks."
        )


def _delta_scores(first: Summary, other: Summary) -> list[dict[str, dict[int, float]]]:
    """For each run method -> seed -> delta_m; empty where there is none."""
    if any(summary.baseline.missing or summary.baseline.source == "none" for summary in (first, other)):
        return [{}, {}]
    return [
        {row.method: dict(Samples(summary).scores(row)) for row in summary.methods}
        for summary in (first, other)
    ]


def _relative(first: MethodSummary, other: MethodSummary, metric: Metric) -> Estimate:
    mine, theirs = (
        {run.seed: run.metrics.get("test", {}).get(metric.name, math.nan) for run in row.runs}
        for row in (first, other)
    )
    common = [seed for seed in mine if seed in theirs] or list(mine)
    size = abs(fmean(mine[seed] for seed in common))
    if not size > 0:
        return Estimate(math.nan, None, None, len(common), "the value of the first run is 0 or not a number")
    factor = (-100 if metric.higher_is_better else 100) / size
    scaled = [{seed: factor * value for seed, value in values.items()} for values in (theirs, mine)]
    return _paired(*scaled)[0] or Estimate(math.nan, None, None, 0)


def _paired(
    other: Mapping[int, float] | None, first: Mapping[int, float] | None
) -> tuple[Estimate | None, float | None]:
    """Other minus first over the common seeds with interval and p-value; without them where there is no test."""
    if not other or not first:
        return None, None
    common = [seed for seed in first if seed in other]
    mine, theirs = [other[seed] for seed in common], [first[seed] for seed in common]
    if not all(map(math.isfinite, [*other.values(), *first.values()])):
        return Estimate(math.nan, None, None, len(common), "a value is not finite"), None
    if len(common) < 2:
        why = "one seed in common" if common else "no seed in common"
        return Estimate(fmean(other.values()) - fmean(first.values()), None, None, len(common), why), None
    test = compared(mine, theirs)
    return Estimate(test.mean, test.mean - test.half, test.mean + test.half, len(common)), test.p


def _word(estimate: Estimate | None, p: float | None) -> Word:
    if estimate is None or p is None:
        return "unknown"
    if not p < 1 - LEVEL:
        return "tie"
    return "better" if estimate.mean < 0 else "worse"


def _plans(plans: Sequence[Plan]) -> dict[str, tuple[str, ...]]:
    rows = [_settings(plan) for plan in plans]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    values = {key: tuple(row.get(key, "–") for row in rows) for key in keys}
    return {key: texts for key, texts in values.items() if any(a != b for a, b in pairwise(texts))}


def _settings(plan: Plan) -> dict[str, str]:
    listed = {
        "preset": plan.preset,
        "methods": ", ".join(plan.methods),
        "seeds": ", ".join(map(str, plan.seeds)),
        "learning rates": ", ".join(f"{lr:g}" for lr in plan.lrs),
        "tuning budget": str(plan.budget or "learning rates alone"),
        "baselines": plan.baselines,
        "source": plan.git or "not under git",
        **{f"version of {name}": str(value) for name, value in plan.versions.items()},
    }
    return listed | {name: _text(value) for name, value in flat(plan.config).items()}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _names(directories: Sequence[Path]) -> list[str]:
    """The names of the directories, with their parents where two would be the same."""
    short = [path.resolve().name for path in directories]
    long = ["-".join(path.resolve().parts[-2:]) for path in directories]
    return [one if short.count(one) == 1 else other for one, other in zip(short, long, strict=True)]
