"""Multiple gradient descent algorithm."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import GramianWeighting, TaskStats
from equipoise.core.method import check_one_of
from equipoise.solvers.min_norm import min_norm


class MGDA(GramianWeighting):
    """Descends along the shortest gradient in the convex hull of the task gradients.

    a = argmin over the simplex of |sum_i a_i g_i / c_i|^2, with c_i = 1, |g_i|, L_i or |g_i| L_i; w = m a (m,).
    Without normalisation, d = a J satisfies d' g_i >= |d|^2 for each i, so no loss rises to first order.
    With it this does not hold: the weights are for the gradients as they are, so that long ones outweigh short ones,
    and the loss of a short one can rise.

    Reads: Gramian, and the losses where it normalises by them.
    State: none.
    Scale: the weights sum to m, and apply to the losses as they are, not to the normalised ones.
    Reference: O. Sener, V. Koltun, "Multi-Task Learning as Multi-Objective Optimization", NeurIPS 2018,
        https://arxiv.org/abs/1810.04650, Eq. 3; the factor m and the normalisations as in the code of Nash-MTL.
    Departures: the quadratic programme is solved to a certificate, where the code's Frank-Wolfe iteration stops early.
        A zero gradient is the shortest of all: its task gets all the weight and the shared parameters rest.

    Args:
        n_tasks: the number of tasks m, at least 1.
        normalization: "none", "norm", "loss" or "loss+" (loss times norm).

    Raises:
        ValueError: if a hyper-parameter is out of its range; from the `Balancer`, for a loss that is not positive
            where the method divides by it.
    """

    def __init__(self, n_tasks: int, normalization: str = "none") -> None:
        super().__init__(n_tasks)
        check_one_of("normalization", normalization, ("none", "norm", "loss", "loss+"))
        self.normalization = normalization
        self.needs_positive_losses = normalization in ("loss", "loss+")

    def weigh(self, stats: TaskStats, index: Tensor) -> Tensor:
        """The weights (k,) of the present tasks."""
        divisors = torch.ones_like(stats.losses)
        if self.normalization in ("norm", "loss+"):
            norms = stats.gramian.diagonal().clamp(min=0).sqrt()
            divisors = divisors * torch.where(norms > 0, norms, 1.0)
        if self.normalization in ("loss", "loss+"):
            divisors = divisors * stats.losses
        solution = min_norm(stats.gramian / divisors[:, None] / divisors)
        self.diagnostics = {"converged": solution.converged}
        return solution.weights * len(index)
