"""What the runs of a question say: a score for each seed, paired differences, and an answer to each comparison."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Literal

import torch

from equipoise.benchmark.records import Record, RunDirectoryError
from equipoise.benchmark.statistics import summarise
from equipoise.benchmark.summary import MethodSummary, Summary
from equipoise.core.grouping import Grouping
from equipoise.training.comparison import Comparison, compared, holm
from equipoise.training.metrics import delta_m

from .asking import ArmPlan
from .partition import Groups, groups_of_run, logged_groups
from .plan import StudyError
from .question import Arm, Contrast, Question, Variant
from .risks import run_convergence

LEVEL = 0.05
_TIMED_DRAWS = 20
Said = Literal["yes", "no", "cannot be told"]


@dataclass(frozen=True)
class Row:
    """What the runs of a variant came to.

    Args:
        variant: which.
        scores: seed -> delta_m of the test metrics, in percent; lower is better. Runs that diverged are left out.
        runs: the finished runs, by seed.
        groups: how its groups moved, mean over the seeds; None without groups.
        seconds: of a step, mean over the seeds; NaN without a run.
        memory: peak in MB, or None.
        convergence: seed -> convergence difference in epochs; may be empty.
        failed: why seeds have no score, a line each.
    """

    variant: Variant
    scores: Mapping[int, float]
    runs: tuple[Record, ...]
    groups: Groups | None
    seconds: float
    memory: float | None
    convergence: Mapping[int, float]
    failed: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """The answer to one comparison.

    Args:
        contrast: what was compared.
        comparison: the difference of these and those over the common seeds, lower is better; None without a seed.
        p: after Holm's correction over all comparisons of the study; 1 where there is no test.
        visible: the smallest observed difference that would have had a p-value below 5 % after a correction for all
            of them; a true one of that size is missed half of the time.
        said: "yes" if these are better, "no" if those are.
    """

    contrast: Contrast
    comparison: Comparison | None
    p: float
    visible: float
    said: Said

    @property
    def sentence(self) -> str:
        """The answer in a sentence, with its numbers."""
        if self.comparison is None:
            return "Cannot be told: no seed on which all of these variants ended well."
        seen = f"{self.comparison.mean:+.1f} points of delta_m"
        if not self.comparison.freedom:
            return f"Cannot be told: one seed ({seen}) says nothing about another one; add seeds."
        low, high = (self.comparison.mean + side * self.comparison.half for side in (-1, 1))
        interval = f"{seen}, 95 % interval {low:+.1f} to {high:+.1f}"
        if self.said == "cannot be told":
            return f"Cannot be told ({interval}); an observed difference of {self.visible:.1f} would have been clear."
        return f"{self.said.capitalize()} ({interval}; p = {self.p:.2g} after Holm's correction)."


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
    """

    question: Question
    arms: tuple[ArmResult, ...]


def answer(question: Question, directory: Path, plans: Sequence[ArmPlan]) -> Result:
    """Read the runs of a study and answer its comparisons; p-values are corrected over all arms together.

    Raises:
        StudyError: if no run of an arm has ended well.
    """
    arms = [_arm(directory / planned.arm.name, planned) for planned in plans]
    found = [
        (arm, contrast, _compared(arm, contrast))
        for arm, planned in zip(arms, plans, strict=True)
        for contrast in question.asked(planned.facts)
    ]
    tested = [one for _, _, one in found if one is not None and one.freedom]
    corrected = iter(holm([one.p for one in tested]))
    answers: dict[str, list[Answer]] = {arm.arm.name: [] for arm in arms}
    for arm, contrast, one in found:
        p = next(corrected) if one is not None and one.freedom else 1.0
        answers[arm.arm.name].append(_answer(contrast, one, p, len(tested)))
    timed = "memory" in question.looks
    done = (
        replace(
            arm,
            answers=tuple(answers[arm.arm.name]),
            grouping=grouping_seconds(planned.facts.tasks) if timed else None,
        )
        for arm, planned in zip(arms, plans, strict=True)
    )
    return Result(question, tuple(done))


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


def _answer(contrast: Contrast, comparison: Comparison | None, p: float, tests: int) -> Answer:
    if comparison is None or not comparison.freedom:
        return Answer(contrast, comparison, 1.0, math.inf, "cannot be told")
    clear = p < LEVEL
    said: Said = "cannot be told" if not clear else "yes" if comparison.mean < 0 else "no"
    return Answer(contrast, comparison, p, comparison.visible(LEVEL / tests), said)


def _compared(arm: ArmResult, contrast: Contrast) -> Comparison | None:
    """The difference of the mean scores over the seeds that all variants have."""
    these, those = ([arm.row(name).scores for name in names] for names in (contrast.these, contrast.those))
    seeds = sorted(set.intersection(*(set(scores) for scores in (*these, *those))))
    if not seeds:
        return None
    sides = [[fmean(scores[seed] for scores in side) for seed in seeds] for side in (these, those)]
    return compared(*sides)


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
        groups=Groups.mean(moved) if moved else None,
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
