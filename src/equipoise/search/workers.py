"""The tasks of a search on Ray: actors that do one after the other, and are replaced when they die."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from equipoise.cluster.actors import Actors
from equipoise.cluster.connection import Place
from equipoise.cluster.storage import Storage
from equipoise.training.problem import Problem

from .generations import Assignment, Result, SearchError
from .member import Setting, checkpoint_of, keeping
from .retrain import Retrained
from .work import Task, Work, work

_TRIES = 5  # of a task, before a worker that dies again and again ends the search


@dataclass(frozen=True)
class Job:
    """What every worker of a search needs to know.

    Args:
        problem: the class; its module must be importable where workers run.
        setting: of the search.
        directory: of the search; without a storage every node of a cluster has to see it.
        storage: of the checkpoints of members, or None for the directory.
    """

    problem: type[Problem]
    setting: Setting
    directory: Path
    storage: Storage | None = None


class Worker:
    """Does one task after the other in a process of its own; the problem is kept while its options are the same.

    Args:
        job: what it needs to know.
        threads: of torch.
    """

    def __init__(self, job: Job, threads: int) -> None:
        torch.set_num_threads(threads)
        self._job = job
        self._make = keeping(job.problem)

    def work(self, task: Task) -> Result | Retrained:
        """What came of a task."""
        job = self._job
        if job.storage is None:
            if not job.directory.is_dir():
                raise SearchError(
                    f"{job.directory} should be seen by every node of the cluster. Found a node that does not: use a "
                    "shared file system, or --storage."
                )
            return work(self._make, job.setting, task, job.directory)
        with tempfile.TemporaryDirectory(prefix="equipoise-") as scratch:
            return self._stored(job.storage, task, Path(scratch))

    def _stored(self, storage: Storage, task: Task, scratch: Path) -> Result | Retrained:
        """Work in a folder of this node; checkpoints come from the storage and go there."""
        if not isinstance(task, Assignment):
            return work(self._make, self._job.setting, task, scratch)
        own = checkpoint_of(scratch, *task.place)
        if not storage.fetch(own.stem, own) and task.parent is not None:
            parent = checkpoint_of(scratch, task.generation - 1, task.parent)
            storage.fetch(parent.stem, parent)
        found = work(self._make, self._job.setting, task, scratch)
        if isinstance(found, Result) and found.score is not None:  # nothing goes on from one that diverged
            storage.put(own, own.stem)
        return found


@contextmanager
def workers(job: Job, place: Place, say: Callable[[str], None] = lambda text: None) -> Iterator[Work]:
    """Start Ray, or join a cluster, and give what does tasks there.

    A worker that dies, with its node or alone, is replaced, and its task goes on from its last checkpoint.

    Args:
        job: what the workers need to know.
        place: where to train.
        say: told of each worker that died.

    Raises:
        ClusterError: see `Actors`.
        SearchError: from the work, if a task killed its worker five times.
    """
    job = Job(job.problem, job.setting, job.directory.resolve(), job.storage)
    actors = Actors(Worker, (job, place.threads), place, say)
    try:
        yield lambda waiting: _done(actors, waiting, say)
    finally:
        actors.close()


def _done(actors: Actors, waiting: list[Any], say: Callable[[str], None]) -> Iterator[Any]:
    """What comes of each task as it comes; see `work.Work`."""
    tries: dict[str, int] = {}
    while waiting or actors.running:
        while waiting and actors.room:
            actors.submit(waiting.pop(0))
        for ended in actors.ended():
            if not ended.died:
                yield ended.value
                continue
            name = ended.task.label
            tries[name] = tries.get(name, 0) + 1
            if tries[name] >= _TRIES:
                raise SearchError(
                    f"A worker should outlive its task. The one of {name} died {_TRIES} times. If memory is short, "
                    "take fewer workers or a smaller network; then resume."
                )
            say(f"The worker of {name} died; that goes on from its last checkpoint.")
            waiting.insert(0, ended.task)
