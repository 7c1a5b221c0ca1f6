"""Gradient vaccine."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import GramianWeighting, RandomStream, TaskStats

_LARGEST = 1.0 - 1e-8  # of a target: to reach cosine 1 would take an endless step
_NOISE = 1e-14  # squared length, relative to the pieces, at which a gradient has cancelled


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
        orders = self.stream.uniform(k * k).view(k, k).argsort(dim=1).to(index.device)
        pairs = (index[:, None], index)
        weights, targets = vaccinate(stats.gramian, self.targets[pairs], orders, self.beta)
        self.targets.index_put_(pairs, targets)
        return weights


def vaccinate(gramian: Tensor, targets: Tensor, orders: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """The weights (m,) and the new targets (m, m); row i of `orders` (m, m) is the order for task i."""
    m = len(gramian)
    rows = torch.arange(m, device=gramian.device)
    norms = gramian.diagonal().clamp(min=0).sqrt()
    coefficients, targets = torch.eye(m).to(gramian), targets.clone()
    images = gramian.clone()  # d_i' g_j
    for others in orders.T:
        squares = (images * coefficients).sum(1)
        alive = (
            (squares > _NOISE * (coefficients.abs() @ norms) ** 2) & (norms[others] > 0) & (others != rows)
        )
        ratio = torch.where(alive, squares, 1.0).sqrt() / torch.where(alive, norms[others], 1.0)
        cosines = torch.where(alive, images[rows, others] / (squares.sqrt() * norms[others]), 0.0).clamp(
            -1.0, 1.0
        )
        old = targets[rows, others]
        wanted = old.clamp(-_LARGEST, _LARGEST)
        turn = wanted * ((1 - cosines**2) / (1 - wanted**2)).sqrt() - cosines
        steps = torch.where(alive & (cosines < wanted), ratio * turn, 0.0)
        coefficients[rows, others] += steps
        images += steps[:, None] * gramian[others]
        targets[rows, others] = torch.where(alive, old + beta * (cosines - old), old)
    return coefficients.sum(0), targets
