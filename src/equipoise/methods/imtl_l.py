"""Impartial multi-task learning, loss part."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from equipoise.core import TaskStats, Weighting


class IMTLL(Weighting):
    """Learns a scale per task that brings all scaled losses to 1, without assuming a distribution.

    Total sum_i (exp(s_i) L_i - s_i), so w_i = exp(s_i) and the penalty is -sum_i s_i, with the learned log-scales
    s (m,). At the optimum of s, w_i L_i = 1. It is twice `UW` with -s for its log-variances.

    Reads: losses (only which of them are there).
    State: `log_scales` (m,), parameters that an optimizer must step: add `balancer.parameters()` as a group.
    Scale: the weights start at 1 and are not normalised.
    Reference: L. Liu et al., "Towards Impartial Multi-task Learning", ICLR 2021,
        https://openreview.net/forum?id=IMPnRXEWpvr, loss balance (IMTL-L).
    Departures: an absent task adds no penalty, so its scale gets no gradient. A loss below 0 is not refused, but
        has no optimum: its scale would grow without end.

    Args:
        n_tasks: the number of tasks m, at least 1.

    Raises:
        ValueError: if `n_tasks` is below 1.
    """

    def __init__(self, n_tasks: int) -> None:
        super().__init__(n_tasks)
        self.log_scales = nn.Parameter(torch.zeros(n_tasks, dtype=torch.float64))
        self._present = torch.zeros(n_tasks, dtype=torch.bool)

    def forward(self, stats: TaskStats) -> Tensor:
        """The task weights (m,), with a graph to the log-scales."""
        self._present = stats.present
        return torch.where(self._present, torch.exp(self.log_scales), 0.0)

    def penalty(self) -> Tensor:
        """Minus the sum of the present tasks' log-scales, ()."""
        return -torch.where(self._present, self.log_scales, 0.0).sum()
