"""Conflict-free inverse gradients."""

from __future__ import annotations

from torch import Tensor

from equipoise.core import GramianWeighting, TaskStats
from equipoise.core.method import check_at_least
from equipoise.solvers.conflict_free import conflict_free


class ConFIG(GramianWeighting):
    """Goes where the cosines with all task gradients are equal, as far as the gradients together reach that way.

    With unit gradients U (m, n) the direction is pinv(U) 1, scaled to length 1 as u, and d = (sum_i g_i' u) u. In
    terms of the cosines C = U U' (m, m): b = pinv(C) 1 and w_i = (b_i / |g_i|) sum_j |g_j| (C b)_j / (b' C b), b
    and w (m,).

    Reads: Gramian.
    State: none.
    Scale: |d| = sum_i g_i' u; some weights can be negative.
    Reference: Q. Liu, M. Chu, N. Thuerey, "ConFIG: Towards Conflict-free Training of Physics Informed Neural
        Networks", ICLR 2025, https://arxiv.org/abs/2408.11104, Eq. 2.
    Departures: the paper has no task heads; theirs are left alone, since a negative weight would make their loss
        rise. Eigenvalues of C below `tolerance` m count as zero: the square of what the pseudoinverse of U leaves
        out. A zero gradient takes no part. Where no direction has a positive cosine in common (pinv(U) 1 = 0), the
        weights are 0 and the shared parameters rest.

    Args:
        n_tasks: the number of tasks m, at least 1.
        tolerance: of the eigenvalues, at least 0.

    Raises:
        ValueError: if a hyper-parameter is out of its range.
    """

    head_weights = "unit"

    def __init__(self, n_tasks: int, tolerance: float = 1e-13) -> None:
        super().__init__(n_tasks)
        check_at_least("tolerance", tolerance, 0.0)
        self.tolerance = tolerance

    def weigh(self, stats: TaskStats, index: Tensor) -> Tensor:
        """The weights (k,) of the present tasks."""
        return conflict_free(stats.gramian, self.tolerance)
