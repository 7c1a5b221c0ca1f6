"""What a run tells: on the way, at its end, and when it does not get there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


class InterruptedRunError(Exception):
    """A run was asked to stop; its checkpoint is written."""


class DivergedError(RuntimeError):
    """A run whose metrics are no longer finite."""


@dataclass(frozen=True)
class Progress:
    """Where a run is.

    Args:
        epoch: the running epoch, from 1.
        epochs: how many there will be.
        step: steps done.
        steps: how many there will be.
        validation_score: the last one, or None before the first.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    validation_score: float | None


@dataclass(frozen=True)
class Hooks:
    """What the caller of a run wants to hear and say.

    Args:
        progress: told after every step.
        stop: asked after every step whether to write a checkpoint and end with `InterruptedRunError`.
        say: told what the user should know, such as a damaged checkpoint.
        checkpoint_seconds: how much work a kill may lose.
    """

    progress: Callable[[Progress], None] = lambda progress: None
    stop: Callable[[], bool] = lambda: False
    say: Callable[[str], None] = lambda text: None
    checkpoint_seconds: float = 10.0


@dataclass(frozen=True)
class Outcome:
    """What a run found; the fields are those of a `Record`."""

    metrics: dict[str, dict[str, float]]
    validation_score: float
    best_epoch: int
    epochs: int
    steps: int
    seconds: float
    seconds_per_step: float
    data_seconds: float
    evaluation_seconds: float
    peak_memory_mb: float | None
    fallbacks: int
    parameters: int
    forwards: float | None
    backwards: float | None
