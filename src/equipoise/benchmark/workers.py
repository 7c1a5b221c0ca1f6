"""Worker processes that run the runs of a plan side by side."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

import torch

from equipoise.training.outcome import Hooks, InterruptedRunError, Progress
from equipoise.training.problem import Problem
from equipoise.training.storage import StorageError

from .execute import execute
from .records import Plan
from .runs import Run

_PROGRESS_SECONDS = 0.2  # between two messages of a run
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux
_STOP = "stop"


@dataclass(frozen=True)
class Event:
    """What a worker tells.

    Args:
        kind: of event. "record" carries a `Record`, "progress" a `Progress`, "say" and "storage" a text,
            "broken" the text of an error outside of any run, "died" how the process ended, "stopped" nothing.
        run: the run it is about, if any.
        content: as said.
    """

    kind: Literal["record", "progress", "say", "stopped", "storage", "broken", "died"]
    run: Run | None
    content: Any = None


@dataclass(frozen=True)
class Work:
    """What every worker gets at its start.

    Args:
        problem: the class of the problem.
        plan: that the runs are from.
        directory: of the runs.
        threads: of each worker.
    """

    problem: type[Problem]
    plan: Plan
    directory: Path
    threads: int


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    run: Run | None = None


class Pool:
    """Processes, each with its own copy of the problem, that take one run after another.

    They are spawned, not forked, since torch and CUDA do not survive a fork, and only when there is a run for
    them; they end with their parent, however it ends.

    Args:
        work: what they work on.
        jobs: how many processes at most.
    """

    def __init__(self, work: Work, jobs: int) -> None:
        self._work = work
        self._context = multiprocessing.get_context("spawn")
        self._stopping = False
        self._jobs = jobs
        self._workers: list[_Worker] = []

    @property
    def running(self) -> list[Run]:
        """The runs under way."""
        return [worker.run for worker in self._workers if worker.run is not None]

    @property
    def idle(self) -> int:
        """How many more runs there is room for."""
        return self._jobs - len(self.running)

    def submit(self, run: Run) -> None:
        """Give a run to a worker that waits for one, or to a new one."""
        worker = next((worker for worker in self._workers if worker.run is None), None)
        if worker is None:
            worker = self._start()
            self._workers.append(worker)
        worker.run = run
        _send(worker.pipe, run)

    def stop(self) -> None:
        """Ask every run under way to write its checkpoint and stop."""
        for worker in self._workers if not self._stopping else []:
            if worker.run is not None:
                _send(worker.pipe, _STOP)
        self._stopping = True

    def events(self, timeout: float) -> Iterator[Event]:
        """What the workers tell within so many seconds; a worker that died is told and forgotten."""
        pipes = {worker.pipe: worker for worker in self._workers}
        ends = {worker.process.sentinel: worker for worker in self._workers}
        ready = wait([*pipes, *ends], timeout)
        for worker in [pipes[pipe] for pipe in ready if isinstance(pipe, Connection)]:
            yield from self._read(worker)
        for worker in [ends[end] for end in ready if isinstance(end, int)]:
            yield from self._read(worker)
            yield self._bury(worker)

    def close(self) -> None:
        """End the workers, after the runs under way have been stopped or not at all."""
        for worker in self._workers:
            if worker.run is None:
                _send(worker.pipe, None)
        deadline = time.monotonic() + 10
        for worker in self._workers:
            if worker.run is not None:
                worker.process.kill()
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._work, os.getpid()), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _read(self, worker: _Worker) -> Iterator[Event]:
        try:
            while worker.pipe.poll():
                event: Event = worker.pipe.recv()
                if event.kind in ("record", "stopped", "storage"):
                    worker.run = None
                yield event
        except (EOFError, OSError):
            return  # the process has ended; its sentinel tells

    def _bury(self, worker: _Worker) -> Event:
        worker.process.join()
        worker.pipe.close()
        code = worker.process.exitcode or 0
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        self._workers.remove(worker)
        return Event("died", worker.run, how)


def _send(pipe: Connection, message: Run | str | None) -> None:
    try:
        pipe.send(message)
    except OSError:
        return  # the worker has died, which its sentinel tells


def _serve(pipe: Connection, work: Work, parent: int) -> None:
    """The life of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    _die_with_parent(parent)
    torch.set_num_threads(work.threads)
    try:
        problem = work.problem(**work.plan.config["options"])
    except Exception as error:  # told to the parent, which ends with it
        pipe.send(Event("broken", None, f"{type(error).__name__}: {error}"))
        return
    while (message := pipe.recv()) is not None:
        if isinstance(message, Run):  # else the order to stop came when the run had just ended
            pipe.send(one_run(problem, work, message, _hooks(pipe, message)))


def one_run(problem: Problem, work: Work, run: Run, hooks: Hooks) -> Event:
    """Run one run, and tell how it ended: "record", "stopped" or "storage"."""
    try:
        return Event("record", run, execute(problem, work.plan, run, work.directory, hooks))
    except InterruptedRunError:
        return Event("stopped", run)
    except StorageError as error:
        return Event("storage", run, str(error))


def _hooks(pipe: Connection, run: Run) -> Hooks:
    told = 0.0

    def progress(now: Progress) -> None:
        nonlocal told
        if time.monotonic() - told >= _PROGRESS_SECONDS or now.step == now.steps:
            told = time.monotonic()
            pipe.send(Event("progress", run, now))

    def asked_to_stop() -> bool:
        try:
            return pipe.poll() and pipe.recv() == _STOP
        except (EOFError, OSError):
            os._exit(1)  # nobody is left to record the run, and another process may take the directory

    return Hooks(progress, asked_to_stop, lambda text: pipe.send(Event("say", run, text)))


def _die_with_parent(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)
