"""Fast adaptive multitask optimization."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import TaskStats, Weighting
from equipoise.core.method import check_at_least
from equipoise.solvers.adam import adam_step

_EPSILON = 1e-8  # keeps the logarithm finite at loss 0; the authors' value, in units of the loss


class FAMO(Weighting):
    """Lowers all losses at an alike relative rate, at the cost of one extra look at the losses.

    z = softmax(xi); total sum_i z_i log(L_i + 1e-8) / c with c = sum_i z_i / (L_i + 1e-8), so the weights are
    w_i = z_i / (L_i + 1e-8) / c. After the step, with the fall d_i = log L_i - log L_i(new), xi follows Adam
    along the gradient J_z' d, where J_z is the Jacobian of the softmax. All are (m,).

    Reads: losses, and the losses after the step.
    State: `xi` (m,), its Adam moments (m,), (m,) and steps (m,); the losses and z of the step that waits for its
        outcome (m,), (m,).
    Scale: the weights sum to 1 over the present tasks.
    Reference: B. Liu et al., "FAMO: Fast Adaptive Multitask Optimization", NeurIPS 2023,
        https://arxiv.org/abs/2306.03792, Algorithm 1; Adam and its settings from the authors' code.
    Departures: where `after_step` is not called, the losses of the next step stand for those after this one,
        which saves a forward pass and adds the noise of another batch. The lower bound of the losses is 0, the code's
        default. The stand-alone file of that code decays xi by 1e-2 and clips the shared gradient to norm 1; the code
        of its experiments, and this, do not. xi rests for an absent task, which counts in z' d as one that fell by 0.

    Args:
        n_tasks: the number of tasks m, at least 1.
        lr: step size of xi, at least 0; 0.025 in the authors' code.
        weight_decay: decay of xi, at least 0; 1e-5 in the code, 1e-3 in the paper (1e-2 on CityScapes).

    Raises:
        ValueError: if a hyper-parameter is out of its range; from the `Balancer`, for a loss that is not positive.
    """

    needs_positive_losses = True
    xi: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor
    steps: Tensor
    waiting_losses: Tensor
    waiting_z: Tensor

    def __init__(self, n_tasks: int, lr: float = 0.025, weight_decay: float = 1e-5) -> None:
        super().__init__(n_tasks)
        check_at_least("lr", lr, 0.0)
        check_at_least("weight_decay", weight_decay, 0.0)
        self.lr = lr
        self.weight_decay = weight_decay
        for name in ("xi", "exp_avg", "exp_avg_sq", "steps", "waiting_z"):
            self.register_buffer(name, torch.zeros(n_tasks, dtype=torch.float64))
        self.register_buffer("waiting_losses", torch.full((n_tasks,), torch.nan, dtype=torch.float64))

    def forward(self, stats: TaskStats) -> Tensor:
        """The task weights (m,)."""
        present = stats.present
        self._learn(stats.losses, present)
        z = torch.softmax(torch.where(present, self.xi, -torch.inf), dim=0)
        shares = torch.where(present, z / (stats.losses + _EPSILON), 0.0)
        self.waiting_losses.copy_(torch.where(present, stats.losses, torch.nan))
        self.waiting_z.copy_(z)
        return shares / shares.sum()

    def after_step(self, losses: Tensor) -> None:
        """Learn from the losses (m,) that the step led to.

        A NaN stands for a task without one. A loss that is infinite or below 0 teaches nothing either: its logarithm
        would stay in xi for good, and the next `backward` tells that the step went wrong.
        """
        losses = losses.detach().to(self.xi)
        self._learn(losses, losses.isfinite() & (losses >= 0))
        self.waiting_losses.fill_(torch.nan)

    def _learn(self, losses: Tensor, present: Tensor) -> None:
        known = present & ~self.waiting_losses.isnan()
        before, after = (torch.where(known, value, 1.0) for value in (self.waiting_losses, losses))
        fall = (before + _EPSILON).log() - (after + _EPSILON).log()
        gradient = self.waiting_z * (fall - (self.waiting_z * fall).sum())
        state = (self.xi, self.exp_avg, self.exp_avg_sq, self.steps)
        moved = adam_step(*state[:1], gradient, *state[1:], lr=self.lr, weight_decay=self.weight_decay)
        for buffer, value in zip(state, moved, strict=True):
            buffer.copy_(torch.where(known, value, buffer))
