"""Batches of samples by number, read ahead by threads, in an order that is a function of seed and epoch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Generic, TypeVar

import torch
from torch import Tensor

Batch = TypeVar("Batch")


class SampleBatches(Generic[Batch]):
    """A part of the data in batches: shuffled by epoch for training, in its own order to be iterated over.

    Args:
        read: gives the batch of some samples, by their numbers (b,). It may be called from several threads at once.
        part: numbers of the samples of this part (n,), int64.
        size: samples in a batch; the last one of a part may be smaller.
        seed: of the order of `epoch`, and of what `augment` draws.
        drop_last: leave out a last batch that is smaller (of `epoch` only), as batch normalisation may need.
        augment: changes a training batch with a generator that belongs to this batch of this epoch alone, so that
            neither the number of workers nor a resume changes what is drawn. Not called by plain iteration.
        workers: threads that read ahead, two batches each; 0 reads when asked. Torch, numpy and image decoders let
            other threads run while they work, so threads do, and unlike processes they may be started anywhere.

    Raises:
        ValueError: if there is no sample or a number is below its least value.
    """

    def __init__(
        self,
        read: Callable[[Tensor], Batch],
        part: Tensor,
        *,
        size: int,
        seed: int = 0,
        drop_last: bool = False,
        augment: Callable[[Batch, torch.Generator], Batch] | None = None,
        workers: int = 0,
    ) -> None:
        if len(part) == 0:
            raise ValueError("`part` should hold at least 1 sample. Found 0.")
        if size < 1:
            raise ValueError(f"`size` should be at least 1. Found {size}.")
        if workers < 0:
            raise ValueError(f"`workers` should be at least 0. Found {workers}.")
        self.part = part
        self.seed = seed
        self._read = read
        self._size = size
        self._drop_last = drop_last
        self._augment = augment
        self._workers = workers

    def split(self, fraction: float, seed: int) -> tuple[SampleBatches[Batch], SampleBatches[Batch]]:
        """The same batches of this fraction of the samples, drawn at random, and of the rest.

        Args:
            fraction: of the samples, above 0 and below 1; each side gets at least one.
            seed: of the draw.

        Raises:
            ValueError: if there are fewer than 2 samples, or the fraction is out of its range.
        """
        if not 0 < fraction < 1 or len(self.part) < 2:
            raise ValueError(
                "`fraction` should be above 0 and below 1, of at least 2 samples. "
                f"Found {fraction} of {len(self.part)}."
            )
        order = torch.randperm(len(self.part), generator=torch.Generator().manual_seed(seed))
        first = min(max(round(fraction * len(self.part)), 1), len(self.part) - 1)
        kept, rest = (self._of(self.part[chosen.sort().values]) for chosen in (order[:first], order[first:]))
        return kept, rest

    def _of(self, part: Tensor) -> SampleBatches[Batch]:
        return SampleBatches(
            self._read,
            part,
            size=self._size,
            seed=self.seed,
            drop_last=self._drop_last and len(part) >= self._size,
            augment=self._augment,
            workers=self._workers,
        )

    def __len__(self) -> int:
        """The number of batches of an epoch."""
        return len(self.part) // self._size if self._drop_last else -(-len(self.part) // self._size)

    def __iter__(self) -> Iterator[Batch]:
        """All samples in the order of the part, as they are."""
        batches = self.part.split(self._size)
        return _read_ahead([partial(self._read, index) for index in batches], self._workers)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch in an order of its own, from the `start`-th on."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        order = self.part[torch.randperm(len(self.part), generator=generator)]
        batches = list(enumerate(order.split(self._size)))[start : len(self)]
        tasks = [partial(self._training_batch, number, place, index) for place, index in batches]
        return _read_ahead(tasks, self._workers)

    def _training_batch(self, number: int, place: int, index: Tensor) -> Batch:
        batch = self._read(index)
        if self._augment is None:
            return batch
        seed = (self.seed * 1_000_003 + number) * 1_000_003 + place + 1
        return self._augment(batch, torch.Generator().manual_seed(seed % 2**63))


def _read_ahead(tasks: Sequence[Callable[[], Batch]], workers: int) -> Iterator[Batch]:
    """What the tasks give, in their order, computed by threads before it is asked for."""
    if workers == 0:
        yield from (task() for task in tasks)
        return
    pool = ThreadPoolExecutor(workers, "equipoise-read")
    waiting: deque[Future[Batch]] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(task))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # also where a run stops within an epoch
        pool.shutdown(cancel_futures=True)
