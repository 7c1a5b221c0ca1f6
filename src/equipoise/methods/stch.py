"""Smooth Tchebycheff scalarization."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.core import TaskStats, Weighting
from equipoise.core.method import check_at_least
from equipoise.core.preference import preference_vector, reference_point

_AVERAGED = 5  # the authors' code warms up for five epochs and averages the losses of the last one


class STCH(Weighting):
    """Trains mainly the task that is worst after weighing by preference, with a smooth hand-over.

    Total S = mu log sum_i exp(lambda_i (L_i - z_i) / mu), so w_i = dS/dL_i = lambda_i p_i with
    p = softmax(lambda (L - z) / mu), where L, the preference lambda, the reference point z and w are (m,).
    As mu falls to 0, S becomes the weighted maximum of `Tchebycheff`.

    With `warmup` above 0, the form of the authors' multi-task code: for `warmup` steps w_i = 1 / L_i, the last fifth
    of which (at least one) give the mean losses n (m,); from then on S = m mu log sum_i exp(m lambda_i f_i / mu)
    with f_i = log(L_i / n_i), so w_i = m (m lambda_i) p_i / L_i. This form does not depend on the units of the losses.

    Reads: losses.
    State: with a warm-up, the sum (m,) and number (m,) of the losses averaged, and the steps taken ().
    Scale: the weights sum to at most the largest lambda, 1 / m by default. With a warm-up and equal shares, the
        w_i L_i sum to m.
    Reference: X. Lin et al., "Smooth Tchebycheff Scalarization for Multi-Objective Optimization", ICML 2024,
        https://arxiv.org/abs/2402.19078, the scalarization g^(STCH); warm-up from the STCH_MTL code of the authors.
    Departures: the code takes equal shares of 1 and adds 1e-20 to the losses; its warm-up counts epochs (five by
        default). Where tasks are absent, the sum is over the present ones and the first m of the warmed form is their
        number; a task first seen after the warm-up takes its first loss for n_i.

    Args:
        n_tasks: the number of tasks m, at least 1.
        mu: above 0, in units of lambda L (with a warm-up, of m lambda f); 1 in the authors' multi-task code.
        preference: lambda (m,), at least 0 and not all 0, summing to 1 in the paper; 1 / m each if left out.
        reference: z (m,), lower bounds of the losses; 0 if left out.
        warmup: steps of the warm-up, at least 0; 0 for the form of the paper.

    Raises:
        ValueError: if a hyper-parameter is out of its range, or both a warm-up and a reference point are given; from
            the `Balancer`, with a warm-up, for a loss that is not positive.
    """

    preference: Tensor
    reference: Tensor
    total: Tensor
    counts: Tensor
    steps: Tensor

    def __init__(
        self,
        n_tasks: int,
        mu: float = 1.0,
        preference: Sequence[float] | None = None,
        reference: Sequence[float] | None = None,
        warmup: int = 0,
    ) -> None:
        super().__init__(n_tasks)
        if not mu > 0:
            raise ValueError(f"`mu` should be above 0. Found {mu:g}.")
        check_at_least("warmup", warmup, 0)
        if warmup > 0 and reference is not None:
            raise ValueError(
                "`reference` should be left out with a warm-up, which measures it. "
                f"Found warmup={warmup} and reference={reference}."
            )
        self.mu = mu
        self.warmup = warmup
        self.needs_positive_losses = warmup > 0
        self.register_buffer("preference", preference_vector(preference, n_tasks), persistent=False)
        self.register_buffer("reference", reference_point(reference, n_tasks), persistent=False)
        for name in ("total", "counts"):
            self.register_buffer(name, torch.zeros(n_tasks, dtype=torch.float64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, stats: TaskStats) -> Tensor:
        """The task weights (m,)."""
        present = stats.present
        if self.warmup == 0:
            return self._smooth(stats.losses - self.reference, self.preference, present)
        losses = torch.where(present, stats.losses, 1.0)
        warm = self.steps >= self.warmup
        averaged = self.steps >= self.warmup - max(1, self.warmup // _AVERAGED)
        learn = present & torch.where(warm, self.counts == 0, averaged)
        self.total.add_(torch.where(learn, losses, 0.0))
        self.counts.add_(learn)
        self.steps.add_(1)
        excess = (losses * self.counts / self.total).log()
        smooth = present.sum() * self._smooth(excess, self.n_tasks * self.preference, present)
        return torch.where(present, torch.where(warm, smooth, 1.0) / losses, 0.0)

    def _smooth(self, excess: Tensor, preference: Tensor, present: Tensor) -> Tensor:
        """The gradient (m,) of mu log sum_i exp(preference_i excess_i / mu) over the present tasks."""
        logits = torch.where(present, preference * excess / self.mu, -torch.inf)
        return torch.where(present, preference * torch.softmax(logits, dim=0), 0.0)
