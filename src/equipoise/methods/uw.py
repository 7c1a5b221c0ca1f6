"""Uncertainty weighting."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from equipoise.core import TaskStats, Weighting


class UW(Weighting):
    """Learns a weight per task as the inverse of its observation noise.

    Total 0.5 sum_i (exp(-s_i) L_i + s_i), so w_i = 0.5 exp(-s_i) and the penalty is 0.5 sum_i s_i, with the
    learned log-variances s (m,). At the optimum of s, w_i L_i = 0.5.

    Reads: losses (only which of them are there).
    State: `log_variances` (m,), parameters that an optimizer must step: add `balancer.parameters()` as a group.
    Scale: the weights start at 0.5 and are not normalised.
    Reference: A. Kendall, Y. Gal, R. Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene
        Geometry and Semantics", CVPR 2018, https://arxiv.org/abs/1705.07115, Section 3.2; the form with
        log-variances and one factor 0.5 for all tasks as in the code of Nash-MTL.
    Departures: an absent task adds no penalty, so its log-variance gets no gradient.

    Args:
        n_tasks: the number of tasks m, at least 1.

    Raises:
        ValueError: if `n_tasks` is below 1.
    """

    def __init__(self, n_tasks: int) -> None:
        super().__init__(n_tasks)
        self.log_variances = nn.Parameter(torch.zeros(n_tasks, dtype=torch.float64))
        self._present = torch.zeros(n_tasks, dtype=torch.bool)

    def forward(self, stats: TaskStats) -> Tensor:
        """The task weights (m,), with a graph to the log-variances."""
        self._present = stats.present
        return torch.where(self._present, 0.5 * torch.exp(-self.log_variances), 0.0)

    def penalty(self) -> Tensor:
        """Half the sum of the present tasks' log-variances, ()."""
        return 0.5 * torch.where(self._present, self.log_variances, 0.0).sum()
