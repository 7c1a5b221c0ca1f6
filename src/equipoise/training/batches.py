"""What each step of a run trains on, in an order that does not depend on where the run was stopped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import torch

from equipoise.core.method import SecondBatch

from .problem import Loaders
from .setup import moved


class StepBatches:
    """The training batch of each step and the second batch that some methods want, on the device.

    A method that needs a second training batch takes two of the epoch's batches for each step, so it makes half
    as many steps of the same data; a last one without a partner is left out. Second batches of the validation
    part come in their order, again and again.

    Args:
        loaders: of the run.
        second: what the method wants.
        device: where to put the batches.
    """

    def __init__(self, loaders: Loaders, second: SecondBatch, device: torch.device) -> None:
        self._loaders = loaders
        self._second = second
        self._device = device
        self.per_step = 2 if second == "train" else 1

    @property
    def steps_per_epoch(self) -> int:
        """How many steps an epoch has."""
        return len(self._loaders.train) // self.per_step

    def epoch(self, number: int, taken: int, step: int) -> Iterator[tuple[Any, Any]]:
        """The batch and the second batch (None if not wanted) of each step from there on.

        Args:
            number: of the epoch, from 1.
            taken: training batches of this epoch that the steps before have used.
            step: how many steps the run has made.
        """
        train = self._loaders.train.epoch(number, taken)
        validation = _cycled(self._loaders.validation, step) if self._second == "validation" else None
        while len(batches := list(islice(train, self.per_step))) == self.per_step:
            batches += [None] if validation is None else [next(validation)]
            yield moved(batches[0], self._device), moved(batches[1], self._device)


def _cycled(batches: Iterable[Any], start: int) -> Iterator[Any]:
    """The same batches again and again, from the `start`-th on."""
    passed = 0
    while True:
        for batch in batches:
            passed += 1
            if passed > start:
                yield batch
