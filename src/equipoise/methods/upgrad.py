"""Unconflicting projection of gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import GramianWeighting, TaskStats
from equipoise.solvers.dual_cone import project_on_dual_cone


class UPGrad(GramianWeighting):
    """Moves each gradient to the nearest direction that harms no task, and takes the mean of those.

    For each task i, v_i (m,) minimises v' G v over v >= e_i with the Gramian G (m, m): v_i J is the projection of
    g_i on the directions d with J d >= 0. w = (1 / m) sum_i v_i (m,). The larger a gradient without conflict, the
    more it counts.

    Reads: Gramian.
    State: none.
    Scale: 1 / m; without conflict the weights are 1 / m.
    Reference: P. Quinton, V. Rey, "Jacobian Descent for Multi-Objective Optimization", 2024,
        https://arxiv.org/abs/2406.16232, Eq. 3 and Proposition 1.
    Departures: all projections at once and to a certificate, where the authors add 1e-4 to the diagonal of the
        normalised Gramian. "converged" in `diagnostics` is False where the certificate fails.

    Args:
        n_tasks: the number of tasks m, at least 1.

    Raises:
        ValueError: if `n_tasks` is below 1.
    """

    head_weights = "unit"

    def weigh(self, stats: TaskStats, index: Tensor) -> Tensor:
        """The weights (k,) of the present tasks."""
        each = torch.eye(len(index), dtype=torch.float64, device=stats.gramian.device) / len(index)
        solution = project_on_dual_cone(stats.gramian, each)
        self.diagnostics = {"converged": solution.converged}
        return solution.weights.sum(0)
