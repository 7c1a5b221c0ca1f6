"""Single-task learning."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import TaskStats, Weighting


class STL(Weighting):
    """Trains one task alone: the baseline that delta_m is measured against.

    w_i = 1 for i = task, else 0; w (m,).

    Reads: losses (only which of them are there).
    State: none.
    Scale: the weights sum to 1.
    Reference: the single-task baseline of A. Navon et al., "Multi-Task Learning as a Bargaining Game", ICML 2022,
        https://arxiv.org/abs/2202.01017 (baseline STL).
    Departures: none.

    Args:
        n_tasks: the number of tasks m, at least 1.
        task: the position of the task, from 0 to m - 1.

    Raises:
        ValueError: if a hyper-parameter is out of its range.
    """

    alone: Tensor

    def __init__(self, n_tasks: int, task: int = 0) -> None:
        super().__init__(n_tasks)
        if not 0 <= task < n_tasks:
            raise ValueError(f"`task` should be from 0 to {n_tasks - 1}. Found {task}.")
        weights = torch.zeros(n_tasks, dtype=torch.float64)
        weights[task] = 1.0
        self.register_buffer("alone", weights, persistent=False)

    def forward(self, stats: TaskStats) -> Tensor:
        """The task weights (m,)."""
        return torch.where(stats.present, self.alone, 0.0)
