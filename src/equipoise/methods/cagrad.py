"""Conflict-averse gradient descent."""

from __future__ import annotations

from torch import Tensor

from equipoise.core import GramianWeighting, TaskStats
from equipoise.core.method import check_at_least
from equipoise.solvers.cagrad import cagrad


class CAGrad(GramianWeighting):
    """Improves the worst-off task as far as a ball around the mean gradient allows.

    g0 = mean of the rows of J; over the simplex, a minimises g_a' g0 + c |g0| |g_a| with g_a = a J; then
    d = (g0 + c |g0| g_a / |g_a|) m / (1 + c^2), so w_i = (1 / m + c |g0| a_i / |g_a|) m / (1 + c^2), w and a (m,).

    Reads: Gramian.
    State: none.
    Scale: m / (1 + c^2); with c = 0 the weights are 1.
    Reference: B. Liu et al., "Conflict-Averse Gradient Descent for Multi-task Learning", NeurIPS 2021,
        https://arxiv.org/abs/2110.14048, Algorithm 1; the scale of the authors' code (its rescale=1, times m).
    Departures: the programme is solved to a certificate, where the code trusts SLSQP.

    Args:
        n_tasks: the number of tasks m, at least 1.
        c: the radius of the ball relative to |g0|, at least 0; 0.4 in the paper's main tables.

    Raises:
        ValueError: if a hyper-parameter is out of its range.
    """

    head_weights = "unit"

    def __init__(self, n_tasks: int, c: float = 0.4) -> None:
        super().__init__(n_tasks)
        check_at_least("c", c, 0.0)
        self.c = c

    def weigh(self, stats: TaskStats, index: Tensor) -> Tensor:
        """The weights (k,) of the present tasks."""
        solution = cagrad(stats.gramian, self.c)
        self.diagnostics = {"converged": solution.converged}
        return solution.weights
