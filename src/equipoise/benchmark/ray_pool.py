"""Actors on Ray that run the runs of a plan side by side, as the processes of `workers.Pool` do on one machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import torch

from equipoise.cluster.actors import Actors
from equipoise.cluster.connection import ClusterError, Place
from equipoise.training.outcome import Hooks, Progress
from equipoise.training.problem import Problem

from .runs import Run
from .workers import Event, Work, one_run


class Runner:
    """An actor: runs one run after the other; the problem is set up for the first one and kept.

    Args:
        work: what it works on.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._problem: Problem | None = None
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._said: list[Event] = []
        self._progress: Event | None = None

    def work(self, run: Run) -> list[Event]:
        """Run a run; what it has told and nobody has asked for, and last how it ended."""
        torch.set_num_threads(self._work.threads)
        self._progress = None
        try:
            self._problem = self._problem or self._set_up()
        except Exception as error:  # told to the parent, which ends with it
            return [Event("broken", None, f"{type(error).__name__}: {error}")]
        hooks = Hooks(
            lambda now: self._is_at(run, now), self._stopping.is_set, lambda text: self._say(run, text)
        )
        ending = one_run(self._problem, self._work, run, hooks)
        return [*self.told(), ending]

    def told(self) -> list[Event]:
        """What has been said since the last time, and how far the run is."""
        with self._lock:
            found, self._said = [*self._said, *([self._progress] if self._progress else [])], []
        return found

    def stop(self) -> None:
        """Let the run under way, or the next one, write its checkpoint and stop."""
        self._stopping.set()

    def _set_up(self) -> Problem:
        if not (self._work.directory / "plan.json").exists():
            raise FileNotFoundError(
                f"{self._work.directory} should be seen by every node of the cluster, as on a shared file system. "
                "Found no plan.json in it."
            )
        return self._work.problem(**self._work.plan.config["options"])

    def _is_at(self, run: Run, now: Progress) -> None:
        with self._lock:
            self._progress = Event("progress", run, now)

    def _say(self, run: Run, text: str) -> None:
        with self._lock:
            self._said.append(Event("say", run, text))


class RayPool:
    """Actors, each with its own copy of the problem, that take one run after another; see `workers.Pool`.

    Args:
        work: what they work on; its directory and the data of its problem must be readable on every node.
        place: where, and how many at most.
    """

    def __init__(self, work: Work, place: Place) -> None:
        work = replace(work, directory=work.directory.resolve())
        self._waiting: list[Event] = []
        self._actors = Actors(Runner, (work,), place, self._say, concurrency=2)
        self._stopping = False

    @property
    def running(self) -> list[Run]:
        """The runs under way."""
        return self._actors.running

    @property
    def idle(self) -> int:
        """How many more runs there is room for."""
        return self._actors.room

    def submit(self, run: Run) -> None:
        """Give a run to an actor that waits for one, or to a new one."""
        self._actors.submit(run)

    def stop(self) -> None:
        """Ask every run under way to write its checkpoint and stop."""
        if not self._stopping:
            self._actors.tell("stop")
        self._stopping = True

    def events(self, timeout: float) -> Iterator[Event]:
        """What the actors tell within so many seconds; one that died is told and forgotten."""
        for run, told in self._actors.ask("told"):
            late = run not in self.running  # its record has been told already
            yield from (event for event in told if not (late and event.kind == "progress"))
        try:
            for ended in self._actors.ended(timeout):
                yield from [Event("died", ended.task, "lost")] if ended.died else ended.value
        except ClusterError as error:
            yield Event("broken", None, str(error))
        said, self._waiting = self._waiting, []
        yield from said

    def close(self) -> None:
        """End the actors, after the runs under way have been stopped or not at all."""
        self._actors.close()

    def _say(self, text: str) -> None:
        self._waiting.append(Event("say", None, text))
