"""Impartial multi-task learning, gradient part."""

from __future__ import annotations

from torch import Tensor

from equipoise.core import GramianWeighting, TaskStats
from equipoise.core.method import check_at_least
from equipoise.solvers.equal_projections import equal_projections


class IMTLG(GramianWeighting):
    """Finds the shared gradient whose projections on all task gradients are equal.

    With unit gradients u_i = g_i / |g_i| and cosines C = U U' (m, m): b = C^-1 1 and
    w_i = (b_i / |g_i|) / sum_j (b_j / |g_j|), so that d = sum_i w_i g_i has the same d' u_i for all i. w (m,).

    Reads: Gramian.
    State: none.
    Scale: the weights sum to 1; some can be negative.
    Reference: L. Liu et al., "Towards Impartial Multi-task Learning", ICLR 2021,
        https://openreview.net/forum?id=IMPnRXEWpvr, Eq. 6 in an equivalent form.
    Departures: none where the answer exists. Tasks with a zero gradient are left out with weight 0. Where the
        unit gradients are linearly dependent (the smallest eigenvalue of C is below `tolerance`), or no
        combination sums to 1, the answer is equal weights 1 / m, and "converged" in `diagnostics` is False.

    Args:
        n_tasks: the number of tasks m, at least 1.
        tolerance: of the smallest eigenvalue of C, at least 0.

    Raises:
        ValueError: if a hyper-parameter is out of its range.
    """

    def __init__(self, n_tasks: int, tolerance: float = 1e-12) -> None:
        super().__init__(n_tasks)
        check_at_least("tolerance", tolerance, 0.0)
        self.tolerance = tolerance

    def weigh(self, stats: TaskStats, index: Tensor) -> Tensor:
        """The weights (k,) of the present tasks."""
        weights, converged = equal_projections(stats.gramian, self.tolerance)
        self.diagnostics = {"converged": converged}
        return weights
