"""Conditioned one-shot multi-objective search, its scalarization."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.core import TaskStats, Weighting
from equipoise.core.method import check_at_least
from equipoise.core.preference import preference_vector


class COSMOS(Weighting):
    """Trains on the weighted sum and rewards losses that lie in the direction of the preference.

    Total S = r'L - alignment cos(r, L), so w = dS/dL = r - alignment (r / (|r| |L|) - cos(r, L) L / |L|^2), where the
    losses L, the preference r and w are (m,). The reward pulls as alignment / |L|, so it gains on the sum as the
    losses fall; a task whose share of the losses is below that of the preference can have a negative weight.

    Reads: losses.
    State: none.
    Scale: w'L = r'L, since the cosine does not change with the length of L. Some weights can be negative.
    Reference: M. Ruchte, J. Grabocka, "Scalable Pareto Front Approximation for Deep Multi-Objective Learning",
        ICDM 2021, https://arxiv.org/abs/2103.13392, the objective of COSMOS.
    Departures: the whole method draws r anew for each batch and gives it to the network as an input, to learn the
        Pareto front in one model; this is its objective for one fixed r. Where all losses are 0, w = r. Where
        tasks are absent, r and L have the present entries only; where those of r are all 0, w = 0.

    Args:
        n_tasks: the number of tasks m, at least 1.
        alignment: the paper's lambda, at least 0, in units of the losses; 2 for Multi-MNIST in the authors' code,
            and 0.01 to 8 for its other data sets.
        preference: r (m,), at least 0 and not all 0, summing to 1 in the paper; 1 / m each if left out.

    Raises:
        ValueError: if a hyper-parameter is out of its range.
    """

    preference: Tensor

    def __init__(
        self, n_tasks: int, alignment: float = 2.0, preference: Sequence[float] | None = None
    ) -> None:
        super().__init__(n_tasks)
        check_at_least("alignment", alignment, 0.0)
        self.alignment = alignment
        self.register_buffer("preference", preference_vector(preference, n_tasks), persistent=False)

    def forward(self, stats: TaskStats) -> Tensor:
        """The task weights (m,)."""
        losses = torch.where(stats.present, stats.losses, 0.0)
        preference = torch.where(stats.present, self.preference, 0.0)
        size, length = losses.norm(), preference.norm()
        size = torch.where(size > 0, size, torch.inf)
        wanted, found = torch.where(length > 0, preference / length, 0.0), losses / size
        return preference - self.alignment * (wanted - (wanted @ found) * found) / size
