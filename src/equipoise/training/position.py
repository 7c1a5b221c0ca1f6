"""How far a run has come."""

from __future__ import annotations

import math
from dataclasses import dataclass


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
