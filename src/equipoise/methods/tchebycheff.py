"""Weighted Tchebycheff scalarization."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.core import TaskStats, Weighting
from equipoise.core.preference import preference_vector, reference_point


class Tchebycheff(Weighting):
    """Trains only the task that is worst after weighing by preference; can reach every Pareto-optimal point.

    Total S = max_i lambda_i (L_i - z_i), so w_i = lambda_i for the task at the maximum and 0 for the others, where L,
    the preference lambda, the reference point z and w are (m,). `STCH` is its smooth form.

    Reads: losses.
    State: none.
    Scale: the weights sum to the lambda of the worst task, 1 / m by default.
    Reference: K. Miettinen, "Nonlinear Multiobjective Optimization", 1998,
        https://doi.org/10.1007/978-1-4615-5563-6, weighted Tchebycheff problem (after V. J. Bowman, 1976); in the
        form of X. Lin et al., ICML 2024, https://arxiv.org/abs/2402.19078 (their g^(TCH)).
    Departures: S has no gradient where several tasks share the maximum; the answer is the mean of their lambda_i e_i,
        a subgradient that does not depend on the order of the tasks. Where tasks are absent, the maximum is over
        the present ones.

    Args:
        n_tasks: the number of tasks m, at least 1.
        preference: lambda (m,), at least 0 and not all 0, summing to 1 in the literature; 1 / m each if left out.
        reference: z (m,), lower bounds of the losses; 0 if left out.

    Raises:
        ValueError: if a hyper-parameter is out of its range.
    """

    preference: Tensor
    reference: Tensor

    def __init__(
        self,
        n_tasks: int,
        preference: Sequence[float] | None = None,
        reference: Sequence[float] | None = None,
    ) -> None:
        super().__init__(n_tasks)
        self.register_buffer("preference", preference_vector(preference, n_tasks), persistent=False)
        self.register_buffer("reference", reference_point(reference, n_tasks), persistent=False)

    def forward(self, stats: TaskStats) -> Tensor:
        """The task weights (m,)."""
        present = stats.present
        excess = torch.where(present, self.preference * (stats.losses - self.reference), -torch.inf)
        worst = present & (excess == excess.max())
        return torch.where(worst, self.preference / worst.sum(), 0.0)
