"""Weights smoothed over time."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.core import TaskStats, Weighting, Wrapper


class EMA(Wrapper):
    """Smooths the weights of the base, so that one odd batch does not turn them over.

    w(t) = decay w(t-1) + (1 - decay) w of the base (m,), starting from the first weights of the base.

    Reads: what the base reads.
    State: that of the base; the average (m,), NaN for a task not seen so far.
    Scale: that of the base.
    Reference: S. Zhou et al., "On the Convergence of Stochastic Multi-Objective Gradient Manipulation and Beyond",
        NeurIPS 2022, https://openreview.net/forum?id=ScwfQ7hdwyP, Algorithm 1 (CR-MOGM).
    Departures: the decay is constant, where the theory lets it approach 1; an absent task keeps its average.

    Args:
        base: the weighting to smooth.
        decay: in [0, 1); 0 changes nothing.

    Raises:
        TypeError: if the base is no `Weighting`.
        ValueError: if `decay` is out of its range, or the base has weights that learn.
    """

    average: Tensor

    def __init__(self, base: Weighting, decay: float = 0.9) -> None:
        super().__init__(base)
        self.refuse_learned_weights()
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"`decay` should be at least 0 and below 1. Found {decay:g}.")
        self.decay = decay
        self.register_buffer("average", torch.full((base.n_tasks,), torch.nan, dtype=torch.float64))

    def forward(self, stats: TaskStats) -> Tensor:
        """The task weights (m,)."""
        weights = self.base(stats)
        self.diagnostics = self.base.diagnostics
        before = torch.where(self.average.isnan(), weights, self.average)
        smoothed = self.decay * before + (1.0 - self.decay) * weights
        self.average.copy_(torch.where(stats.present, smoothed, self.average))
        return torch.where(stats.present, smoothed, 0.0)
