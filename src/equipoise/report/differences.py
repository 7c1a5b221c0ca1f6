"""Run directories side by side: what differs in their plans, and by how much their methods differ over common seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from equipoise.benchmark.belonging import flat
from equipoise.benchmark.evidence import Estimate
from equipoise.benchmark.records import Plan, RunDirectoryError
from equipoise.benchmark.samples import Samples
from equipoise.benchmark.statistics import summarise
from equipoise.benchmark.summary import MethodSummary, Summary
from equipoise.training.comparison import NO_SEED, SAME, Verdict, judged, paired, verdict_on
from equipoise.training.task import Metric


@dataclass(frozen=True)
class MethodDifference:
    """A method in another run minus the same one in the first run; lower is better.

    Args:
        method: label.
        delta_m: difference in points, paired over the common seeds, both sides relative to the single-task networks of
            the first run; None where that has none.
        p_holm: p-value of the paired t test after Holm's correction over the common methods; None without a test.
        word: "better" or "worse" where `p_holm` is below 0.05, else "tie"; "unknown" where there is no test.
        metrics: metric -> relative change in percent, paired, signed so that lower is better.
    """

    method: str
    delta_m: Estimate | None
    p_holm: float | None
    word: Verdict
    metrics: Mapping[str, Estimate]

    @property
    def same(self) -> bool:
        """Whether both sides are the same runs."""
        return self.delta_m is not None and self.delta_m.why == SAME


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
    the paired t test. Both delta_m are relative to the mean single-task values of the first run, so that these are the
    same numbers on both sides: relative to each run's own, a difference of single-task networks would count as one of
    the method, and their spread, which no seed pairs, would not be seen.

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
    scores = [(_scores(first, theirs[row.method]), _scores(first, row)) for row in common]
    family = judged([paired(*sides) for sides in scores])
    found = tuple(
        MethodDifference(
            row.method,
            _estimate(*sides),
            None if one.test.why else one.p,
            verdict_on(one),
            {metric.name: _relative(row, theirs[row.method], metric) for metric in first.plan.metrics},
        )
        for row, sides, one in zip(common, scores, family, strict=True)
    )
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


def _scores(first: Summary, row: MethodSummary) -> dict[int, float]:
    """Seed -> delta_m of a row of either run, by the first run's single-task values; empty where that has none."""
    if first.baseline.missing or first.baseline.source == "none":
        return {}
    samples = Samples(first)
    scores = samples.changes(samples.values(row), samples.baseline).mean(dim=1)
    return dict(zip([run.seed for run in row.runs], scores.tolist(), strict=True))


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
    return _estimate(*scaled) or Estimate(math.nan, None, None, 0)


def _estimate(other: Mapping[int, float], first: Mapping[int, float]) -> Estimate | None:
    """Other minus first with the interval of the paired test; None where a side has nothing."""
    if not other or not first:
        return None
    estimate = Estimate.of(paired(other, first))
    if estimate.why == NO_SEED:  # each mean is known, but nothing of how they differ
        return replace(estimate, mean=fmean(other.values()) - fmean(first.values()))
    return estimate


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
