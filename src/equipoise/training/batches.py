"""What each step of a run trains on, in an order that does not depend on where the run was stopped."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import torch

from equipoise.core.method import SecondBatch

from .domains import Domains, OneByOne
from .problem import Loaders, TrainLoader
from .setup import moved


class EpochBatches:
    """The training batches of one epoch, on the device.

    Args:
        loader: of the training part.
        number: of the epoch, from 1.
        taken: batches that the steps before have used.
        device: where to put the batches.

    Attributes:
        taken: batches used so far, from the epoch's first.
        wrapped: whether the epoch has been begun again to fill up a step.
        waited: seconds from asking the loader for batches to having them on the device.
    """

    def __init__(self, loader: TrainLoader, number: int, taken: int, device: torch.device) -> None:
        self.taken = taken
        self._loader = loader
        self._number = number
        self._device = device
        self._batches = loader.epoch(number, taken)
        self.wrapped = False
        self.waited = 0.0

    @property
    def left(self) -> int:
        """How many batches the epoch still has."""
        return len(self._loader) - self.taken

    def next(self) -> Any:
        """The next batch; None at the end. An empty one, of a domain that is not the run's, is passed over."""
        began = time.perf_counter()
        batch = next(self._batches, None)
        while isinstance(batch, Mapping) and not batch:
            self.taken += not self.wrapped
            batch = next(self._batches, None)
        if batch is not None:
            self.taken += not self.wrapped
            batch = moved(batch, self._device)
        self.waited += time.perf_counter() - began
        return batch

    def next_or_first(self) -> Any:
        """The next batch; at the end of the epoch its first one, then its second, and so on."""
        batch = self.next()
        if batch is not None:
            return batch
        self.wrapped = True
        self._batches = self._loader.epoch(self._number)
        return self.next()


class StepBatches:
    """The training batches of the steps and the second batch that some methods want, on the device.

    A step takes `accumulate` batches, and one more for a method that needs a second training batch; a rest of the
    epoch that does not fill a step is left out. Second batches of the validation part come in their order, again and
    again.

    Args:
        loaders: of the run.
        second: what the method wants.
        device: where to put the batches.
        accumulate: micro-batches of a step.
    """

    def __init__(self, loaders: Loaders, second: SecondBatch, device: torch.device, accumulate: int) -> None:
        self._loaders = loaders
        self.device = device
        self._validation: Iterator[tuple[int, Any]] | None = None
        self.second = second
        self.accumulate = accumulate
        self.per_step = accumulate + (second == "train")

    @property
    def steps_per_epoch(self) -> int:
        """How many steps an epoch has, if every batch has a label."""
        return len(self._loaders.train) // self.per_step

    @property
    def share(self) -> float:
        """Samples of a batch, relative to those of a batch for all tasks: below 1 for one of several domains."""
        train = self._loaders.train
        return train.share if isinstance(train, Domains) else 1

    def shows_all(self, steps: int) -> bool:
        """Whether so many first steps should have shown every task: no domain is drawn, no limit cuts the epoch."""
        train = self._loaders.train
        return steps >= self.steps_per_epoch and not (isinstance(train, Domains) and train.draws)

    def done(self, epoch: int, taken: int) -> float:
        """The steps so far if every batch had a label: an epoch ends at the same number whatever is passed over."""
        return (epoch - 1) * self.steps_per_epoch + taken / self.per_step

    def epoch(self, number: int, taken: int) -> EpochBatches:
        """The batches of an epoch from the `taken`-th on."""
        return EpochBatches(self._loaders.train, number, taken, self.device)

    def validation(self, taken: int) -> tuple[int, Any]:
        """The batch of the validation part that comes after `taken` of them, and how often all have passed."""
        if self._validation is None:
            self._validation = _cycled(self._loaders.validation, taken)
        passes, batch = next(self._validation)
        return passes, moved(batch, self.device)


def of_tasks(loaders: Loaders, tasks: Collection[str]) -> Loaders:
    """The loaders of a run that trains these tasks: of domains that are tasks, it reads and forwards its own alone.

    Loaders of another kind, and domains with other names than the tasks, are left as they are. A validation part that
    is the test part stays so.

    Args:
        loaders: of the problem.
        tasks: names of the tasks of the run.
    """
    train = loaders.train
    if isinstance(train, Domains) and set(tasks) <= set(train.names):
        train = train.only(tasks)
    validation = _of_part(loaders.validation, tasks)
    same = loaders.test is loaders.validation
    return Loaders(train, validation, validation if same else _of_part(loaders.test, tasks))


def _of_part(part: Iterable[Any], tasks: Collection[str]) -> Iterable[Any]:
    return part.only(tasks) if isinstance(part, OneByOne) and set(tasks) <= set(part.names) else part


def _cycled(batches: Iterable[Any], start: int) -> Iterator[tuple[int, Any]]:
    """The same batches again and again, from the `start`-th on, with how often all of them have passed."""
    passes, passed = 0, 0
    while True:
        for batch in batches:
            passed += 1
            if passed > start:
                yield passes, batch
        passes += 1
