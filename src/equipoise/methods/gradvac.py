"""Gradient vaccine."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import GramianWeighting, RandomStream, TaskStats
from equipoise.solvers.vaccinate import vaccinate


class GradVac(GramianWeighting):
    """Turns each task gradient towards the others until their cosines are what they used to be.

    For each task i, starting from d_i = g_i, over the other tasks j in random order: with c = cos(d_i, g_j) and its
    running mean t = T_ij, where c < t, d_i <- d_i + (|d_i| / |g_j|) (t sqrt(1 - c^2) - c sqrt(1 - t^2)) / sqrt(1 -
    t^2) g_j, which makes the cosine t; and always T_ij <- (1 - beta) t + beta c. The answer is sum_i d_i. Each d_i
    stays a combination of the rows, so all is done on the coefficients (m, m); w = their column sums (m,). With T =
    0 it is `PCGrad`.

    Reads: Gramian.
    State: the targets T (m, m), 0 at first; the position of the random stream.
    Scale: the sum of the turned gradients; where no cosine is below its target the weights are 1.
    Reference: Z. Wang et al., "Gradient Vaccine: Investigating and Improving Multi-task Optimization in Massively
        Multilingual Models", ICLR 2021, https://arxiv.org/abs/2010.05874, Algorithm 1.
    Departures: the whole model is one component, which the paper also splits by layer. LibMTL moves the target only
        where it was missed; the paper, and this, always. Targets count as at most 1 - 1e-8. A zero or cancelled
        gradient has no cosine: it is left alone, and so are its targets.

    Args:
        n_tasks: the number of tasks m, at least 1.
        beta: the share of the new cosine in the running mean, from 0 to 1; 0.01 in the paper, 0.5 in LibMTL.
        seed: where the random stream starts.

    Raises:
        ValueError: if a hyper-parameter is out of its range.
    """

    head_weights = "unit"
    targets: Tensor

    def __init__(self, n_tasks: int, beta: float = 0.01, seed: int = 0) -> None:
        super().__init__(n_tasks)
        if not 0.0 <= beta <= 1.0:
            raise ValueError(f"`beta` should be from 0 to 1. Found {beta:g}.")
        self.beta = beta
        self.stream = RandomStream(seed)
        self.register_buffer("targets", torch.zeros(n_tasks, n_tasks, dtype=torch.float64))

    def weigh(self, stats: TaskStats, index: Tensor) -> Tensor:
        """The weights (k,) of the present tasks."""
        k = len(index)
        orders = self.stream.uniform(k * k).view(k, k).argsort(dim=1).to(index.device, non_blocking=True)
        pairs = (index[:, None], index)
        weights, targets = vaccinate(stats.gramian, self.targets[pairs], orders, self.beta)
        self.targets.index_put_(pairs, targets)
        return weights
