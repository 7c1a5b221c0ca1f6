"""Stochastic direction-oriented multi-objective gradient descent."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import Reads, TaskStats, Weighting
from equipoise.core.method import check_at_least
from equipoise.core.rows import cross_gramian
from equipoise.solvers.simplex import project_simplex, shares_of_present


class SDMGrad(Weighting):
    """Searches a descent direction common to all tasks that stays near the mean gradient, without bias from noise.

    With the Jacobians J1 (m, n) of the batch and J2 (m, n) of a second one at the same parameters,
    A = J1 J2' / s^2 (m, m), s = mean_i sqrt(max(A_ii, 0)) before that division, and u = 1 / m (m,): from the last
    shares l (m,), `steps` times v <- momentum v + A (l + strength u), l <- P(l - lr v), from v = 0, with P the nearest
    point of the simplex. w = m (l + strength u) / (1 + strength) (m,). At rest l minimises |(l + strength u) J|.
    Call `balancer.measure(losses)` on the second batch before `balancer.backward(losses)` on the first.

    Reads: Jacobian, of two batches.
    State: `shares` (m,).
    Scale: the weights sum to the number of present tasks.
    Reference: P. Xiao, H. Ban, K. Ji, "Direction-oriented Multi-objective Learning: Simple and Provable Stochastic
        Algorithms", NeurIPS 2023, https://arxiv.org/abs/2305.18409 (SDMGrad); s, momentum and the factor m from the
        authors' code.
    Departures: all inner steps use the same two batches, as in the code, and the first of them moves the parameters,
        where the paper draws new ones. The code as published holds its three batches in one buffer, so that they are
        one; this does as the paper says. It adds 1e-4 to A_ii under the root, where this takes 0 for what is below 0;
        where no A_ii is positive the shares stay. The code then clips the shared gradient to norm 1; wrap it in
        `ClipNorm` for that. An absent task keeps its share and counts with 0 in that step, in
        which those of the others are taken to sum to 1. The share of a task that
        only the second batch lacks takes no step of its own.

    Args:
        n_tasks: the number of tasks m, at least 1.
        strength: the lambda of the paper, the pull towards the mean gradient, at least 0; 0.3 in its experiments.
        lr: step size of the shares, at least 0; 10 in the authors' code.
        momentum: of these steps, in [0, 1); 0.5 in the authors' code.
        steps: how many at each call, at least 1; 20 in the authors' code.

    Raises:
        ValueError: if a hyper-parameter is out of its range, or the two batches reach different shared parameters.
        MissingStatisticError: if no second batch was measured.
    """

    head_weights = "unit"
    second_batch = "train"
    shares: Tensor

    def __init__(
        self,
        n_tasks: int,
        strength: float = 0.3,
        lr: float = 10.0,
        momentum: float = 0.5,
        steps: int = 20,
    ) -> None:
        super().__init__(n_tasks)
        check_at_least("strength", strength, 0.0)
        check_at_least("lr", lr, 0.0)
        check_at_least("steps", steps, 1)
        if not 0.0 <= momentum < 1.0:
            raise ValueError(f"`momentum` should be at least 0 and below 1. Found {momentum:g}.")
        self.strength = strength
        self.lr = lr
        self.momentum = momentum
        self.steps = steps
        self.register_buffer("shares", torch.full((n_tasks,), 1.0 / n_tasks, dtype=torch.float64))

    @property
    def reads(self) -> Reads:
        """The Jacobian."""
        return Reads.JACOBIAN

    def forward(self, stats: TaskStats) -> Tensor:
        """The task weights (m,)."""
        cross, present = cross_gramian(stats), stats.present
        moving = present & stats.other.present
        cross = torch.where(moving[:, None], _scaled(cross, moving.double()), 0.0)
        here = present.double()
        count = here.sum().clamp(min=1)
        pull = self.strength * here / count
        shares, whole = shares_of_present(self.shares, present)
        velocity = torch.zeros_like(shares)
        for _ in range(self.steps):
            velocity = self.momentum * velocity + cross @ (shares + pull)
            shares = project_simplex(torch.where(present, shares - self.lr * velocity, -torch.inf))
        self.shares.copy_(torch.where(present, whole * shares, self.shares))
        return count * here * (shares + pull) / (1.0 + self.strength)


def _scaled(cross: Tensor, moving: Tensor) -> Tensor:
    """The products (m, m) over the squared mean length of the moving tasks' gradients; 0 where it is 0."""
    lengths = cross.diagonal().clamp(min=0).sqrt()
    scale = (lengths * moving).sum() / moving.sum().clamp(min=1)
    return torch.where(scale > 0, cross / torch.where(scale > 0, scale, 1.0) ** 2, 0.0)
