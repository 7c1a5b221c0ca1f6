"""Convergence balancer."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import TaskStats, Tracked, Weighting
from equipoise.core.method import check_at_least


class CoBa(Weighting):
    """Lets the validation losses of all tasks level off together, and holds back tasks that begin to overfit.

    With the validation losses relative to the first ones seen, a_i is the least-squares slope of the last `window` of
    task i against the step number. Relative score: R = softmax over i of m a_i / sum_j |a_j|. Absolute score:
    A = softmax over i of -c a_i / sum_s |a_i(s)|, over the last c <= `window` slopes of task i. Over all n steps with
    slopes, b_s is the largest one of step s, and F the share of b_n in the softmax over s of -tau n b_s / sum_s |b_s|,
    times n and at most 1. w = F R + (1 - F) A; a, R, A and w are (m,). A task that lags gains by R, and one that
    diverges loses by A. Where no loss moves, the weights are equal; with one task w = 1.
    Call `balancer.measure(losses)` on a batch of the validation data before `balancer.backward(losses)`.

    Reads: losses, of the second batch only.
    State: `history` (window, m), the relative validation losses; `slopes` (window, m); `first_losses` (m,), of the
        validation; the largest slope of each step since the first (steps,), 8 bytes a step.
    Scale: the weights sum to 1 when all tasks are present; they are 1 / m for the first `warmup` steps. They ignore
        the scale of the validation losses.
    Reference: Z. Gong et al., "CoBa: Convergence Balancer for Multitask Finetuning of Large Language Models", EMNLP
        2024, https://arxiv.org/abs/2410.06741, Section 3; defaults and the beginning of the slopes from the code.
    Departures: the authors' code takes a softmax of m w and raises it to at least 1 / (10 m), takes for b the slope of
        the largest loss, and leaves F above 1; this is the paper's form. As in the code, n, c and the sums begin
        after the warm-up: slopes through the first few noisy losses are so large that they would settle F for good.
        A task that the validation batch lacks keeps its last relative loss; the code leaves the step out of its fit.
        A task that the training batch lacks gets 0 without changing the weights of the others, where the code divides
        by the sum of the present ones. The first loss counts by its size, and as 1 if it is 0.

    Args:
        n_tasks: the number of tasks m, at least 1.
        window: how many losses make a slope and slopes a sum, at least 2; 200 in the code, which advises two to five
            times `warmup`.
        warmup: steps of equal weights, at least 0; 100 in the code, which advises the number of validation batches.
        tau: how strongly F falls when the largest slope rises, at least 0; 5 in the code.

    Raises:
        ValueError: if a hyper-parameter is out of its range.
        MissingStatisticError: if no second batch was measured.
    """

    second_batch = "validation"
    history: Tensor
    slopes: Tensor
    first_losses: Tensor

    def __init__(self, n_tasks: int, window: int = 200, warmup: int = 100, tau: float = 5.0) -> None:
        super().__init__(n_tasks)
        check_at_least("window", window, 2)
        check_at_least("warmup", warmup, 0)
        check_at_least("tau", tau, 0.0)
        self.window, self.warmup, self.tau = window, warmup, tau
        self.register_buffer("history", torch.ones(window, n_tasks, dtype=torch.float64))
        self.register_buffer("slopes", torch.zeros(window, n_tasks, dtype=torch.float64))
        self.register_buffer("first_losses", torch.full((n_tasks,), torch.nan, dtype=torch.float64))
        self.largest = Tracked()

    def forward(self, stats: TaskStats) -> Tensor:
        """The task weights (m,)."""
        self._see(stats.other)
        largest = self.slopes[:0, 0] if self.largest.value is None else self.largest.value.to(self.slopes)
        slopes = self._slopes(min(len(largest) + 1, self.window))
        self.slopes.copy_(torch.cat([self.slopes[1:], slopes[None]]))
        self.largest.value = largest = torch.cat([largest, slopes.max()[None]])
        used = len(largest) - self.warmup
        if used <= 0:
            return stats.present.to(slopes) / self.n_tasks
        recent = self.slopes[-min(used, self.window) :]
        relative = torch.softmax(_against_mean(slopes, slopes), dim=0)
        absolute = torch.softmax(-_against_mean(slopes, recent), dim=0)
        course = _against_mean(largest[self.warmup :], largest[self.warmup :])
        factor = (used * torch.softmax(-self.tau * course, dim=0)[-1]).clamp(max=1.0)
        return torch.where(stats.present, factor * relative + (1.0 - factor) * absolute, 0.0)

    def _see(self, validation: TaskStats) -> None:
        """Add the relative losses of a validation batch to the history."""
        new = self.first_losses.isnan() & validation.present
        self.first_losses.copy_(torch.where(new, validation.losses, self.first_losses))
        size = torch.where(self.first_losses == 0.0, 1.0, self.first_losses.abs())
        ratios = torch.where(validation.present, validation.losses / size, self.history[-1])
        moved = torch.cat([self.history[1:], ratios[None]])
        self.history.copy_(torch.where(new, ratios, moved))

    def _slopes(self, points: int) -> Tensor:
        """The slopes (m,) through the last points; exactly 0 where the loss has not moved."""
        # Without the difference, rounding in the sum would pass for a slope, and the scores would blow it up.
        recent = self.history[-points:] - self.history[-1]
        steps = torch.arange(points, dtype=recent.dtype, device=recent.device) - (points - 1) / 2
        return steps @ recent / (steps @ steps).clamp(min=1e-9)


def _against_mean(values: Tensor, all_values: Tensor) -> Tensor:
    """The values relative to the mean size of all of them along the first dimension, 0 where that is 0."""
    size = all_values.abs().mean(0)
    return torch.where(size > 0.0, values / size, 0.0)
