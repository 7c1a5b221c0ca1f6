"""Multi-objective gradient correction."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import Aggregator, TaskStats, Tracked
from equipoise.core.method import check_at_least
from equipoise.core.rows import tracked_like
from equipoise.core.stats import gramian_of
from equipoise.solvers.simplex import project_simplex, shares_of_present


class MoCo(Aggregator):
    """Tracks the gradients over time, so that their noise does not bias the search for a common descent direction.

    Tracked gradients Y <- Y - beta (Y - J), from 0, with the Jacobian J (m, n); shares on the simplex
    l <- P(l - gamma (Y Y' l + rho l)) (m,), from 1 / m, with P the nearest point of the simplex; the answer is
    l Y (n,). At rest l Y is the shortest convex combination of the expected gradients.

    Reads: Jacobian.
    State: Y (m, n); `shares` (m,).
    Scale: a convex combination. Y starts at 0, so the first answers are shorter by 1 - (1 - beta)^t. gamma is in units
        of 1 / |g|^2: it has to follow the scale of the losses.
    Reference: H. Fernando et al., "Mitigating Gradient Bias in Multi-objective Learning: A Provably Convergent
        Approach", ICLR 2023, https://openreview.net/forum?id=dLAYGdKTi2 (MoCo). "The authors' code" is that in the
        repository of their next paper, on `MoDo`.
    Departures: beta and gamma are constant, Y is not confined to a ball, and each update uses the result of the one
        before: as in the authors' code, not as in the paper. Their first code lets beta and gamma fall with the steps
        and has no rho; LibMTL has a softmax for P. The code's options to rescale Y for the shares are left out. An
        absent task keeps its row of Y and its share and counts with 0 in that step, in which the shares of the others
        are taken to sum to 1. A task whose tracked gradient is zero attracts all shares, and the parameters rest.

    Args:
        n_tasks: the number of tasks m, at least 1.
        beta: step size of Y, above 0 and at most 1; 0.1 in the authors' code.
        gamma: step size of the shares, at least 0; 0.1 in the authors' code.
        rho: how strongly the shares are drawn together, at least 0; 0.1 in the authors' code.

    Raises:
        ValueError: if a hyper-parameter is out of its range, or if the shared parameters change while gradients are
            tracked.
    """

    shares: Tensor

    def __init__(self, n_tasks: int, beta: float = 0.1, gamma: float = 0.1, rho: float = 0.1) -> None:
        super().__init__(n_tasks)
        if not 0.0 < beta <= 1.0:
            raise ValueError(f"`beta` should be above 0 and at most 1. Found {beta:g}.")
        check_at_least("gamma", gamma, 0.0)
        check_at_least("rho", rho, 0.0)
        self.beta = beta
        self.gamma = gamma
        self.rho = rho
        self.tracked = Tracked()
        self.register_buffer("shares", torch.full((n_tasks,), 1.0 / n_tasks, dtype=torch.float64))

    def forward(self, stats: TaskStats) -> Tensor:
        """The shared gradient (n,)."""
        rows, present = stats.jacobian, stats.present
        tracked = tracked_like(self.tracked, rows).lerp_(rows, self.beta * present[:, None].to(rows))
        here, whole = shares_of_present(self.shares, present)
        slopes = gramian_of(tracked) @ here + self.rho * here
        moved = project_simplex(torch.where(present, here - self.gamma * slopes, -torch.inf))
        self.shares.copy_(torch.where(present, whole * moved, self.shares))
        used = torch.where(present, moved, 0.0)
        self.diagnostics = {"shares": used}
        return used.to(rows) @ tracked
