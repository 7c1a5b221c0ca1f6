"""Dynamic weight average."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import LastLosses, TaskStats, Weighting
from equipoise.core.method import check_at_least


class DWA(Weighting):
    """Gives more weight to tasks whose loss has lately fallen more slowly.

    r_i = mean of the last `window` losses of task i / mean of the `window` losses before them;
    w = softmax(r / temperature), with r and w (m,).

    Reads: losses.
    State: `history` (2 window, m), the losses of the last 2 window steps, which starts as ones; `steps` ();
        the last seen losses (m,).
    Scale: the weights sum to 1 when all tasks are present (the total is the mean of m w_i L_i). They are 1 / m
        for the first window + 1 steps.
    Reference: S. Liu, E. Johns, A. Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019,
        https://arxiv.org/abs/1803.10704, Eq. 7; windows of steps as in the code of Nash-MTL.
    Departures: the paper takes epochs for steps and a sum for the mean; the windows and the mean are those of
        the code that produced the published tables. While a task is absent its last loss is repeated.

    Args:
        n_tasks: the number of tasks m, at least 1.
        window: steps in each of the two windows, at least 1; 25 in the code of Nash-MTL.
        temperature: above 0; large values make the weights equal; 2 in the paper.

    Raises:
        ValueError: if a hyper-parameter is out of its range; from the `Balancer`, for a loss that is not positive.
    """

    needs_positive_losses = True
    history: Tensor
    steps: Tensor

    def __init__(self, n_tasks: int, window: int = 25, temperature: float = 2.0) -> None:
        super().__init__(n_tasks)
        check_at_least("window", window, 1)
        if not temperature > 0:
            raise ValueError(f"`temperature` should be above 0. Found {temperature:g}.")
        self.window = window
        self.temperature = temperature
        self.last_losses = LastLosses(n_tasks)
        self.register_buffer("history", torch.ones(2 * window, n_tasks, dtype=torch.float64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, stats: TaskStats) -> Tensor:
        """The task weights (m,)."""
        losses = self.last_losses(stats)
        self.history.copy_(torch.cat([self.history[1:], losses[None]]))
        rates = self.history[self.window :].mean(0) / self.history[: self.window].mean(0)
        weights = torch.softmax(rates / self.temperature, dim=0)
        weights = torch.where(self.steps > self.window, weights, 1.0 / self.n_tasks)
        self.steps.add_(1)
        return torch.where(stats.present, weights, 0.0)
