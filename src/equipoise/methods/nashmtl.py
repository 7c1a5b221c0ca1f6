"""Nash-MTL: the bargaining solution."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import GramianWeighting, TaskStats
from equipoise.core.method import check_at_least
from equipoise.solvers.fairness import nash


class NashMTL(GramianWeighting):
    """Gives every task the same bargaining power, whatever the size of its gradient.

    The weights w > 0 (m,) solve G w = 1 / w (elementwise) with the Gramian G (m, m), the optimality condition of
    the strictly convex w' G w / 2 - sum_i log w_i. The shared gradient w J is then clipped to norm `max_norm`.

    Reads: Gramian.
    State: `previous` (m,), the last weights found, 1 at first.
    Scale: |w J|^2 = m before clipping. The clipping touches the shared gradient only.
    Reference: A. Navon et al., "Multi-Task Learning as a Bargaining Game", ICML 2022,
        https://arxiv.org/abs/2202.01017, Algorithm 1.
    Departures: Newton's method to a residual of 1e-10, where the authors stop a sequence of convex programmes
        after 20 rounds. At a Pareto-stationary point, where no solution exists, the previous weights
        are kept, as in the authors' code, and "converged" in `diagnostics` is False. To solve less often than
        at every step, wrap it in `Every`.

    Args:
        n_tasks: the number of tasks m, at least 1.
        max_norm: what the shared gradient's norm is clipped to, at least 0; 0 for no clipping; 1 in the authors' code.

    Raises:
        ValueError: if a hyper-parameter is out of its range.
    """

    previous: Tensor

    def __init__(self, n_tasks: int, max_norm: float = 1.0) -> None:
        super().__init__(n_tasks)
        check_at_least("max_norm", max_norm, 0.0)
        self.max_norm = max_norm
        self.register_buffer("previous", torch.ones(n_tasks, dtype=torch.float64))

    def weigh(self, stats: TaskStats, index: Tensor) -> Tensor:
        """The weights (k,) of the present tasks."""
        solution = nash(stats.gramian)
        weights = torch.where(solution.converged, solution.weights, self.previous[index])
        self.previous.index_copy_(0, index, weights)
        self.diagnostics = {"converged": solution.converged}
        return weights
