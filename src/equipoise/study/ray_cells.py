"""Cells on the workers of Ray, on this machine or a cluster."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

import torch

from equipoise.cluster.actors import Actors
from equipoise.cluster.connection import Place
from equipoise.training.outcome import Hooks

from .cell import CellResult, train_cell
from .plan import Cell, StudyError
from .pool import MOST_DEATHS, Job, Watch


class CellWorker:
    """An actor that trains one cell after the other.

    Args:
        job: what to work on.
    """

    def __init__(self, job: Job) -> None:
        torch.set_num_threads(job.threads)
        self._job = job

    def work(self, cell: Cell) -> CellResult:
        """Train a cell, from wherever a kill has left it.

        Raises:
            StudyError: if this node does not see the directory of the study.
        """
        job = self._job
        if not job.directory.is_dir():
            raise StudyError(
                f"{job.directory} should be seen by every node of the cluster, as on a shared file system. Found a "
                "node that does not."
            )
        return train_cell(lambda options: job.problem(**options), job.plan, cell, job.directory, Hooks())


def cells_on_ray(
    job: Job, cells: Sequence[Cell], place: Place, watch: Watch
) -> Generator[CellResult, None, None]:
    """Train cells on Ray, and give the result of each when it is there; see `pool.run_cells`.

    A cell whose worker dies, alone or with its node, is tried once more from its checkpoint, then counts as failed.

    Args:
        job: what to work on; its directory and the data of its problem must be readable on every node.
        cells: which.
        place: where, and how many at a time.
        watch: who is told how it goes.

    Raises:
        ClusterError: see `Actors`.
        StorageError, StudyError: from the workers.
    """
    job = replace(job, directory=job.directory.resolve(), threads=place.threads)
    actors = Actors(CellWorker, (job,), place, watch.say)
    try:
        yield from _done(actors, deque(cells), watch)
    finally:
        actors.close()


def _done(actors: Actors, waiting: deque[Cell], watch: Watch) -> Iterator[CellResult]:
    deaths = Counter[Cell]()
    while waiting or actors.running:
        while waiting and actors.room:
            actors.submit(waiting.popleft())
        for ended in actors.ended():
            deaths[ended.task] += ended.died
            if ended.died and deaths[ended.task] < MOST_DEATHS:
                watch.say(f"The worker of {ended.task.name} died. The cell is tried once more.")
                waiting.appendleft(ended.task)
                continue
            yield ended.value or CellResult(ended.task, f"Its worker died, {MOST_DEATHS} times.")
