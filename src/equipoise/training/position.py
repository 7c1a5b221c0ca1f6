"""How far a run has come."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass
class Position:
    """How far a run has come, as plain numbers; the checkpoint holds it beside the tensors.

    Args:
        epoch: the running epoch, from 1.
        batch: training batches that this epoch has used.
        step: steps done.
        second: batches of the validation part that the method has seen.
        unlabelled: batches of this epoch without any label.
        overflows: steps of this epoch that the loss scaler has skipped.
        seconds: of the steps, waiting for their batches included.
        data_seconds: of waiting for batches.
        evaluation_seconds: of looking at the validation part.
        score: of the last look at the validation part.
        best_score: of the best one.
        best_epoch: after which it was.
        stale: looks since then.
        peak_memory_mb: so far.
        forwards: batches that went through the network in training, those of `Balancer.measure` included; one with some
            of the domains only counts as its share of the samples of a whole one. None after resuming a checkpoint of a
            version that did not count.
        backwards: backward passes of a batch through the shared parameters; None likewise.
    """

    epoch: int = 1
    batch: int = 0
    step: int = 0
    second: int = 0
    unlabelled: int = 0
    overflows: int = 0
    seconds: float = 0.0
    data_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    score: float | None = None
    best_score: float = math.inf
    best_epoch: int = 0
    stale: int = 0
    peak_memory_mb: float | None = None
    forwards: float | None = 0
    backwards: float | None = 0

    @classmethod
    def read(cls, state: Mapping[str, Any]) -> Position:
        """The position of a checkpoint; what its version did not count is unknown."""
        return cls(**{"forwards": None, "backwards": None, **state})

    @property
    def seconds_per_step(self) -> float:
        """Of training.

        Raises:
            ValueError: if there was no step, since no batch had a label of the run's tasks.
        """
        if self.step == 0:
            raise ValueError(
                f"A run should make at least 1 step. Found none in {self.epoch - 1} epoch(s), since no batch had a "
                "label of its tasks: train for more epochs, or draw their samples more often."
            )
        return self.seconds / self.step

    def count(self, forwards: float, backwards: float) -> None:
        """Count passes in, unless those before are unknown."""
        if self.forwards is not None and self.backwards is not None:
            self.forwards, self.backwards = self.forwards + forwards, self.backwards + backwards
