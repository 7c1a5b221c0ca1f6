"""Multi-Krum."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import GramianWeighting, TaskStats
from equipoise.core.method import check_at_least


class Krum(GramianWeighting):
    """Follows the gradients that have the nearest neighbours, so that a few wild ones cannot turn the step.

    The score of task i is the sum of |g_i - g_j|^2 = G_ii + G_jj - 2 G_ij over its m - outliers - 2 nearest other
    tasks; the `selected` tasks with the least scores share the weight equally, w (m,); the others have weight 0.

    Reads: Gramian.
    State: none.
    Scale: the weights sum to 1.
    Reference: P. Blanchard et al., "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent",
        NeurIPS 2017,
        https://papers.nips.cc/paper/6617-machine-learning-with-adversaries-byzantine-tolerant-gradient-descent,
        Krum and its variant Multi-Krum.
    Departures: made for m copies of one loss, where m > 2 outliers + 2 gives a guarantee; among tasks it has none.
        TorchJD sums distances, the paper, and this, squared ones. With fewer than outliers + 3 tasks the nearest
        one alone makes the score, and a task by itself is selected. The first of equal scores wins. No more tasks
        are selected than are there.

    Args:
        n_tasks: the number of tasks m, at least 1.
        outliers: how many gradients may be wild, at least 0.
        selected: how many tasks share the weight, from 1 to m; 1 is Krum, more is Multi-Krum.

    Raises:
        ValueError: if a hyper-parameter is out of its range.
    """

    head_weights = "unit"

    def __init__(self, n_tasks: int, outliers: int = 1, selected: int = 1) -> None:
        super().__init__(n_tasks)
        check_at_least("outliers", outliers, 0)
        if not 1 <= selected <= n_tasks:
            raise ValueError(
                f"`selected` should be from 1 to the number of tasks, {n_tasks}. Found {selected}."
            )
        self.outliers = outliers
        self.selected = selected

    def weigh(self, stats: TaskStats, index: Tensor) -> Tensor:
        """The weights (k,) of the present tasks."""
        k = len(index)
        squares = stats.gramian.diagonal()
        distances = (
            (squares + squares[:, None] - 2.0 * stats.gramian).clamp(min=0.0).fill_diagonal_(torch.inf)
        )
        neighbours = min(max(k - self.outliers - 2, 1), k - 1)
        scores = distances.sort(dim=1).values[:, :neighbours].sum(1)
        chosen = scores.argsort(stable=True)[: min(self.selected, k)]
        return torch.zeros_like(squares).index_fill(0, chosen, 1.0 / len(chosen))
