"""Learning-rate annealing of physics-informed networks."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import GramianWeighting, Reads, TaskStats
from equipoise.core.method import check_one_of


class LRAnnealing(GramianWeighting):
    """Weighs each loss against the size of its gradient, smoothed over time, so that no term of the physics is lost.

    w <- decay w + (1 - decay) v (m,), from 1, with v_i = sum_j |g_j| / |g_i| ("norm", which makes all weighted
    gradients as long as their sum), or v_i = max |g_r| / mean |g_i| over the entries of the rows of J (m, n)
    ("entries"), r the `reference` task, whose own weight stays 1.

    Reads: Gramian (its diagonal); with "entries" the Jacobian.
    State: `weights` (m,).
    Scale: with "norm" w_i |g_i| is the sum of the norms in the long run; with "entries" the reference has weight 1.
    Reference: S. Wang, Y. Teng, P. Perdikaris, "Understanding and Mitigating Gradient Flow Pathologies in
        Physics-Informed Neural Networks", SIAM J. Sci. Comput. 2021, https://arxiv.org/abs/2001.04536 ("entries");
        S. Wang et al., "An Expert's Guide to Training Physics-Informed Neural Networks", 2023,
        https://arxiv.org/abs/2308.08468 ("norm").
    Departures: the papers update the weights every 10 or 1000 steps, here at each one; to do it less often, wrap it
        in `Every`. The first one's code measures g_i with its weight, the preprint without, as here; it takes the
        mean over each weight matrix, then over these. The second one's code takes the mean of the norms for their
        sum. A zero gradient leaves its weight as it is.

    Args:
        n_tasks: the number of tasks m, at least 1.
        statistic: "norm" or "entries".
        decay: what is kept of the weights at each step, in [0, 1); 0.9 in the code of both papers.
        reference: with "entries" the position of the residual loss of the equation, from 0 to m - 1.

    Raises:
        ValueError: if a hyper-parameter is out of its range.
    """

    weights: Tensor

    def __init__(self, n_tasks: int, statistic: str = "norm", decay: float = 0.9, reference: int = 0) -> None:
        super().__init__(n_tasks)
        check_one_of("statistic", statistic, ("norm", "entries"))
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"`decay` should be at least 0 and below 1. Found {decay:g}.")
        if not 0 <= reference < n_tasks:
            raise ValueError(f"`reference` should be from 0 to {n_tasks - 1}. Found {reference}.")
        self.statistic = statistic
        self.decay = decay
        self.reference = reference
        self.register_buffer("weights", torch.ones(n_tasks, dtype=torch.float64))

    @property
    def reads(self) -> Reads:
        """The Gramian, or with "entries" the Jacobian."""
        return Reads.GRAMIAN if self.statistic == "norm" else Reads.JACOBIAN

    def weigh(self, stats: TaskStats, index: Tensor) -> Tensor:
        """The weights (k,) of the present tasks."""
        if self.statistic == "norm":
            sizes = stats.gramian.diagonal().clamp(min=0).sqrt()
            teaching, whole = sizes > 0, sizes.sum()
        else:
            entries = stats.jacobian.abs()
            sizes, largest = entries.mean(1, dtype=torch.float64), entries.amax(1).double()
            is_reference = index == self.reference
            teaching = (sizes > 0) & ~is_reference & is_reference.any()
            whole = torch.where(is_reference, largest, 0.0).sum()
        aims = whole / torch.where(teaching, sizes, 1.0)
        old = self.weights[index]
        weights = torch.where(teaching, self.decay * old + (1.0 - self.decay) * aims, old)
        self.weights.index_copy_(0, index, weights)
        return weights
