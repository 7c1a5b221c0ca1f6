"""Dual balancing."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import Aggregator, TaskStats, Tracked
from equipoise.core.rows import tracked_like


class DBMTL(Aggregator):
    """Puts the losses on one scale by their logarithm, and their smoothed gradients on one length.

    Averages a_i <- beta a_i + (1 - beta) grad log L_i, with grad log L_i = J_i / L_i, from 0; the answer (n,) is
    max_j |a_j| sum_i a_i / |a_i|, with the Jacobian J (m, n) and the averages a (m, n).

    Reads: losses, Jacobian.
    State: the averages (m, n); none with beta = 0.
    Scale: m gradients as long as the longest average. The averages start at 0, so the first answers are shorter
        by 1 - beta^t.
    Reference: B. Lin et al., "Dual-Balancing for Multi-Task Learning", 2023, https://arxiv.org/abs/2308.12029
        (DB-MTL).
    Departures: 1 / L_i and 1 / |a_i| are exact, where the code adds 1e-8 to L_i and |a_i|; beta is constant, where the
        code can let it fall with the steps (by default it does not). A zero average adds nothing. An absent task
        keeps its average, and neither its average nor its length counts in that step.

    Args:
        n_tasks: the number of tasks m, at least 1.
        beta: what is kept of the averages at each step, in [0, 1); 0.9 in the authors' code.

    Raises:
        ValueError: if a hyper-parameter is out of its range, or if the shared parameters change while gradients are
            averaged; from the `Balancer`, for a loss that is not positive.
    """

    head_weights = "log"
    needs_positive_losses = True

    def __init__(self, n_tasks: int, beta: float = 0.9) -> None:
        super().__init__(n_tasks)
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"`beta` should be at least 0 and below 1. Found {beta:g}.")
        self.beta = beta
        self.average = Tracked()

    def forward(self, stats: TaskStats) -> Tensor:
        """The shared gradient (n,)."""
        present = stats.present
        losses = torch.where(present, stats.losses, 1.0)
        rows = stats.jacobian / losses[:, None].to(stats.jacobian)
        if self.beta > 0:
            moved = (1.0 - self.beta) * present[:, None].to(rows)
            rows = tracked_like(self.average, rows).lerp_(rows, moved)
        norms = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
        norms = torch.where(present, norms, 0.0)
        weights = torch.where(norms > 0, norms.max() / torch.where(norms > 0, norms, 1.0), 0.0)
        return weights.to(rows) @ rows
