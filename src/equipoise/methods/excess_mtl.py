"""Multi-task learning with excess risks."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import Reads, TaskStats, Tracked, Weighting
from equipoise.core.method import check_at_least
from equipoise.core.rows import tracked_like

_EPSILON = (
    1e-7  # keeps the root of unseen squares away from 0; the authors' value, in units of squared gradients
)


class ExcessMTL(Weighting):
    """Gives more weight to the tasks that are further from convergence, not to those with large or noisy losses.

    Squares S <- S + J * J elementwise, from 0, with the Jacobian J (m, n); excess risks, by the diagonal curvature
    of AdaGrad, r_i = sum_k J_ik^2 / sqrt(S_ik + 1e-7) (m,); p = r / r_first (m,), relative to the first risk of each
    task; w is proportional to w exp(step_size p) (m,), from equal weights.

    Reads: Jacobian.
    State: S (m, n); `log_weights` (m,) up to a constant; `first_risks` and the last p (m,), NaN where not yet seen.
    Scale: the weights sum to m, those of absent tasks included.
    Reference: Y. He et al., "Robust Multi-Task Learning with Excess Risks", ICML 2024,
        https://arxiv.org/abs/2402.02009, ExcessMTL; the first risk and the factor m from the authors' code.
    Departures: the paper averages the first risks over warm-up epochs, the code takes those of the first step, as this
        does. Kept as logarithms, the weights saturate where the code's product of exponentials overflows. A zero
        gradient is p = 0 and no first risk. While a task is absent its weight moves by its last p (one never seen, by
        the mean of the others), and is 0 in that step without changing the weights of the others.

    Args:
        n_tasks: the number of tasks m, at least 1.
        step_size: of the logarithms of the weights, at least 0; 0.01 in the authors' code.

    Raises:
        ValueError: if a hyper-parameter is out of its range, or if the shared parameters change while their squared
            gradients are summed.
    """

    log_weights: Tensor
    first_risks: Tensor
    last_risks: Tensor

    def __init__(self, n_tasks: int, step_size: float = 0.01) -> None:
        super().__init__(n_tasks)
        check_at_least("step_size", step_size, 0.0)
        self.step_size = step_size
        self.squares = Tracked()
        self.register_buffer("log_weights", torch.zeros(n_tasks, dtype=torch.float64))
        for name in ("first_risks", "last_risks"):
            self.register_buffer(name, torch.full((n_tasks,), torch.nan, dtype=torch.float64))

    @property
    def reads(self) -> Reads:
        """The Jacobian."""
        return Reads.JACOBIAN

    def forward(self, stats: TaskStats) -> Tensor:
        """The task weights (m,)."""
        rows, present = stats.jacobian, stats.present
        squares = tracked_like(self.squares, rows).addcmul_(rows, rows)
        risks = (rows * rows / (squares + _EPSILON).sqrt()).sum(1, dtype=torch.float64)
        known = ~self.first_risks.isnan()
        self.first_risks.copy_(torch.where(known | (risks == 0), self.first_risks, risks))
        relative = torch.where(risks > 0, risks / self.first_risks, 0.0)
        self.last_risks.copy_(torch.where(present, relative, self.last_risks))
        mean = torch.where(present, relative, 0.0).sum() / present.sum().clamp(min=1)
        moves = torch.where(self.last_risks.isnan(), mean, self.last_risks)
        log_weights = self.log_weights + self.step_size * moves
        self.log_weights.copy_(log_weights - log_weights.mean())
        self.diagnostics = {"excess_risks": relative}
        return torch.where(present, self.n_tasks * torch.softmax(self.log_weights, dim=0), 0.0)
