"""Runs a plan: what is recorded is skipped, what fails is recorded, and what is interrupted goes on later."""

from __future__ import annotations

import inspect
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from equipoise.cluster.connection import Place
from equipoise.training.outcome import Hooks, InterruptedRunError, Progress
from equipoise.training.problem import Preview, Previewed, Problem
from equipoise.training.storage import StorageError, storing

from .directory import opened
from .execute import clean_up, execute, failed
from .order import left, pending, spent
from .ray_pool import RayPool
from .records import Plan, Record, append_record
from .runs import Run
from .workers import Event, Pool, Work


class Show(Protocol):
    """Where a benchmark tells how it goes."""

    def began(self, total: int, done: int) -> None:
        """It begins, with so many runs in all, of which some were done before."""

    def loading(self, done: int, total: int) -> None:
        """The data is read for the first time, and so much of it is there."""

    def started(self, run: Run) -> None:
        """A run begins, or goes on."""

    def progress(self, run: Run, now: Progress) -> None:
        """A run is so far."""

    def finished(self, record: Record, left: int) -> None:
        """A run is recorded, and so many are left."""

    def say(self, text: str) -> None:
        """Something that the user should know."""

    def preview(self, preview: Preview) -> None:
        """What was read of the data, before anything is trained on it."""


class WorkerError(RuntimeError):
    """A worker process that could not begin to work."""


@dataclass(frozen=True)
class How:
    """How a plan is run; nothing of it changes a number.

    Args:
        resume: whether to go on in a directory that was begun.
        retry: whether to run again what failed before.
        jobs: how many runs at a time, each in a process of its own; 1 runs in this one.
        place: where on Ray to run them instead, or None.
    """

    resume: bool = False
    retry: bool = False
    jobs: int = 1
    place: Place | None = None


def run_plan(
    plan: Plan, problem: type[Problem], directory: Path, show: Show, how: How | None = None
) -> list[Record]:
    """Run everything of a plan that the directory has no record of.

    Args:
        plan: what to run.
        problem: the class of the problem; must be importable by name for more than one job.
        directory: of the runs.
        show: where to tell how it goes.
        how: whether to resume, and how many runs at a time.

    Returns:
        The record of every run, in the order in which they ended; those of an earlier call come first.

    Raises:
        RunDirectoryError: see `opened`.
        StorageError: if the directory cannot be written; nothing that was recorded is lost.
        InterruptedRunError: after Ctrl-C or SIGTERM; runs under way have written their checkpoints.
        WorkerError: if a worker process cannot set up the problem.
        ClusterError: if runs on Ray are asked for and it cannot be started or reached.
    """
    how = how or How()
    if how.jobs < 1:
        raise ValueError(f"`jobs` should be at least 1. Found {how.jobs}.")
    with opened(directory, plan, resume=how.resume) as recorded:
        known = {record.run_id: record for record in recorded if record.status == "ok" or not how.retry}
        job = _Job(plan, directory, show, list(known.values()))
        remaining = left(plan, job.records)
        show.began(len(job.records) + remaining, len(job.records))
        if remaining:
            _run(job, problem, how)
        return job.records


def _run(job: _Job, problem: type[Problem], how: How) -> None:
    options = dict(job.plan.config["options"])
    if "progress" in inspect.signature(problem).parameters:
        options["progress"] = job.show.loading
    prepared = problem(**options)
    if isinstance(prepared, Previewed):
        job.show.preview(prepared.preview())
    with _stop_signal(job.show) as stop:
        if how.jobs == 1 and how.place is None:
            _in_process(job, prepared, stop)
        else:
            del prepared  # it has filled the cache, which the workers read
            _in_workers(job, _pool(job, problem, how), stop)


@dataclass
class _Job:
    plan: Plan
    directory: Path
    show: Show
    records: list[Record]

    def finish(self, record: Record) -> None:
        """Record a run, and only then let its checkpoint go."""
        with storing(self.directory / "records.jsonl"):
            append_record(self.directory, record)
            self.records.append(record)
            clean_up(self.directory, spent(self.plan, self.records, record))
        self.show.finished(record, left(self.plan, self.records))


def _in_process(job: _Job, problem: Problem, stop: Callable[[], bool]) -> None:
    while runs := pending(job.plan, job.records):
        run = runs[0]
        job.show.started(run)
        hooks = Hooks(lambda now, run=run: job.show.progress(run, now), stop, job.show.say)  # type: ignore[misc]
        job.finish(execute(problem, job.plan, run, job.directory, hooks))


def _pool(job: _Job, problem: type[Problem], how: How) -> Pool | RayPool:
    if how.place is not None:
        return RayPool(Work(problem, job.plan, job.directory, how.place.threads), how.place)
    threads = max(1, torch.get_num_threads() // how.jobs)
    return Pool(Work(problem, job.plan, job.directory, threads), how.jobs)


def _in_workers(job: _Job, pool: Pool | RayPool, stop: Callable[[], bool]) -> None:
    died: set[str] = set()
    try:
        while True:
            _submit(job, pool, stop)
            if not pool.running:
                break
            for event in pool.events(timeout=0.2):
                _handle(job, event, died)
    finally:
        pool.close()
    if stop():
        raise InterruptedRunError("Stopped. The runs under way have written their checkpoints.")


def _submit(job: _Job, pool: Pool | RayPool, stop: Callable[[], bool]) -> None:
    if stop():
        pool.stop()
        return
    running = {run.run_id for run in pool.running}
    waiting = [run for run in pending(job.plan, job.records) if run.run_id not in running]
    for run in waiting[: pool.idle]:
        job.show.started(run)
        pool.submit(run)


def _handle(job: _Job, event: Event, died: set[str]) -> None:
    if event.kind == "record":
        job.finish(event.content)
    elif event.kind == "progress" and event.run is not None:
        job.show.progress(event.run, event.content)
    elif event.kind == "say":
        job.show.say(event.content)
    elif event.kind == "storage":
        raise StorageError(event.content)
    elif event.kind == "broken":
        raise WorkerError(f"A worker process could not begin: {event.content}")
    elif event.kind == "died":
        _bury(job, event, died)


def _bury(job: _Job, event: Event, died: set[str]) -> None:
    """A run whose worker died is tried once more, from its checkpoint; the next submission does that."""
    if event.run is None:
        raise WorkerError(f"A worker process was {event.content} before it had a run.")
    name = event.run.run_id
    if name in died:
        job.finish(failed(job.plan, event.run, f"The worker process was {event.content}, twice."))
        return
    died.add(name)
    job.show.say(f"The worker process of {name} was {event.content}. The run is tried once more.")


@contextmanager
def _stop_signal(show: Show) -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C or SIGTERM has come; the second one interrupts at once."""
    asked = threading.Event()

    def ask(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        show.say("Stopping after this step (once more to stop at once).")

    with _handling(ask):
        yield asked.is_set


def _handling(handler: Callable[[int, Any], None]) -> AbstractContextManager[None]:
    if threading.current_thread() is not threading.main_thread():
        return nullcontext()
    return _installed(handler)


@contextmanager
def _installed(handler: Callable[[int, Any], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


__all__ = ["How", "Show", "WorkerError", "run_plan"]
