"""How the learning rate moves from epoch to epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from .config import TrainConfig


class Schedule:
    """The learning rates of an optimizer, told of every epoch's end.

    "plateau": ReduceLROnPlateau on the selection score (the QM9 protocol). "step": times `step_factor` after every
    `step_epochs` epochs (NYUv2 and CityScapes). "constant": as it is (CelebA).

    Args:
        optimizer: whose groups all move.
        train: the settings.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, train: TrainConfig) -> None:
        scheduler = torch.optim.lr_scheduler
        self._inner: Any = None
        self._looks = train.schedule == "plateau"
        if self._looks:
            self._inner = scheduler.ReduceLROnPlateau(
                optimizer,
                factor=train.plateau_factor,
                patience=train.plateau_patience,
                min_lr=train.min_lr,
            )
        elif train.schedule == "step":
            self._inner = scheduler.StepLR(optimizer, train.step_epochs, train.step_factor)

    def end_epoch(self, score: float | None) -> None:
        """Move on.

        Args:
            score: of the validation part, or None where this epoch did not look at it.
        """
        if self._inner is None:
            return
        if not self._looks:
            self._inner.step()
        elif score is not None:
            self._inner.step(score)

    def state_dict(self) -> dict[str, Any]:
        """All that changes."""
        return {} if self._inner is None else self._inner.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        if self._inner is not None:
            self._inner.load_state_dict(state)
