"""Multi-objective gradient with double sampling."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import Reads, TaskStats, Weighting
from equipoise.core.method import check_at_least
from equipoise.core.rows import cross_gramian
from equipoise.solvers.simplex import project_simplex, shares_of_present


class MoDo(Weighting):
    """Searches the common descent direction with two independent batches, so that their noise cancels on average.

    With the Jacobians J1 (m, n) of the batch and J2 (m, n) of a second one at the same parameters, the shares
    l <- P(l - gamma (J1 J2' l + rho l)) (m,), from 1 / m, with P the nearest point of the simplex; w = l (m,).
    Call `balancer.measure(losses)` on the second batch before `balancer.backward(losses)` on the first.

    Reads: Jacobian, of two batches.
    State: `shares` (m,).
    Scale: the weights sum to 1. gamma is in units of 1 / |g|^2: it has to follow the scale of the losses.
    Reference: L. Chen, H. Fernando, Y. Ying, T. Chen, "Three-Way Trade-Off in Multi-Objective Learning: Optimization,
        Generalization and Conflict-Avoidance", NeurIPS 2023, https://arxiv.org/abs/2305.20057 (MoDo); rho from the
        authors' code.
    Departures: the parameters move by the gradients of the batch given to `backward`, where the authors' code adds
        those of the second batch, and LibMTL takes those of a third. Heads are not weighted, as in both. An
        absent task keeps its share and counts with 0 in that step, in which those of the others are taken to sum to
        1. The share of a task that only the second batch lacks takes no step of its own.

    Args:
        n_tasks: the number of tasks m, at least 1.
        gamma: step size of the shares, at least 0; 0.1 in the authors' code.
        rho: how strongly the shares are drawn together, at least 0; 0.1 in the authors' code.

    Raises:
        ValueError: if a hyper-parameter is out of its range, or the two batches reach different shared parameters.
        MissingStatisticError: if no second batch was measured.
    """

    head_weights = "unit"
    second_batch = "train"
    shares: Tensor

    def __init__(self, n_tasks: int, gamma: float = 0.1, rho: float = 0.1) -> None:
        super().__init__(n_tasks)
        check_at_least("gamma", gamma, 0.0)
        check_at_least("rho", rho, 0.0)
        self.gamma = gamma
        self.rho = rho
        self.register_buffer("shares", torch.full((n_tasks,), 1.0 / n_tasks, dtype=torch.float64))

    @property
    def reads(self) -> Reads:
        """The Jacobian."""
        return Reads.JACOBIAN

    def forward(self, stats: TaskStats) -> Tensor:
        """The task weights (m,)."""
        present = stats.present
        here, whole = shares_of_present(self.shares, present)
        slopes = cross_gramian(stats) @ here + self.rho * here
        steps = torch.where(stats.other.present, self.gamma * slopes, 0.0)
        moved = project_simplex(torch.where(present, here - steps, -torch.inf))
        self.shares.copy_(torch.where(present, whole * moved, self.shares))
        return torch.where(present, moved, 0.0)
