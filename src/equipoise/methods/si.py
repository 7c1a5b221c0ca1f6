"""Scale-invariant scalarization."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import TaskStats, Weighting


class SI(Weighting):
    """Makes the units of a loss irrelevant by training on the sum of the logarithms.

    Total sum_i log L_i, so w_i = d(total)/dL_i = 1 / L_i, with losses L (m,) > 0 and weights w (m,).

    Reads: losses.
    State: none.
    Scale: w_i L_i = 1 for each present task.
    Reference: A. Navon et al., "Multi-Task Learning as a Bargaining Game", ICML 2022,
        https://arxiv.org/abs/2202.01017 (baseline SI).
    Departures: none.

    Args:
        n_tasks: the number of tasks m, at least 1.

    Raises:
        ValueError: if `n_tasks` is below 1; from the `Balancer`, for a loss that is not positive.
    """

    needs_positive_losses = True

    def forward(self, stats: TaskStats) -> Tensor:
        """The task weights (m,)."""
        return torch.where(stats.present, 1.0 / stats.losses, 0.0)
