"""Linear scalarization."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import TaskStats, Weighting


class LS(Weighting):
    """Trains on the plain sum of the losses, the baseline of every comparison.

    w_i = 1, so that the total is sum_i L_i, with losses L (m,) and weights w (m,).

    Reads: losses (only which of them are there).
    State: none.
    Scale: the weights sum to m.
    Reference: B. Lin et al., "Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task Learning",
        TMLR 2022, https://arxiv.org/abs/2111.10603 (equal weighting); weights 1 as in the code of Nash-MTL.
    Departures: none.

    Args:
        n_tasks: the number of tasks m, at least 1.

    Raises:
        ValueError: if `n_tasks` is below 1.
    """

    def forward(self, stats: TaskStats) -> Tensor:
        """The task weights (m,)."""
        return torch.where(stats.present, 1.0, 0.0).to(stats.losses)
