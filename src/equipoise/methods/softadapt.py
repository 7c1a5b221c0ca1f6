"""SoftAdapt."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from equipoise.core import LastLosses, TaskStats, Weighting
from equipoise.core.method import check_at_least, check_one_of


class SoftAdapt(Weighting):
    """Gives more weight to losses that rise, or fall more slowly than the others.

    With a point for the mean loss over `window` steps and the slope s_i at the last of `order` + 1 points of loss i,
    w = softmax(beta s). Variants: "normalized" has s_i / sum_j |s_j| for s_i, and "loss_weighted" has
    w_i proportional to a_i exp(beta s_i) with a_i the mean of the points. s, a and w are (m,). The slope is the
    backward difference sum_k nabla^k / k for k = 1 to `order`, exact for polynomials of that degree.

    Reads: losses.
    State: `history` ((order + 1) window, m), the losses of the last steps; `steps` (); the last seen losses (m,).
    Scale: the weights sum to 1 when all tasks are present; they are 1 / m until the history is full.
    Reference: A. A. Heydari, C. A. Thompson, A. Mehmood, "SoftAdapt: Techniques for Adaptive Loss Weighting of Neural
        Networks with Multi-Part Loss Functions", 2019, https://arxiv.org/abs/1912.12355, Section 3.1 (three variants).
    Departures: the authors' code is called by hand, as a rule with a point per epoch and weights 1 before; here the
        weights move at every step, and the window slides. The code takes the slope at its oldest point and the highest
        order that its points allow; this takes it at the newest, and order 1. "normalized" divides by the sum of
        |s_j| as in their first code; the later one divides by the sum of s_j, which can be 0. While a task is absent,
        its last loss is repeated; its first loss counts as all of its history.

    Args:
        n_tasks: the number of tasks m, at least 1.
        beta: per unit of the slope; 0.1 in the code. Below 0, it favours the losses that fall fastest.
        order: of the difference, at least 1; high orders magnify noise.
        window: steps in a point, at least 1.
        variant: "original", "normalized" or "loss_weighted".

    Raises:
        ValueError: if a hyper-parameter is out of its range; from the `Balancer`, for a loss that is not positive
            with "loss_weighted".
    """

    history: Tensor
    steps: Tensor
    coefficients: Tensor

    def __init__(
        self, n_tasks: int, beta: float = 0.1, order: int = 1, window: int = 1, variant: str = "original"
    ) -> None:
        super().__init__(n_tasks)
        if not math.isfinite(beta):
            raise ValueError(f"`beta` should be finite. Found {beta:g}.")
        check_at_least("order", order, 1)
        check_at_least("window", window, 1)
        check_one_of("variant", variant, ("original", "normalized", "loss_weighted"))
        self.beta = beta
        self.points = (order + 1, window, n_tasks)
        self.variant = variant
        self.needs_positive_losses = variant == "loss_weighted"
        self.last_losses = LastLosses(n_tasks)
        harmonic = sum(1 / k for k in range(1, order + 1))
        newest_first = [harmonic] + [(-1) ** k * math.comb(order, k) / k for k in range(1, order + 1)]
        coefficients = torch.tensor(newest_first[::-1], dtype=torch.float64)
        self.register_buffer("coefficients", coefficients, persistent=False)
        self.register_buffer("history", torch.zeros((order + 1) * window, n_tasks, dtype=torch.float64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, stats: TaskStats) -> Tensor:
        """The task weights (m,)."""
        first = self.last_losses.seen.isnan() & stats.present
        losses = self.last_losses(stats)
        moved = torch.cat([self.history[1:], losses[None]])
        self.history.copy_(torch.where(first, losses, moved))
        self.steps.add_(1)
        points = self.history.view(self.points).mean(1)
        slopes = self.coefficients @ points
        if self.variant == "normalized":
            size = slopes.abs().sum()
            slopes = torch.where(size > 0, slopes / size, 0.0)
        logits = self.beta * slopes
        if self.variant == "loss_weighted":
            logits = logits + points.mean(0).log()
        weights = torch.where(
            self.steps < len(self.history), 1.0 / self.n_tasks, torch.softmax(logits, dim=0)
        )
        return torch.where(stats.present, weights, 0.0)
