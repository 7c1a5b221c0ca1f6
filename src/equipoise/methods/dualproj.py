"""Dual projection of the mean gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import GramianWeighting, TaskStats
from equipoise.solvers.dual_cone import project_on_dual_cone


class DualProj(GramianWeighting):
    """Moves the mean gradient to the nearest direction that harms no task.

    w (m,) minimises w' G w over w_i >= 1 / m with the Gramian G (m, m): w J is the projection of the mean gradient
    on the directions d with J d >= 0.

    Reads: Gramian.
    State: none.
    Scale: 1 / m; where the mean conflicts with no task the weights are 1 / m.
    Reference: D. Lopez-Paz, M. Ranzato, "Gradient Episodic Memory for Continual Learning", NeurIPS 2017,
        https://arxiv.org/abs/1706.08840, Eq. 11; named and put to this use by P. Quinton, V. Rey, "Jacobian Descent
        for Multi-Objective Optimization", 2024, https://arxiv.org/abs/2406.16232.
    Departures: the first paper projects the gradient of the current task off those of past ones, with a margin;
        here the gradient is the mean, no margin. Solved to a certificate; "converged" in `diagnostics` is False
        where it fails.

    Args:
        n_tasks: the number of tasks m, at least 1.

    Raises:
        ValueError: if `n_tasks` is below 1.
    """

    head_weights = "unit"

    def weigh(self, stats: TaskStats, index: Tensor) -> Tensor:
        """The weights (k,) of the present tasks."""
        mean = torch.full_like(stats.losses, 1.0 / len(index))
        solution = project_on_dual_cone(stats.gramian, mean)
        self.diagnostics = {"converged": solution.converged}
        return solution.weights
