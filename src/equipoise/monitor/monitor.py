"""Takes the records of a training loop and hands rows to writers."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Self

from torch import Tensor

from equipoise.core import Aggregator
from equipoise.core.method import check_at_least
from equipoise.engine import Balancer, StepRecord

from .intervals import Kept, names_of, row_of, sums_of
from .writers import Row, Writer

_KEPT_ENTRIES = 2**19  # numbers that wait on the device, 4 MB; then they are added up there


class Monitor:
    """Writes a row of weights, losses and what the Gramian tells for every few steps.

    The records stay on their device; once in `every` steps one vector goes to the host. The columns are the same
    for all methods; what a method does not measure is left empty. In a distributed run all ranks have the same
    records: build the monitor on rank 0 only.

    A writer that raises while the training runs, for example because the disk is full, is dropped with a warning.

    Args:
        balancer: whose records will be added.
        every: records from one row to the next.
        writers: where the rows go.
        step: how many records an interrupted run had added, `monitor.step`, to go on with its logs.

    Raises:
        ValueError: on numbers that do not fit, tasks whose columns would have one name, and from the writers.
        OSError: if a writer cannot begin.
    """

    def __init__(
        self, balancer: Balancer, *, every: int = 50, writers: Sequence[Writer] = (), step: int = 0
    ) -> None:
        check_at_least("every", every, 1)
        check_at_least("step", step, 0)
        self.step = step
        self._every = every
        self._m = len(balancer.tasks)
        self._has_weights = not isinstance(balancer.method, Aggregator)
        self._names = names_of(balancer.tasks)
        twice = sorted({name for name in self._names if self._names.count(name) > 1})
        if twice:
            raise ValueError(f"The tasks should give each column a name of its own. Found {twice[0]} twice.")
        self._kept: list[Kept] = []
        self._sums: Tensor | None = None
        self._incomplete = 0
        self._written = step
        self._writers: list[Writer] = []
        self._closed = False
        self._open(writers)

    def add(self, record: StepRecord) -> Row | None:
        """Take note of what `balancer.backward` returned.

        Returns:
            The row, where it was the turn of one.

        Raises:
            ValueError: if the record is of another number of tasks.
            RuntimeError: after `close`.
        """
        if self._closed:
            raise RuntimeError("A record should be added to an open monitor. Found a closed one.")
        if len(record.weights) != self._m:
            raise ValueError(f"`record` should be of {self._m} tasks. Found {len(record.weights)}.")
        self.step += 1
        if record.complete:
            self._kept.append(Kept.of(record))
            entries = self._m if record.gramian is None else self._m**2
            if len(self._kept) * entries >= _KEPT_ENTRIES:
                self._add_up()
        else:
            self._incomplete += 1
        return self._write() if self.step % self._every == 0 else None

    def close(self) -> None:
        """Write a last row for the records since the one before, and close the writers; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        if self.step > self._written:
            self._write()
        for writer in list(self._writers):
            try:
                writer.close()
            except Exception as error:
                self._drop(writer, error, stacklevel=3)
        self._writers.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _open(self, writers: Sequence[Writer]) -> None:
        with ExitStack() as begun:
            for writer in writers:
                writer.open(["step", "incomplete", *self._names], self.step)
                begun.callback(writer.close)
            begun.pop_all()
        self._writers = list(writers)

    def _add_up(self) -> None:
        sums = sums_of(self._kept, self._has_weights)
        self._sums = sums if self._sums is None else self._sums + sums
        self._kept.clear()

    def _write(self) -> Row:
        if self._kept:
            self._add_up()
        row: Row = {"step": self.step, "incomplete": self._incomplete, **row_of(self._names, self._sums)}
        self._sums, self._incomplete, self._written = None, 0, self.step
        for writer in list(self._writers):
            try:
                writer.write(row)
            except Exception as error:
                self._drop(writer, error, stacklevel=4)
        return row

    def _drop(self, writer: Writer, error: Exception, stacklevel: int) -> None:
        self._writers.remove(writer)
        with suppress(Exception):
            writer.close()
        warnings.warn(
            f"{writer!r} is dropped, and the training goes on without it: {type(error).__name__}: {error}",
            RuntimeWarning,
            stacklevel=stacklevel,
        )
