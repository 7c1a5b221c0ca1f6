"""Which runs of a plan can be started now, and how many are still to come."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .matched import matched
from .records import Plan, Record
from .runs import COMPUTE, Run, base_label, candidates, chosen, entries, settings


@dataclass(frozen=True)
class _Left:
    """What is left of a row: its runs on the first seed, those after them, and how many wait for others to end."""

    first: list[Run]
    later: list[Run]
    waiting: int


class _Done:
    """The records of a plan, the last one where a run was repeated."""

    def __init__(self, plan: Plan, records: Iterable[Record]) -> None:
        self._plan = plan
        self.records = {record.run_id: record for record in records}

    def first(self, label: str, task: str | None) -> tuple[list[Run], Record | None]:
        """The runs on the first seed that are still to come, and the chosen one once there is none."""
        plan = self._plan
        runs = candidates(plan, label, task, plan.seeds[0], test=plan.budget is None)
        missing = [run for run in runs if run.run_id not in self.records]
        ended = [self.records[run.run_id] for run in runs if run.run_id in self.records]
        return missing, None if missing else chosen(plan, ended)

    def finished(self, run: Run) -> bool:
        """Whether a run has ended, with the test part read unless it failed."""
        record = self.records.get(run.run_id)
        if record is None or self._plan.budget is None:
            return record is not None
        return record.status == "failed" or "test" in record.metrics


def pending(plan: Plan, records: Iterable[Record]) -> list[Run]:
    """The runs that can be started now, in order.

    Every method, and every single-task baseline, first runs with each setting (learning rate, or trial of the tuning
    budget) on the first seed. The one with the lowest validation score then runs on the other seeds. With a budget, the
    test part has not been read until then: the chosen trial goes on from its end and reads it. Rows at the compute of
    `ls` come when the settings of their method and of `ls` are chosen. A method that fails with every one of several
    settings is left at that: there is none to take to the other seeds.
    """
    rows = _rows(plan, records)
    return [run for row in rows for run in row.first] + [run for row in rows for run in row.later]


def left(plan: Plan, records: Iterable[Record]) -> int:
    """How many runs are still to come, those that cannot be started yet included."""
    return sum(len(row.first) + len(row.later) + row.waiting for row in _rows(plan, records))


def spent(plan: Plan, records: Iterable[Record], record: Record) -> list[str]:
    """The runs whose checkpoints nobody needs any more, now that there is this record.

    Of the trials of a row only the best so far may still be asked to read the test part.
    """
    if record.trial is None or record.status != "ok" or "test" in record.metrics:
        return [record.run_id]
    row = [one for one in records if one.method == record.method and "test" not in one.metrics]
    kept = chosen(plan, row)
    return [one.run_id for one in row if kept is None or one.run_id != kept.run_id]


def _rows(plan: Plan, records: Iterable[Record]) -> list[_Left]:
    done = _Done(plan, records)
    return [
        (_at_compute if label.endswith(COMPUTE) else _row)(plan, label, task, done)
        for label, task in entries(plan)
    ]


def _row(plan: Plan, label: str, task: str | None, done: _Done) -> _Left:
    missing, best = done.first(label, task)
    reads = 0 if plan.budget is None else 1
    if missing:
        return _Left(missing, [], len(plan.seeds) - 1 + reads)
    if best is None and len(settings(plan, label)) > 1:
        return _Left([], [], 0)
    lr, trial = (best.lr, best.trial) if best else (settings(plan, label)[0].lr, 0 if reads else None)
    runs = [_of(plan, label, task, seed, lr, trial) for seed in plan.seeds]
    # The look at the test part comes at once, so that few checkpoints wait for theirs.
    now, *later = ([run] if not done.finished(run) else [] for run in runs)
    return _Left(now, [run for some in later for run in some], 0)


def _at_compute(plan: Plan, label: str, task: str | None, done: _Done) -> _Left:
    """A row that is trained for as long as its compute is that of `ls`, with the setting of its method."""
    missing, best = done.first(base_label(label), task)
    waiting, unit = done.first("ls", None)
    if missing or waiting:
        return _Left([], [], len(plan.seeds))
    if best is None or unit is None:
        return _Left([], [], 0)
    runs = [
        matched(plan, _of(plan, label, task, seed, best.lr, best.trial), best, unit) for seed in plan.seeds
    ]
    return _Left([], [run for run in runs if not done.finished(run)], 0)


def _of(plan: Plan, label: str, task: str | None, seed: int, lr: float, trial: int | None) -> Run:
    """The run of a row on a seed that has this setting."""
    runs = candidates(plan, label, task, seed)
    return next(run for run in runs if (run.trial, run.lr) == (trial, lr))
