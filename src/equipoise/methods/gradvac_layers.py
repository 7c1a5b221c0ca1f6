"""Gradient vaccine, layer by layer."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import Aggregator, RandomStream, TaskStats, Tracked
from equipoise.core.rows import tracked_like
from equipoise.core.stats import gramian_of
from equipoise.solvers.vaccinate import vaccinate


class GradVacLayers(Aggregator):
    """Turns conflicting gradients, in each layer by itself, to the angles that they have had on average.

    In each of the b layers, for each task i, from d = g_i, over the other tasks j in random order: with c the cosine
    between d and g_j and t the target of (i, j), where c < t: d <- d + a g_j with
    a = |d| (t sqrt(1 - c^2) - c sqrt(1 - t^2)) / (|g_j| sqrt(1 - t^2)); then t <- (1 - beta) t + beta c, from t = 0.
    The answer (n,) is the sum of all d; g_i are the columns of the layer in row i of the Jacobian J (m, n).

    Reads: Jacobian, and which of its columns belong together.
    State: the targets (b, m, m); the position of the random stream.
    Scale: the sum of the corrected gradients.
    Reference: Z. Wang, Y. Tsvetkov, O. Firat, Y. Cao, "Gradient Vaccine: Investigating and Improving Multi-task
        Optimization in Massively Multilingual Models", ICLR 2021, https://arxiv.org/abs/2010.05874, Algorithm 1.
    Departures: a layer is one shared parameter tensor, the finest granularity of the paper. Targets move in every step
        as in the paper, where LibMTL moves them only where it corrects. A target counts as at most 1 - 1e-8, since the
        correction grows without bound towards 1. A zero gradient, as of an absent task, keeps its targets.

    Args:
        n_tasks: the number of tasks m, at least 1.
        beta: how far the targets move at each step, in [0, 1]; 0.01 in the paper, 0.5 in LibMTL. With 0 it is PCGrad in
            each layer.
        seed: where the random stream starts.

    Raises:
        ValueError: if a hyper-parameter is out of its range, or if the shared parameters change.
    """

    def __init__(self, n_tasks: int, beta: float = 0.01, seed: int = 0) -> None:
        super().__init__(n_tasks)
        if not 0.0 <= beta <= 1.0:
            raise ValueError(f"`beta` should be from 0 to 1. Found {beta:g}.")
        self.beta = beta
        self.targets = Tracked()
        self.stream = RandomStream(seed)

    def forward(self, stats: TaskStats) -> Tensor:
        """The shared gradient (n,)."""
        m, layers = self.n_tasks, stats.jacobian.split(stats.blocks, dim=1)
        gramians = torch.stack([gramian_of(layer) for layer in layers])
        orders = self.stream.uniform(m * m).view(m, m).argsort(dim=1).to(gramians.device, non_blocking=True)
        targets = tracked_like(self.targets, gramians)
        weights, moved = vaccinate(gramians, targets, orders, self.beta)
        targets.copy_(moved)
        return torch.cat([w.to(layer) @ layer for w, layer in zip(weights, layers, strict=True)])
