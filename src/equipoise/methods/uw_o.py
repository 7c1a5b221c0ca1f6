"""Optimal uncertainty weighting."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import TaskStats, Weighting


class UWO(Weighting):
    """Puts uncertainty weighting at the optimum of its uncertainties at every step, so nothing is learned slowly.

    UW for an L1 loss has the total sum_i L_i / sigma_i + log sigma_i, whose minimum in sigma is sigma_i = L_i.
    Total sum_i L_i / sg(L_i) with sg for "not differentiated", so w_i = 1 / L_i, with L (m,) > 0 and w (m,).
    These are the weights of `SI`, which finds them as the gradient of sum_i log L_i: training is the same, and only
    the derivation and the value of the total differ. `UWSO` tempers them.

    Reads: losses.
    State: none.
    Scale: w_i L_i = 1 for each present task; twice the weights at which this library's `UW` comes to rest.
    Reference: L. Kirchdorfer et al., "Analytical Uncertainty-Based Loss Weighting in Multi-Task Learning",
        GCPR 2024, https://arxiv.org/abs/2408.07985, UW-O.
    Departures: for an L2 loss the optimum is 1 / (2 L_i); the paper drops the 2, and so does this. Public code adds
        1e-8 to the losses; here a loss that is not positive is refused instead.

    Args:
        n_tasks: the number of tasks m, at least 1.

    Raises:
        ValueError: if `n_tasks` is below 1; from the `Balancer`, for a loss that is not positive.
    """

    needs_positive_losses = True

    def forward(self, stats: TaskStats) -> Tensor:
        """The task weights (m,)."""
        return torch.where(stats.present, 1.0 / stats.losses, 0.0)
