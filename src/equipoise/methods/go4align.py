"""GO4Align: group optimization for multi-task alignment."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.core import LastLosses, TaskStats, Weighting
from equipoise.core.grouping import Grouping
from equipoise.core.method import check_at_least


class GO4Align(Weighting):
    """Aligns the progress of the tasks: risks put on one scale, smoothed over time, and shared in groups.

    Scale-balance (Eq. 5): p_i = sum_j L_j / L_i. Smooth-alignment (Eq. 6): q is proportional to
    q exp(-step L), kept as log q and normalised to sum 1, from q = 1 / m. Indicators (Eq. 7): gamma = p q.
    The lower problem (Eq. 3) puts the tasks into k groups by exact one-dimensional k-means of gamma; a task's
    weight is the mean of gamma over its group. All are (m,), the group weights (k,). With k = 1 all weights
    are equal; with k = m there is no grouping and w = gamma.

    Reads: losses.
    State: `log_q` (m,) up to a constant; the last seen losses (m,); the stream of random groups.
    Scale: that of the authors' code, the sum of the losses in p and not their mean: equal losses give weight 1.
    Reference: J. Shen et al., "GO4Align: Group Optimization for Multi-Task Alignment", NeurIPS 2024,
        https://arxiv.org/abs/2404.06486, Eqs. 3 and 5-7, Algorithm 1.
    Departures: k-means by dynamic programming finds the global optimum, where the authors run Lloyd's iteration
        from a random start; `decay` below 1 lets log q forget, which the published form does not. While a task is
        absent, log q moves by its last loss, and its weight is 0 without changing the weights of the others.

    Args:
        n_tasks: the number of tasks m, at least 1.
        groups: the number of groups k, from 1 to m; 2 for NYUv2 and 5 for QM9 in the paper.
        step: the beta of Eq. 6, at least 0; 1e-4 in the authors' code.
        decay: what is kept of log q at each step, in [0, 1].
        clustering: "kmeans", "given" (the fixed `assignment`) or "random" (Fig. 5 of the paper).
        assignment: the group of each task (m,), with "given" only.
        group_weights: fixed weights of the groups (k,) in place of the means (Fig. 5 of the paper).
        seed: of the random groups.

    Raises:
        ValueError: if a hyper-parameter is out of its range; from the `Balancer`, for a loss that is not positive.
    """

    needs_positive_losses = True
    log_q: Tensor

    def __init__(
        self,
        n_tasks: int,
        groups: int = 2,
        step: float = 1e-4,
        decay: float = 1.0,
        *,
        clustering: str = "kmeans",
        assignment: Sequence[int] | None = None,
        group_weights: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(n_tasks)
        check_at_least("step", step, 0.0)
        if not 0.0 <= decay <= 1.0:
            raise ValueError(f"`decay` should be from 0 to 1. Found {decay:g}.")
        self.step = step
        self.decay = decay
        self.last_losses = LastLosses(n_tasks)
        self.grouping = Grouping(
            n_tasks,
            groups,
            clustering=clustering,
            assignment=assignment,
            group_weights=group_weights,
            seed=seed,
        )
        self.register_buffer("log_q", torch.zeros(n_tasks, dtype=torch.float64))

    def forward(self, stats: TaskStats) -> Tensor:
        """The task weights (m,)."""
        losses = self.last_losses(stats)
        log_q = self.decay * self.log_q - self.step * losses
        self.log_q.copy_(log_q - log_q.mean())
        indicators = losses.sum() / losses * torch.softmax(self.log_q, dim=0)
        weights, self.diagnostics = self.grouping(indicators, None if stats.all_present else stats.present)
        return weights
