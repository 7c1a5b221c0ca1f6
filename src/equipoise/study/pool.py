"""Runs cells somewhere: in this process, or in worker processes beside each other."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

import torch

from equipoise.training.outcome import Hooks, Progress
from equipoise.training.problem import Problem
from equipoise.training.storage import StorageError

from .cell import CellResult, train_cell
from .plan import Cell, StudyPlan

_PROGRESS_SECONDS = 0.2  # between two messages of a cell
MOST_DEATHS = 2  # of the process of a cell, before it counts as failed


class Watch(Protocol):
    """Who is told how it goes."""

    def progress(self, label: str, now: Progress) -> None:
        """A cell, by its name, is so far."""

    def say(self, text: str) -> None:
        """Something that the user should know."""


@dataclass(frozen=True)
class Job:
    """What every worker gets at its start.

    Args:
        problem: the class; must be importable by name for more than one worker.
        plan: of the study.
        directory: of the study.
        threads: of torch in each worker.
    """

    problem: type[Problem]
    plan: StudyPlan
    directory: Path
    threads: int = 1


Results = Generator[CellResult, None, None]


def run_cells(job: Job, cells: Sequence[Cell], jobs: int, watch: Watch) -> Results:
    """Train cells, and give the result of each when it is there.

    Closing the iterator ends the workers; cells under way go on from their checkpoints another time. A cell whose
    process dies is tried once more, then counts as failed.

    Args:
        job: what to work on.
        cells: which.
        jobs: how many at a time; 1 trains in this process.
        watch: who is told how it goes.

    Raises:
        StorageError: if the directory cannot be written.
    """
    return _here(job, cells, watch) if jobs == 1 else _in_workers(job, cells, jobs, watch)


def _here(job: Job, cells: Sequence[Cell], watch: Watch) -> Results:
    for cell in cells:
        hooks = Hooks(lambda now, cell=cell: watch.progress(cell.name, now), say=watch.say)  # type: ignore[misc]
        yield train_cell(lambda options: job.problem(**options), job.plan, cell, job.directory, hooks)


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    cell: Cell | None = None


def _in_workers(job: Job, cells: Sequence[Cell], jobs: int, watch: Watch) -> Results:
    waiting, workers, deaths = deque(cells), list[_Worker](), Counter[Cell]()
    try:
        while waiting or any(worker.cell for worker in workers):
            _submit(job, waiting, workers, jobs)
            ready = set(wait([worker.pipe for worker in workers]))
            for worker in [worker for worker in workers if worker.pipe in ready]:
                yield from _heard(worker, watch)
            for worker in [worker for worker in workers if worker.pipe.closed]:
                workers.remove(worker)
                yield from _bury(worker, waiting, deaths, watch)
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.join()
            worker.pipe.close()


def _submit(job: Job, waiting: deque[Cell], workers: list[_Worker], jobs: int) -> None:
    while waiting and (free := _free(job, workers, jobs)):
        free.cell = waiting.popleft()
        with suppress(OSError):  # it has died, which its pipe tells later
            free.pipe.send(free.cell)


def _free(job: Job, workers: list[_Worker], jobs: int) -> _Worker | None:
    """A worker that waits for a cell, or a new one if there is room."""
    for worker in workers:
        if worker.cell is None:
            return worker
    if len(workers) >= jobs:
        return None
    context = multiprocessing.get_context("spawn")  # torch and CUDA do not survive a fork
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, job), daemon=True)
    process.start()
    theirs.close()
    workers.append(_Worker(process, ours))
    return workers[-1]


def _heard(worker: _Worker, watch: Watch) -> Iterator[CellResult]:
    """What a worker tells; the pipe of one that has died is closed."""
    try:
        kind, content = worker.pipe.recv()
    except (EOFError, OSError):
        worker.pipe.close()
        return
    cell = worker.cell
    assert cell is not None, "a worker speaks of its cell only"
    if kind == "progress":
        watch.progress(cell.name, content)
    elif kind == "say":
        watch.say(content)
    elif kind == "storage":
        raise StorageError(content)
    else:
        worker.cell = None
        yield content


def _bury(worker: _Worker, waiting: deque[Cell], deaths: Counter[Cell], watch: Watch) -> Iterator[CellResult]:
    worker.process.join()
    cell, code = worker.cell, worker.process.exitcode or 0
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    if cell is None:
        return
    deaths[cell] += 1
    if deaths[cell] < MOST_DEATHS:
        watch.say(f"The worker process of {cell.name} was {how}. The cell is tried once more.")
        waiting.appendleft(cell)
        return
    yield CellResult(cell, f"The worker process was {how}, {MOST_DEATHS} times.")


def _serve(pipe: Connection, job: Job) -> None:
    """The life of a worker: it ends when its parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    torch.set_num_threads(job.threads)
    with suppress(EOFError):
        while True:
            cell: Cell = pipe.recv()
            try:
                found = train_cell(
                    lambda options: job.problem(**options), job.plan, cell, job.directory, _hooks(pipe)
                )
            except StorageError as error:
                _tell(pipe, "storage", str(error))
                continue
            _tell(pipe, "result", found)


def _hooks(pipe: Connection) -> Hooks:
    told = 0.0

    def progress(now: Progress) -> None:
        nonlocal told
        if time.monotonic() - told >= _PROGRESS_SECONDS or now.step == now.steps:
            told = time.monotonic()
            _tell(pipe, "progress", now)

    return Hooks(progress, say=lambda text: _tell(pipe, "say", text))


def _tell(pipe: Connection, kind: str, content: Any) -> None:
    try:
        pipe.send((kind, content))
    except OSError:
        os._exit(1)  # nobody is left to write the cell down, and another process may take the directory
