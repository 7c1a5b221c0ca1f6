"""Penalty-based boundary intersection."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.core import TaskStats, Weighting
from equipoise.core.method import check_at_least
from equipoise.core.preference import preference_vector, reference_point

_ON_THE_RAY = 1e-12  # relative to the excess: below it the distance from the ray is rounding, not a direction


class PBI(Weighting):
    """Moves the losses along the ray of the preference, and back to it where they have left it.

    With the excess e = L - z, the unit preference u = lambda / |lambda|, the way along the ray d1 = e'u and the
    distance from it d2 = |p| with p = e - d1 u: total S = d1 + theta d2, so w = dS/dL = u + theta p / |p|. L, the
    preference lambda, the reference point z, u, p and w are (m,). Losses on the side of the ray that is already low
    have a negative weight wherever theta p_i / |p| < -u_i: they are raised until the ray is met.

    Reads: losses.
    State: none.
    Scale: |w|^2 = 1 + theta^2 off the ray; |w| = 1 on it. Some weights can be negative.
    Reference: Q. Zhang, H. Li, "MOEA/D: A Multiobjective Evolutionary Algorithm Based on Decomposition", IEEE
        Transactions on Evolutionary Computation 2007, https://doi.org/10.1109/TEVC.2007.892759, boundary
        intersection approach.
    Departures: the paper takes the modulus of d1, which is the same wherever z is a lower bound of the losses. On
        the ray, where d2 has no gradient, w = u. Where tasks are absent, e and lambda have the present entries only;
        where those of lambda are all 0, u = 0.

    Args:
        n_tasks: the number of tasks m, at least 1.
        theta: the price of leaving the ray, at least 0; 5 in the paper.
        preference: lambda (m,), at least 0 and not all 0; only its direction matters. Equal if left out.
        reference: z (m,), lower bounds of the losses; 0 if left out.

    Raises:
        ValueError: if a hyper-parameter is out of its range.
    """

    preference: Tensor
    reference: Tensor

    def __init__(
        self,
        n_tasks: int,
        theta: float = 5.0,
        preference: Sequence[float] | None = None,
        reference: Sequence[float] | None = None,
    ) -> None:
        super().__init__(n_tasks)
        check_at_least("theta", theta, 0.0)
        self.theta = theta
        self.register_buffer("preference", preference_vector(preference, n_tasks), persistent=False)
        self.register_buffer("reference", reference_point(reference, n_tasks), persistent=False)

    def forward(self, stats: TaskStats) -> Tensor:
        """The task weights (m,)."""
        excess = torch.where(stats.present, stats.losses - self.reference, 0.0)
        unit = torch.where(stats.present, self.preference, 0.0)
        length = unit.norm()
        unit = torch.where(length > 0, unit / length, 0.0)
        across = excess - (excess @ unit) * unit
        distance = across.norm()
        away = distance > _ON_THE_RAY * excess.norm()
        return unit + self.theta * torch.where(away, across / distance, 0.0)
