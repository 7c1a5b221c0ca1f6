"""MetaBalance."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import GramianWeighting, TaskStats
from equipoise.core.method import check_one_of


class MetaBalance(GramianWeighting):
    """Brings the gradients of auxiliary tasks nearer to the length of the target task's.

    With running means M_i <- beta M_i + (1 - beta) |g_i| of the norms, from 0: w_i = relax M_target / M_i + 1 -
    relax, so that relax = 1 makes the lengths equal and relax = 0 changes nothing; the target has weight 1. w and M
    (m,).

    Reads: Gramian (its diagonal).
    State: `means` (m,), and for how many steps each task was there (m,).
    Scale: the target's weight is 1.
    Reference: Y. He et al., "MetaBalance: Improving Multi-Task Recommendations via Adapting Gradient Magnitudes of
        Auxiliary Tasks", WWW 2022, https://arxiv.org/abs/2203.06801, strategies A to C and the relax factor;
        defaults of the authors' code.
    Departures: the authors treat each parameter tensor by itself, here all shared parameters are one. Means are
        divided by 1 - beta^steps, which changes nothing until a task is absent. A task whose gradients were all
        zero, and all tasks before the target was first seen, have weight 1.

    Args:
        n_tasks: the number of tasks m, at least 1.
        target: the position of the target task, from 0 to m - 1.
        relax: how near the lengths are brought, from 0 to 1; 0.7 in the code.
        beta: what is kept of the means at each step, in [0, 1); 0.9 in the code.
        strategy: "both", or only "reduce" longer gradients, or only "enlarge" shorter ones (C, A and B in the
            paper).

    Raises:
        ValueError: if a hyper-parameter is out of its range.
    """

    head_weights = "unit"
    means: Tensor
    steps: Tensor

    def __init__(
        self, n_tasks: int, target: int = 0, relax: float = 0.7, beta: float = 0.9, strategy: str = "both"
    ) -> None:
        super().__init__(n_tasks)
        if not 0 <= target < n_tasks:
            raise ValueError(f"`target` should be from 0 to {n_tasks - 1}. Found {target}.")
        if not 0.0 <= relax <= 1.0:
            raise ValueError(f"`relax` should be from 0 to 1. Found {relax:g}.")
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"`beta` should be at least 0 and below 1. Found {beta:g}.")
        check_one_of("strategy", strategy, ("both", "reduce", "enlarge"))
        self.target = target
        self.relax = relax
        self.beta = beta
        self.strategy = strategy
        self.register_buffer("means", torch.zeros(n_tasks, dtype=torch.float64))
        self.register_buffer("steps", torch.zeros(n_tasks, dtype=torch.float64))

    def weigh(self, stats: TaskStats, index: Tensor) -> Tensor:
        """The weights (k,) of the present tasks."""
        norms = stats.gramian.diagonal().clamp(min=0).sqrt()
        self.means[index] = self.beta * self.means[index] + (1.0 - self.beta) * norms
        self.steps[index] += 1.0
        lengths = self.means / (1.0 - self.beta**self.steps).clamp(min=1.0 - self.beta)
        known = (lengths[index] > 0) & (self.steps[self.target] > 0)
        ratios = torch.where(known, lengths[self.target] / torch.where(known, lengths[index], 1.0), 1.0)
        if self.strategy != "both":
            ratios = ratios.clamp(max=1.0) if self.strategy == "reduce" else ratios.clamp(min=1.0)
        return self.relax * ratios + 1.0 - self.relax
