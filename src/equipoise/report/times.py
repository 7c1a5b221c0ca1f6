"""Where the time of each method goes, and how its step compares with that of equal weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from equipoise.benchmark.published import published, published_benchmarks
from equipoise.benchmark.summary import MethodSummary, Spread, Summary

from .cells import Cell, Table
from .wording import decimals_for, listed, number, ranked, short_labels

UNIT = "ls"  # the method that step times are relative to
ROUGH_TIMES = "Times are rough where a machine did other work as well."
_LONG_WAIT = 0.05  # of the step time


@dataclass(frozen=True)
class Times:
    """Means over the seeds of a method, in seconds of a whole run.

    Args:
        method: label.
        steps: training steps, waiting for batches included.
        waiting: of these, waiting for batches; None in records of older versions.
        evaluation: looking at the validation and test part; None likewise.
        relative: time per step as a multiple of that of `UNIT` in the same directory; None without it.
        published: the same from the paper's table, where there is one.
    """

    method: str
    steps: float
    waiting: float | None
    evaluation: float | None
    relative: Spread | None
    published: float | None

    @property
    def computing(self) -> float | None:
        """Seconds in steps without waiting for batches."""
        return None if self.waiting is None else max(self.steps - self.waiting, 0.0)

    @property
    def waiting_share(self) -> float | None:
        """Waiting for batches as a share of the step time."""
        return None if self.waiting is None or self.steps <= 0 else self.waiting / self.steps


def times(summary: Summary) -> list[Times]:
    """One entry per method, in the order of the tables."""
    rows = ranked(summary)
    unit = next((row.seconds_per_step.mean for row in rows if row.method == UNIT), None)
    known = published(summary.plan.problem) if summary.plan.problem in published_benchmarks() else None
    return [
        Times(
            row.method,
            fmean(run.seconds for run in row.runs),
            _mean(run.data_seconds for run in row.runs),
            _mean(run.evaluation_seconds for run in row.runs),
            _relative(row, unit),
            known.relative_time(row.method) if known else None,
        )
        for row in rows
    ]


def time_table(summary: Summary) -> Table:
    """Seconds of a run by what they were spent on, a row per method."""
    found = times(summary)
    known = [value for entry in found for value in (entry.steps, entry.waiting, entry.evaluation) if value]
    digits = min(decimals_for([max(known, default=1.0)]), 2)
    rows = tuple(
        (
            Cell(entry.method),
            Cell(number(entry.steps, digits)),
            Cell(number(entry.computing, digits)),
            Cell(number(entry.waiting, digits)),
            Cell(number(None if (share := entry.waiting_share) is None else 100 * share, 1)),
            Cell(number(entry.evaluation, digits)),
        )
        for entry in found
    )
    header = (
        "method",
        "steps (s)",
        "computing (s)",
        "waiting for batches (s)",
        "waiting (% of steps)",
        "evaluation (s)",
    )
    notes = [
        "Seconds of one run, mean over seeds. Steps are computing and waiting for batches; evaluation comes on top. "
        f"–: not measured by the version that ran it. {ROUGH_TIMES}"
    ]
    return Table("times", "Seconds of a run", header, rows, (*notes, *waiting_sentences(summary)))


def waiting_sentences(summary: Summary) -> list[str]:
    """Whether the steps wait for their data, in at most one sentence; nothing where nobody measured it."""
    if all(entry.waiting_share is None for entry in times(summary)):
        return []
    limit = f"{100 * _LONG_WAIT:.0f} %"
    return long_waits(summary) or [f"No method waits for its batches for more than {limit} of its step time."]


def long_waits(summary: Summary) -> list[str]:
    """The methods that wait for their data for long, in at most one sentence."""
    names = short_labels(summary.plan.methods)
    shares = [(names[entry.method], entry.waiting_share or 0.0) for entry in times(summary)]
    long = [f"{name} ({100 * share:.1f} %)" for name, share in shares if share > _LONG_WAIT]
    limit = f"{100 * _LONG_WAIT:.0f} %"
    return (
        [f"More than {limit} of the step time goes into waiting for batches: {listed(long)}."] if long else []
    )


def _relative(row: MethodSummary, unit: float | None) -> Spread | None:
    if not unit:
        return None
    own = row.seconds_per_step
    return Spread(own.mean / unit, None if own.std is None else own.std / unit, own.n)


def _mean(values: Iterable[float | None]) -> float | None:
    found = list(values)
    known = [value for value in found if value is not None]
    return fmean(known) if known and len(known) == len(found) else None
