"""Geometric loss strategy."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import TaskStats, Weighting


class GLS(Weighting):
    """Trains on the geometric mean of the losses, so that the units of a loss do not matter.

    Total S = (prod_i L_i)^(1/m), so w_i = dS/dL_i = S / (m L_i), with losses L (m,) > 0 and weights w (m,). The
    direction is that of `SI`; the length is that of the geometric mean, so steps shrink as the losses do.

    Reads: losses.
    State: none.
    Scale: w_i L_i = S / m for each present task.
    Reference: S. Chennupati et al., "MultiNet++: Multi-Stream Feature Aggregation and Geometric Loss Strategy for
        Multi-Task Learning", CVPR Workshops 2019, https://arxiv.org/abs/1904.08492, geometric loss strategy.
    Departures: none in the formula; S is computed from logarithms, since a product of many losses under- or
        overflows. The focused variant, which counts chosen tasks twice, is left out. Where tasks are absent, S is
        the geometric mean of the present ones, and m their number.

    Args:
        n_tasks: the number of tasks m, at least 1.

    Raises:
        ValueError: if `n_tasks` is below 1; from the `Balancer`, for a loss that is not positive.
    """

    needs_positive_losses = True

    def forward(self, stats: TaskStats) -> Tensor:
        """The task weights (m,)."""
        present = stats.present
        losses = torch.where(present, stats.losses, 1.0)
        count = present.sum()
        mean = (losses.log().sum() / count).exp()
        return torch.where(present, mean / (count * losses), 0.0)
