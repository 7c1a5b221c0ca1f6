"""Projecting conflicting gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import GramianWeighting, RandomStream, TaskStats
from equipoise.core.method import check_one_of


class PCGrad(GramianWeighting):
    """Takes out of each task gradient the part that points against another one.

    For each task i, starting from d_i = g_i, over the other tasks j in random order: where d_i' g_j < 0,
    d_i <- d_i - (d_i' g_j / |g_j|^2) g_j. The answer is sum_i d_i. Each d_i stays a combination of the rows, so
    all is done on the coefficients A (m, m), d_i = A_i J, with the Gramian alone; w = column sums of A (m,).

    Reads: Gramian.
    State: the position of the random stream.
    Scale: the sum of the projected gradients (without conflict, weights 1), or their mean.
    Reference: T. Yu et al., "Gradient Surgery for Multi-Task Learning", NeurIPS 2020,
        https://arxiv.org/abs/2001.06782, Algorithm 1.
    Departures: none; a zero gradient conflicts with nothing.

    Args:
        n_tasks: the number of tasks m, at least 1.
        order: "random" as in the paper, or "identity", by index.
        reduction: "sum" or "mean" of the projected gradients.
        seed: where the random stream starts.

    Raises:
        ValueError: if a hyper-parameter is out of its range.
    """

    head_weights = "unit"

    def __init__(self, n_tasks: int, order: str = "random", reduction: str = "sum", seed: int = 0) -> None:
        super().__init__(n_tasks)
        check_one_of("order", order, ("random", "identity"))
        check_one_of("reduction", reduction, ("sum", "mean"))
        self.order = order
        self.reduction = reduction
        self.stream = RandomStream(seed)

    def weigh(self, stats: TaskStats, index: Tensor) -> Tensor:
        """The weights (k,) of the present tasks."""
        k = len(index)
        weights = project_conflicts(stats.gramian, self._orders(k).to(index.device, non_blocking=True))
        return weights / k if self.reduction == "mean" else weights

    def _orders(self, k: int) -> Tensor:
        """For each of k tasks a permutation of all of them, (k, k)."""
        if self.order == "identity":
            return torch.arange(k).expand(k, k)
        return self.stream.uniform(k * k).view(k, k).argsort(dim=1)


def project_conflicts(gramian: Tensor, orders: Tensor) -> Tensor:
    """The weights (m,) of the projected gradients' sum; row i of `orders` (m, m) is the order for task i."""
    squares = gramian.diagonal()
    counts = (squares > 0)[orders] & (orders != torch.arange(len(gramian), device=gramian.device)[:, None])
    inverses = torch.where(counts, 1.0 / squares[orders], 0.0)
    images, steps = gramian.clone(), []  # d_i' g_j
    for others, inverse in zip(orders.T, inverses.T, strict=True):
        steps.append(images.gather(1, others[:, None])[:, 0].clamp_(max=0.0) * inverse)
        images.addcmul_(steps[-1][:, None], gramian[others], value=-1.0)
    taken = torch.zeros_like(gramian).scatter_(1, orders, torch.stack(steps, 1))
    return 1.0 - taken.sum(0)
