"""Impartial multi-task learning, both parts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from equipoise.core import GramianWeighting, TaskStats
from equipoise.core.method import check_at_least
from equipoise.solvers.equal_projections import equal_projections


class IMTL(GramianWeighting):
    """Learns a scale per task that brings all losses to 1, and projects the scaled gradients equally.

    The log-scales s (m,) are learned on sum_i (exp(s_i) L_i - s_i), as in `IMTLL`; the scaled gradients exp(s_i)
    g_i get the weights a (m,) of `IMTLG`, from the Gramian exp(s_i + s_j) G_ij (m, m); so w_i = a_i exp(s_i).
    Direction and loss scales are apart: d / |d| does not depend on s, its length does.

    Reads: Gramian.
    State: `log_scales` (m,), parameters that an optimizer must step: add `balancer.parameters()` as a group.
    Scale: sum_i w_i exp(-s_i) = 1; some weights can be negative.
    Reference: L. Liu et al., "Towards Impartial Multi-task Learning", ICLR 2021,
        https://openreview.net/forum?id=IMPnRXEWpvr, hybrid balance (IMTL).
    Departures: the paper gives the heads exp(s_i); here they are left alone, which differs by that factor of each
        head's learning rate, and does not show under optimizers that ignore the scale. The gradients are those of
        the shared parameters, where the paper also offers those of the shared features. An absent task adds nothing
        to the total that teaches s. Otherwise as `IMTLG` where gradients depend linearly.

    Args:
        n_tasks: the number of tasks m, at least 1.
        tolerance: of the smallest eigenvalue of the cosines, at least 0.

    Raises:
        ValueError: if a hyper-parameter is out of its range.
    """

    head_weights = "unit"

    def __init__(self, n_tasks: int, tolerance: float = 1e-12) -> None:
        super().__init__(n_tasks)
        check_at_least("tolerance", tolerance, 0.0)
        self.tolerance = tolerance
        self.log_scales = nn.Parameter(torch.zeros(n_tasks, dtype=torch.float64))
        self._present = torch.zeros(n_tasks, dtype=torch.bool)

    def forward(self, stats: TaskStats) -> Tensor:
        """The task weights (m,), with a graph to the log-scales."""
        self._present = stats.present
        return super().forward(stats)

    def weigh(self, stats: TaskStats, index: Tensor) -> Tensor:
        """The weights (k,) of the present tasks, whose graph is that of exp(s) alone."""
        scales = torch.exp(self.log_scales[index])
        fixed = scales.detach()
        gramian = stats.gramian * fixed * fixed[:, None]
        weights, converged = equal_projections(gramian, self.tolerance)
        self.diagnostics = {"converged": converged}
        # The total that the Balancer differentiates is w'L: by this graph its gradient is that of exp(s)'L.
        return weights * fixed + (scales - fixed)

    def penalty(self) -> Tensor:
        """Minus the sum of the present tasks' log-scales, ()."""
        return -torch.where(self._present, self.log_scales, 0.0).sum()
