"""What has to be remembered from one micro-batch to the next."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import Reads


class Window:
    """The micro-batches between two steps of the optimizer.

    Args:
        n_tasks: the number of tasks m.
        length: how many micro-batches.
    """

    def __init__(self, n_tasks: int, length: int) -> None:
        self.length = length
        self.position = 0
        self.reads = Reads.LOSSES
        self.weights = torch.ones(n_tasks, dtype=torch.float64)
        self.pending: list[Tensor] = []
        self._totals = torch.zeros(n_tasks, dtype=torch.float64)
        self._sums = torch.zeros(n_tasks, dtype=torch.float64)

    @property
    def first(self) -> bool:
        """Whether this micro-batch begins the window."""
        return self.position == 0

    @property
    def last(self) -> bool:
        """Whether this micro-batch ends the window."""
        return self.position == self.length - 1

    def next(self) -> None:
        """Go on to the next micro-batch."""
        self.position = (self.position + 1) % self.length

    def reset(self) -> None:
        """Give up the window that has begun."""
        self.position = 0

    def keep(self, weights: Tensor, present: Tensor) -> Tensor:
        """The weights (m,) for the window: a task absent when the method was asked keeps what it had, 1 at first."""
        if self.length > 1:
            weights = torch.where(present, weights, self.weights.to(weights))
        self.weights = weights
        return weights

    def add(self, losses: Tensor, totals: Tensor) -> None:
        """Count in a micro-batch's mean losses (m,) and how many labels they are the means of (m,)."""
        if self.first:
            self._totals, self._sums = torch.zeros_like(totals), torch.zeros_like(totals)
        self._totals += totals
        self._sums += torch.where(totals > 0, totals * losses.double(), 0.0)

    @property
    def totals(self) -> Tensor:
        """Labels of each task in the window (m,), 1 where there is none."""
        return torch.where(self._totals > 0, self._totals, 1.0)

    @property
    def losses(self) -> Tensor:
        """The mean losses of the window (m,), 0 where absent."""
        return self._sums / self.totals

    @property
    def present(self) -> Tensor | None:
        """Which tasks had labels in the window (m,) bool; None if all, where that is known without waiting."""
        present = self._totals > 0
        return None if present.device.type == "cpu" and bool(present.all()) else present

    def hold(self, gradients: list[Tensor]) -> list[Tensor]:
        """Gradients summed since the window began."""
        if self.first:
            self.pending = [torch.zeros_like(g) for g in gradients]
        self.pending = [old + g for old, g in zip(self.pending, gradients, strict=True)]
        return self.pending
