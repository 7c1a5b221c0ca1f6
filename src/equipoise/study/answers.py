"""What the runs of a question say: a score for each seed, paired differences, and an answer to each comparison."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median

import torch

from equipoise.benchmark.records import Record, RunDirectoryError
from equipoise.benchmark.statistics import summarise
from equipoise.benchmark.summary import MethodSummary, Summary
from equipoise.core.grouping import Grouping
from equipoise.training.comparison import Comparison, Judged, OneTest, compared, judged
from equipoise.training.metrics import delta_m

from .asking import ArmPlan
from .correlation import PermutedCorrelation, correlated
from .partition import Groups, groups_of_run, logged_groups
from .plan import StudyError
from .question import Arm, Contrast, Question, Variant
from .risks import run_convergence
from .said import Answer, Together, said

_TIMED_DRAWS = 20
_Sides = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Row:
    """What the runs of a variant came to.

    Args:
        variant: which.
        scores: seed -> delta_m of the test metrics, in percent; lower is better. Runs that diverged are left out.
        runs: the finished runs, by seed.
        moved: how its groups moved, for each seed; empty without groups.
        seconds: of a step, mean over the seeds; NaN without a run.
        memory: peak in MB, or None.
        convergence: seed -> convergence difference in epochs; may be empty.
        failed: why seeds have no score, a line each.
    """

    variant: Variant
    scores: Mapping[int, float]
    runs: tuple[Record, ...]
    moved: tuple[Groups, ...]
    seconds: float
    memory: float | None
    convergence: Mapping[int, float]
    failed: tuple[str, ...]

    @property
    def groups(self) -> Groups | None:
        """How its groups moved, mean over the seeds; None without groups."""
        return Groups.mean(self.moved) if self.moved else None


@dataclass(frozen=True)
class ArmResult:
    """All about one arm.

    Args:
        arm: which.
        directory: of its runs.
        known: the true group of each task, or None.
        summary: of its directory.
        rows: of all variants, in their order.
        answers: to the comparisons.
        against: what scores are relative to, in words.
        grouping: seconds that GO4Align's grouping of so many numbers takes alone; None where it was not timed.
    """

    arm: Arm
    directory: Path
    known: tuple[int, ...] | None
    summary: Summary
    rows: tuple[Row, ...]
    answers: tuple[Answer, ...]
    against: str
    grouping: float | None = None

    def row(self, name: str) -> Row:
        """The row of a variant."""
        return next(row for row in self.rows if row.variant.name == name)


@dataclass(frozen=True)
class Result:
    """What a study found.

    Args:
        question: that was asked.
        arms: in their order.
        together: how scores go with the convergence of tasks; None in studies that do not ask it.
    """

    question: Question
    arms: tuple[ArmResult, ...]
    together: Together | None = None


def answer(question: Question, directory: Path, plans: Sequence[ArmPlan]) -> Result:
    """Read the runs of a study and answer its comparisons; p-values are corrected over all arms together.

    Comparisons of which the scores of both sides are the same, as of variants that are one method, are one test.

    Raises:
        StudyError: if no run of an arm has ended well.
    """
    arms = [_arm(directory / planned.arm.name, planned) for planned in plans]
    asked = [question.asked(planned.facts) for planned in plans]
    sides = [[_sides(arm, one) for one in contrasts] for arm, contrasts in zip(arms, asked, strict=True)]
    tests = {one: compared(*one) for some in sides for one in some}
    seeds, correlation = _correlation(arms[0]) if "convergence" in question.looks else (0, None)
    every: list[OneTest] = [*tests.values(), *([correlation] if correlation else [])]
    family = judged(every)
    by_sides = dict(zip(tests, family, strict=False))
    timed = "memory" in question.looks
    done = []
    for arm, planned, contrasts, some in zip(arms, plans, asked, sides, strict=True):
        answers = tuple(
            _answer(contrast, tests[one], by_sides[one])
            for contrast, one in zip(contrasts, some, strict=True)
        )
        seconds = grouping_seconds(planned.facts.tasks) if timed else None
        done.append(replace(arm, answers=answers, grouping=seconds))
    together = _together(correlation, seeds, family[-1]) if correlation else None
    return Result(question, tuple(done), together)


def _answer(contrast: Contrast, comparison: Comparison, one: Judged[OneTest]) -> Answer:
    return Answer(contrast, comparison, one.p, one.visible, said(one.clear, comparison.mean < 0))


def _together(correlation: PermutedCorrelation, seeds: int, one: Judged[OneTest]) -> Together:
    return Together(correlation, seeds, one.p, one.visible, said(one.clear, correlation.r > 0))


def grouping_seconds(tasks: int) -> float:
    """The median time of finding five groups in so many numbers by exact k-means, over 20 draws."""
    grouping = Grouping(tasks, min(5, tasks))
    generator = torch.Generator().manual_seed(0)
    times = []
    for _ in range(_TIMED_DRAWS + 1):  # the first one warms up
        numbers = torch.rand(tasks, generator=generator, dtype=torch.float64)
        began = time.perf_counter()
        grouping(numbers, None)
        times.append(time.perf_counter() - began)
    return median(times[1:])


def _sides(arm: ArmResult, contrast: Contrast) -> _Sides:
    """The mean scores of both sides over the seeds that all variants have."""
    these, those = ([arm.row(name).scores for name in names] for names in (contrast.these, contrast.those))
    seeds = sorted(set.intersection(*(set(scores) for scores in (*these, *those))))
    first, second = (
        tuple(fmean(scores[seed] for scores in side) for seed in seeds) for side in (these, those)
    )
    return first, second


def _correlation(arm: ArmResult) -> tuple[int, PermutedCorrelation]:
    """Of the means of each method over the seeds that all of them have, and how many seeds these are.

    Seeds move all methods together, so that the runs of one are not points of their own.
    """
    known = [row for row in arm.rows if row.convergence and row.scores]
    seeds = (
        sorted(set.intersection(*(set(row.convergence) & set(row.scores) for row in known))) if known else []
    )
    points = [
        (fmean(row.convergence[seed] for seed in seeds), fmean(row.scores[seed] for seed in seeds))
        for row in (known if seeds else [])
    ]
    found = correlated(points)
    if len(seeds) < 2 and known:
        why = (
            "one seed says nothing about another one; add seeds"
            if seeds
            else "no seed on which all methods ended well"
        )
        found = PermutedCorrelation(found.r, found.low, found.high, len(known), why)
    return len(seeds), found


def _arm(directory: Path, planned: ArmPlan) -> ArmResult:
    try:
        summary = summarise(directory)
    except RunDirectoryError as error:
        raise StudyError(str(error)) from error
    references, said = _references(summary)
    by_method = {method.method: method for method in summary.methods}
    rows = tuple(
        _row(variant, by_method.get(variant.label), summary, directory, (references, planned.facts.known))
        for variant in planned.variants
    )
    if not any(row.scores for row in rows):
        raise StudyError(
            f"At least one run of {directory} should have ended well. Found none: its records.jsonl says why."
        )
    return ArmResult(planned.arm, directory, planned.facts.known, summary, rows, (), said)


def _references(summary: Summary) -> tuple[dict[str, float], str]:
    """What each metric is relative to: single-task networks, or the fixed values of the problem."""
    baseline = summary.baseline
    if baseline.values and not baseline.missing:
        names = set(baseline.values) - set(baseline.left_out)
        own = "own single-task networks" if baseline.source == "own" else "published single-task networks"
        return {name: baseline.values[name].mean for name in names}, own
    fixed: Mapping[str, float] = summary.plan.config["reference"]
    return dict(fixed), "the fixed reference values of the problem"


def _row(
    variant: Variant,
    method: MethodSummary | None,
    summary: Summary,
    directory: Path,
    known: tuple[Mapping[str, float], tuple[int, ...] | None],
) -> Row:
    references, groups = known
    runs = method.runs if method else ()
    scores = {run.seed: _score(run, summary, references) for run in runs}
    tasks = [task.name for task in summary.plan.tasks]
    histories = [logged_groups(directory, run.run_id, tasks) for run in runs]
    moved = [found for history in histories if (found := groups_of_run(history, groups)) is not None]
    failed = [f"seed {run.seed}: {run.error}" for run in summary.failed if run.method == variant.label]
    failed += [f"seed {seed}: a metric is not finite" for seed, value in scores.items() if math.isnan(value)]
    return Row(
        variant=variant,
        scores={seed: value for seed, value in scores.items() if not math.isnan(value)},
        runs=runs,
        moved=tuple(moved),
        seconds=fmean(run.seconds_per_step for run in runs) if runs else math.nan,
        memory=method.peak_memory_mb if method else None,
        convergence=_convergence(directory, summary, runs),
        failed=tuple(failed),
    )


def _score(run: Record, summary: Summary, references: Mapping[str, float]) -> float:
    metrics = [metric for metric in summary.plan.metrics if metric.name in references]
    values = [run.metrics.get("test", {}).get(metric.name, math.nan) for metric in metrics]
    if not all(map(math.isfinite, values)):
        return math.nan
    return delta_m(
        values,
        [references[metric.name] for metric in metrics],
        [metric.higher_is_better for metric in metrics],
    )


def _convergence(directory: Path, summary: Summary, runs: Sequence[Record]) -> dict[int, float]:
    found = {run.seed: run_convergence(directory, summary, run.run_id) for run in runs}
    return {seed: value for seed, value in found.items() if value is not None}
