"""Soft optimal uncertainty weighting."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import TaskStats, Weighting


class UWSO(Weighting):
    """Tempers the optimal weights of uncertainty weighting, so that one small loss does not take over.

    w = softmax((1 / L) / temperature), with losses L (m,) > 0 not differentiated and weights w (m,).

    Reads: losses.
    State: none.
    Scale: the weights sum to 1 over the present tasks.
    Reference: L. Kirchdorfer et al., "Analytical Uncertainty-Based Loss Weighting in Multi-Task Learning",
        GCPR 2024, https://arxiv.org/abs/2408.07985, UW-SO.
    Departures: public code adds 1e-8 to the losses; here a loss that is not positive is refused instead. The paper
        chooses the temperature per data set by search, in the units of 1 / L; the default 1 is that of public code.

    Args:
        n_tasks: the number of tasks m, at least 1.
        temperature: above 0; large values make the weights equal, small ones leave the smallest loss alone.

    Raises:
        ValueError: if a hyper-parameter is out of its range; from the `Balancer`, for a loss that is not positive.
    """

    needs_positive_losses = True

    def __init__(self, n_tasks: int, temperature: float = 1.0) -> None:
        super().__init__(n_tasks)
        if not temperature > 0:
            raise ValueError(f"`temperature` should be above 0. Found {temperature:g}.")
        self.temperature = temperature

    def forward(self, stats: TaskStats) -> Tensor:
        """The task weights (m,)."""
        present = stats.present
        inverse = torch.where(present, 1.0 / (stats.losses * self.temperature), -torch.inf)
        return torch.where(present, torch.softmax(inverse, dim=0), 0.0)
