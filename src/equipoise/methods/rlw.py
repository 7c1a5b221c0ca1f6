"""Random loss weighting."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import RandomStream, TaskStats, Weighting


class RLW(Weighting):
    """Draws the weights anew at every step, the litmus test for methods that claim more.

    w = softmax(e) with e ~ N(0, I), w and e (m,), independent of the losses.

    Reads: losses (only which of them are there).
    State: the position of the random stream.
    Scale: the weights sum to 1 when all tasks are present. An absent task's share is not given to the others.
    Reference: B. Lin et al., "Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task Learning",
        TMLR 2022, https://arxiv.org/abs/2111.10603 (RLW, normal distribution).
    Departures: the stream is the method's own and is saved with it; the authors use the global one.

    Args:
        n_tasks: the number of tasks m, at least 1.
        seed: where the random stream starts.

    Raises:
        ValueError: if `n_tasks` is below 1.
    """

    def __init__(self, n_tasks: int, seed: int = 0) -> None:
        super().__init__(n_tasks)
        self.stream = RandomStream(seed)

    def forward(self, stats: TaskStats) -> Tensor:
        """The task weights (m,)."""
        weights = torch.softmax(self.stream.normal(self.n_tasks), dim=0)
        weights = weights.to(stats.losses.device, non_blocking=True)
        return torch.where(stats.present, weights, 0.0)
