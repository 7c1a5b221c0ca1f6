"""Loss discrepancy control for multi-task learning."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from equipoise.core import TaskStats, Weighting
from equipoise.core.method import check_at_least, check_one_of

_START = 0.6  # the mean of the authors' initial draw from [0.2, 1]


class LDCMTL(Weighting):
    """Learns shares of the tasks while it keeps the shared-out losses of neighbouring tasks close together.

    With l_i = L_i / L_i(0), L_i(0) the first loss, and the shares c_i = sigmoid(max(v_i, 0)) of learned logits v:
    total T = sum_i c_i l_i / sg(sum_j c_j) + discrepancy sum_i |c_i l_i - c_i+1 l_i+1|, sg for "not differentiated".
    With d_i = sign(c_i l_i - c_i+1 l_i+1), d_0 = d_m = 0 and q_i = c_i / sum_j c_j + discrepancy c_i (d_i - d_i-1),
    T = sum_i q_i l_i, so w_i = dT/dL_i = q_i dl_i/dL_i and the penalty is the rest of T, sum_i q_i l_i - w_i L_i: 0
    but for the "log" scale. All are (m,).

    Reads: losses.
    State: `logits` v (m,), parameters that an optimizer must step: add `balancer.parameters()` as a group;
        `first_losses` (m,), NaN before a task is seen.
    Scale: without discrepancy, the w_i L_i(0) sum to 1. Some weights can be negative where the discrepancy is above
        1 / (2 sum_j c_j).
    Reference: P. Xiao et al., "LDC-MTL: Balancing Multi-Task Learning through Scalable Loss Discrepancy Control",
        2025, https://arxiv.org/abs/2502.08585, the single-level penalised form; total and shares as in the QM9
        experiment of the authors' code.
    Departures: the paper's router maps features of the network to shares; as in the QM9 experiment, the router here is
        a vector, which starts at the mean of that experiment's draw. The code differs between experiments: log of
        l_i (QM9), l_i times the smallest L_j(0) (NYUv2), L_i (CelebA, CityScapes), L_i without shares in the
        discrepancy (CityScapes). It takes L_i(0) anew in each epoch on QM9, and once here. Discrepancies with an
        absent task are left out. The result depends on the order of the tasks, as in the paper.

    Args:
        n_tasks: the number of tasks m, at least 1.
        discrepancy: the code's lambda, at least 0; 0.05 for QM9 and NYUv2, 0.1 CityScapes, 0.01 CelebA.
        loss_scale: "initial" (l_i as above), "log" (its logarithm for l_i) or "none" (L_i for l_i).

    Raises:
        ValueError: if a hyper-parameter is out of its range; from the `Balancer`, for a loss that is not positive
            unless `loss_scale` is "none".
    """

    first_losses: Tensor

    def __init__(self, n_tasks: int, discrepancy: float = 0.05, loss_scale: str = "initial") -> None:
        super().__init__(n_tasks)
        check_at_least("discrepancy", discrepancy, 0.0)
        check_one_of("loss_scale", loss_scale, ("initial", "log", "none"))
        self.discrepancy = discrepancy
        self.loss_scale = loss_scale
        self.needs_positive_losses = loss_scale != "none"
        self.logits = nn.Parameter(torch.full((n_tasks,), _START, dtype=torch.float64))
        self.register_buffer("first_losses", torch.full((n_tasks,), torch.nan, dtype=torch.float64))
        self._signs = self._rest = torch.zeros(n_tasks, dtype=torch.float64)
        self._present = torch.zeros(n_tasks, dtype=torch.bool)

    def forward(self, stats: TaskStats) -> Tensor:
        """The task weights (m,), with a graph to the logits."""
        self._present = stats.present
        losses = torch.where(self._present, stats.losses, 1.0)
        first = torch.where(self.first_losses.isnan() & self._present, losses, self.first_losses)
        self.first_losses.copy_(first)
        unit = torch.ones_like(first) if self.loss_scale == "none" else torch.where(first.isnan(), 1.0, first)
        values, slopes = losses / unit, 1.0 / unit  # a quotient, so that first losses tie without rounding
        if self.loss_scale == "log":
            values, slopes = values.log(), 1.0 / losses
        shared_out = self._shares().detach() * values
        signs = (shared_out[:-1] - shared_out[1:]).sign() * (self._present[:-1] & self._present[1:])
        zero = signs.new_zeros(1)
        self._signs = torch.cat([signs, zero]) - torch.cat([zero, signs])
        self._rest = values - slopes * losses
        return self._coefficients() * slopes

    def penalty(self) -> Tensor:
        """What the weighted losses leave of the total, ()."""
        return (self._coefficients() * self._rest).sum()

    def _shares(self) -> Tensor:
        return torch.sigmoid(torch.relu(self.logits))

    def _coefficients(self) -> Tensor:
        """The factors q (m,) of the losses l, with a graph to the logits; 0 for absent tasks."""
        shares = self._shares()
        pull = 1.0 / shares.sum().detach() + self.discrepancy * self._signs
        return torch.where(self._present, shares * pull, 0.0)
