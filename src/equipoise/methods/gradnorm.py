"""Gradient normalization."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import GramianWeighting, TaskStats
from equipoise.core.method import check_at_least
from equipoise.solvers.adam import adam_step

_LEAST = 1e-8  # of a weight: a step of Adam may cross zero, where the sign of the task would turn


class GradNorm(GramianWeighting):
    """Learns weights that give slow tasks long gradients and fast tasks short ones.

    With the weighted norms N_i = w_i |g_i|, their mean N, and the rates r_i = (L_i / L_i(first)) / mean of those,
    the weights w (m,) follow Adam on sum_i |N_i - N r_i^alpha|, where the target N r_i^alpha counts as constant:
    the gradient for w_i is |g_i| sign(N_i - N r_i^alpha). After each step they are scaled to keep their sum. All
    are (m,).

    Reads: Gramian (its diagonal), losses.
    State: `weights` (m,), 1 at first, and their Adam moments (m,), (m,) and steps (m,); the first losses (m,).
    Scale: the weights sum to m.
    Reference: Z. Chen et al., "GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask
        Networks", ICML 2018, https://arxiv.org/abs/1711.02257, Eqs. 1-2 and Algorithm 1.
    Departures: the paper measures the norms on the last shared layer, here on all shared parameters; it leaves the
        optimizer of the weights open, Adam here, which does not depend on the unit of the norms. Weights are kept
        positive. An absent task keeps its weight for later; norms, rates and sum are then those of the present
        tasks.

    Args:
        n_tasks: the number of tasks m, at least 1.
        alpha: how strongly slow tasks are pulled along, at least 0; 1.5 in the paper's NYUv2 tables.
        lr: step size of the weights, at least 0; 0.025, as is usual for learned task weights.

    Raises:
        ValueError: if a hyper-parameter is out of its range; from the `Balancer`, for a loss that is not positive.
    """

    needs_positive_losses = True
    weights: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor
    steps: Tensor
    first_losses: Tensor

    def __init__(self, n_tasks: int, alpha: float = 1.5, lr: float = 0.025) -> None:
        super().__init__(n_tasks)
        check_at_least("alpha", alpha, 0.0)
        check_at_least("lr", lr, 0.0)
        self.alpha = alpha
        self.lr = lr
        self.register_buffer("weights", torch.ones(n_tasks, dtype=torch.float64))
        for name in ("exp_avg", "exp_avg_sq", "steps"):
            self.register_buffer(name, torch.zeros(n_tasks, dtype=torch.float64))
        self.register_buffer("first_losses", torch.full((n_tasks,), torch.nan, dtype=torch.float64))

    def weigh(self, stats: TaskStats, index: Tensor) -> Tensor:
        """The weights (k,) of the present tasks, as they were before this step teaches them."""
        first = torch.where(self.first_losses[index].isnan(), stats.losses, self.first_losses[index])
        self.first_losses.index_copy_(0, index, first)
        weights, norms = self.weights[index], stats.gramian.diagonal().clamp(min=0).sqrt()
        progress = stats.losses / first
        targets = (weights * norms).mean() * (progress / progress.mean()) ** self.alpha
        state = (self.weights, self.exp_avg, self.exp_avg_sq, self.steps)
        gradient = norms * (weights * norms - targets).sign()
        moved, *rest = adam_step(weights, gradient, *(buffer[index] for buffer in state[1:]), lr=self.lr)
        moved = moved.clamp(min=_LEAST)
        for buffer, value in zip(state, (moved * weights.sum() / moved.sum(), *rest), strict=True):
            buffer.index_copy_(0, index, torch.as_tensor(value))
        return weights
