"""Momentum ConFIG."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import Aggregator, TaskStats, Tracked
from equipoise.core.rows import tracked_like
from equipoise.core.stats import gramian_of
from equipoise.solvers.conflict_free import conflict_free

_EPSILON = (
    1e-8  # keeps the quotient finite where nothing has moved; the authors' value, in units of the gradient
)


class MConFIG(Aggregator):
    """Finds the conflict-free direction of the tasks' recent gradients, for as little as one backward pass a step.

    Momenta of the present tasks M_i <- beta1 M_i + (1 - beta1) J_i, with the Jacobian J (m, n); c (n,) is the ConFIG
    direction of M_i / (1 - beta1^t_i), t_i the steps that saw task i. As in Adam, c is scaled by a second moment, of
    the gradient of which c would be the momentum: e = (a - beta1 a_before) / (1 - beta1), a = c (1 - beta1^t);
    v <- beta2 v + (1 - beta2) e * e; the answer is c / (sqrt(v / (1 - beta2^t)) + 1e-8), elementwise (n,).
    To take the tasks in turn, as the paper does, give `balancer.backward` the loss of one task at each step.

    Reads: Jacobian.
    State: M (m, n); a and v (n,); `counts` (m,), the t_i; `steps` (), t.
    Scale: entries about 1 in size, for use with plain SGD; not with Adam, which would scale them once more.
    Reference: Q. Liu et al., "ConFIG: Towards Conflict-free Training of Physics Informed Neural Networks", ICLR 2025,
        https://arxiv.org/abs/2408.11104, Algorithm 1.
    Departures: an absent task counts with its momentum, since that is the idea of the method. The paper moves one
        momentum a step, this those of all present tasks. Tasks never seen are left out, where the code answers
        with zero until all were seen. Taking turns needs `shared=` in the Balancer: one loss alone cannot tell.

    Args:
        n_tasks: the number of tasks m, at least 1.
        beta1: what is kept of a momentum, in [0, 1); 0.9 in the authors' code.
        beta2: what is kept of the second moment, in [0, 1); 0.999 in the authors' code.

    Raises:
        ValueError: if a hyper-parameter is out of its range, or if the shared parameters change while their momenta are
            kept.
    """

    counts: Tensor
    steps: Tensor

    def __init__(self, n_tasks: int, beta1: float = 0.9, beta2: float = 0.999) -> None:
        super().__init__(n_tasks)
        for name, value in (("beta1", beta1), ("beta2", beta2)):
            if not 0.0 <= value < 1.0:
                raise ValueError(f"`{name}` should be at least 0 and below 1. Found {value:g}.")
        self.beta1 = beta1
        self.beta2 = beta2
        self.momenta, self.before, self.second = Tracked(), Tracked(), Tracked()
        self.register_buffer("counts", torch.zeros(n_tasks, dtype=torch.float64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.float64))

    def forward(self, stats: TaskStats) -> Tensor:
        """The shared gradient (n,)."""
        rows, present = stats.jacobian, stats.present[:, None].to(stats.jacobian)
        momenta = tracked_like(self.momenta, rows).lerp_(rows, (1.0 - self.beta1) * present)
        self.counts += stats.present
        self.steps += 1
        seen = self.counts > 0
        scale = torch.where(seen, 1.0 / (1.0 - self.beta1 ** self.counts.clamp(min=1)), 0.0)
        weights = scale * conflict_free(gramian_of(momenta) * scale * scale[:, None])
        direction = weights.to(rows) @ momenta
        momentum = direction * (1.0 - self.beta1**self.steps).to(rows)
        before = tracked_like(self.before, momentum)
        pseudo = (momentum - self.beta1 * before) / (1.0 - self.beta1)
        before.copy_(momentum)
        second = tracked_like(self.second, pseudo).lerp_(pseudo * pseudo, 1.0 - self.beta2)
        return direction / ((second / (1.0 - self.beta2**self.steps).to(rows)).sqrt() + _EPSILON)
