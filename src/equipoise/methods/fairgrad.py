"""Fair gradient descent."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import GramianWeighting, TaskStats
from equipoise.core.method import check_at_least
from equipoise.solvers.fairness import nash


class FairGrad(GramianWeighting):
    """Shares the progress of a step among the tasks as alpha-fairness asks, from total progress to the worst-off task.

    The weights w > 0 (m,) solve G w = w^(-1 / alpha) (elementwise) with the Gramian G (m, m): the direction d = w J
    maximises sum_i (g_i' d)^(1 - alpha) / (1 - alpha) over a ball. alpha = 1 is the bargaining of `NashMTL`; alpha
    towards 0 gives equal weights, alpha towards infinity equal progress g_i' d for all.

    Reads: Gramian.
    State: `previous` (m,), the last weights found, 1 at first.
    Scale: |w J|^2 = sum_i w_i^(1 - 1 / alpha), before clipping. The clipping touches the shared gradient only.
    Reference: H. Ban, K. Ji, "Fair Resource Allocation in Multi-Task Learning", ICML 2024,
        https://arxiv.org/abs/2402.15638, Eq. 5 and Algorithm 1.
    Departures: Newton's method to a residual of 1e-10, where the authors use nonlinear least squares; without their
        factor m on the shared gradient, which their clipping to norm 1 undoes as a rule. A zero gradient gets
        weight 0. At a Pareto-stationary point, where no solution exists, the previous weights are kept, and
        "converged" in `diagnostics` is False.

    Args:
        n_tasks: the number of tasks m, at least 1.
        alpha: fairness, above 0; 1 in the authors' code.
        max_norm: what the shared gradient's norm is clipped to, at least 0; 0 for no clipping; 1 in the authors'
            code.

    Raises:
        ValueError: if a hyper-parameter is out of its range.
    """

    head_weights = "unit"
    previous: Tensor

    def __init__(self, n_tasks: int, alpha: float = 1.0, max_norm: float = 0.0) -> None:
        super().__init__(n_tasks)
        if not alpha > 0:
            raise ValueError(f"`alpha` should be above 0. Found {alpha:g}.")
        check_at_least("max_norm", max_norm, 0.0)
        self.alpha = alpha
        self.max_norm = max_norm
        self.register_buffer("previous", torch.ones(n_tasks, dtype=torch.float64))

    def weigh(self, stats: TaskStats, index: Tensor) -> Tensor:
        """The weights (k,) of the present tasks."""
        solution = nash(stats.gramian, self.alpha)
        weights = torch.where(solution.converged, solution.weights, self.previous[index])
        self.previous.index_copy_(0, index, weights)
        self.diagnostics = {"converged": solution.converged}
        return weights
