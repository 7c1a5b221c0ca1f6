"""Taking a run directory into use: writable, with room, with the right plan, by one process at a time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from equipoise.training.planned import Planned
from equipoise.training.storage import StorageError, held, storing

from .belonging import check_records
from .order import left
from .plan import differences, grown
from .records import Plan, Record, RunDirectoryError, read_plan, read_records, write_plan

_KEPT = Planned("plan.json", "plan", RunDirectoryError)
_BEGUN = ("records.jsonl", "checkpoints", "runs")
_MB_IN_ALL, _MB_A_RUN = 50, 2


@contextmanager
def opened(directory: Path, plan: Plan, *, resume: bool) -> Iterator[list[Record]]:
    """The records of a run directory, which is made if needed and held while the context lasts.

    Args:
        directory: of the runs.
        plan: what to run; written to a new directory, compared with that of an old one, which it may extend by seeds
            and methods.
        resume: whether a directory that was begun may be continued.

    Raises:
        RunDirectoryError: if the directory was begun and `resume` is not set, holds something else, is
            of another plan, has records of one, or is in use.
        StorageError: if it cannot be written, or the disk has no room.
    """
    with held(directory, RunDirectoryError):
        new = _is_new(directory, plan, resume)
        records = read_records(directory)
        check_records(directory, plan, records)
        _check_room(directory, left(plan, records))
        with storing(directory):
            if new:
                write_plan(directory, plan)
        yield records


def _is_new(directory: Path, plan: Plan, resume: bool) -> bool:
    """Whether the plan is not yet that of the directory; refuses one that does not fit."""
    if not _KEPT.begun(directory):
        return True
    old, new = read_plan(directory), Plan.from_json(plan.to_json())
    more = grown(old, new)
    if not more:
        _KEPT.unchanged(directory, differences(old, new))
    if not resume and any((directory / name).exists() for name in _BEGUN):
        raise RunDirectoryError(
            f"{directory} was begun with this plan and has {len(read_records(directory))} finished runs: "
            "add --resume to go on, or choose another directory with --out."
        )
    return more and bool(differences(old, new))


def _check_room(directory: Path, runs: int) -> None:
    needed = _MB_IN_ALL + _MB_A_RUN * runs
    free = shutil.disk_usage(directory).free // 2**20
    if runs and free < needed:
        raise StorageError(
            f"{directory} should have about {needed} MB of free disk for {runs} runs. Found {free} MB."
        )
