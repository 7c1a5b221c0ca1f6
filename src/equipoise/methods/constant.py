"""Constant weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.core import TaskStats, Weighting


class Constant(Weighting):
    """Trains on a fixed weighted sum: linear scalarization with weights that were chosen or searched.

    Total sum_i w_i L_i with the given w (m,).

    Reads: losses (only which of them are there).
    State: none.
    Scale: that of the given weights.
    Reference: A. Royer, T. Blankevoort, B. Ehteshami Bejnordi, "Scalarization for Multi-Task and Multi-Domain
        Learning at Scale", NeurIPS 2023, https://arxiv.org/abs/2310.08910 (tuned scalarization).
    Departures: none.

    Args:
        n_tasks: the number of tasks m, at least 1.
        weights: one per task (m,), at least 0 and not all 0; equal weights 1 if left out.

    Raises:
        ValueError: on weights of the wrong number, or negative, infinite or all zero.
    """

    fixed: Tensor

    def __init__(self, n_tasks: int, weights: Sequence[float] | None = None) -> None:
        super().__init__(n_tasks)
        values = torch.ones(n_tasks).double() if weights is None else torch.tensor(weights).double()
        if values.shape != (n_tasks,) or not bool(
            (values >= 0).all() & values.isfinite().all() & (values > 0).any()
        ):
            raise ValueError(
                f"`weights` should be {n_tasks} finite numbers, none negative and not all 0. Found {weights}."
            )
        self.register_buffer("fixed", values, persistent=False)

    def forward(self, stats: TaskStats) -> Tensor:
        """The task weights (m,)."""
        return torch.where(stats.present, self.fixed, 0.0)
