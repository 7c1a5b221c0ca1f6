"""GO4Align: group optimization for multi-task alignment."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.core import LastLosses, Reads, TaskStats, Weighting
from equipoise.core.grouping import Grouping
from equipoise.core.indicators import INDICATORS, Indicator
from equipoise.core.method import check_at_least, check_one_of

WEIGHTS = ("risk", "loss", "scale", "smooth", "shuffled")


class GO4Align(Weighting):
    """Aligns the progress of the tasks: risks put on one scale, smoothed over time, and shared in groups.

    Scale-balance (Eq. 5): p_i = sum_j L_j / L_i. Smooth-alignment (Eq. 6): q is proportional to
    q exp(-step L), kept as log q and normalised to sum 1, from q = 1 / m. Indicators (Eq. 7): gamma = p q.
    The lower problem (Eq. 3) puts the tasks into k groups by exact one-dimensional k-means of gamma; a task's
    weight is the mean of gamma over its group. All are (m,), the group weights (k,). With k = 1 all weights
    are equal; with k = m, or clustering "none", there is no grouping and w = gamma.

    Other indicators tell what the groups owe to this one. Three are parts of gamma and take its place, so that with and
    without grouping they are the factorial of the components: "loss" is m L / sum_j L_j, "scale" p / m, "smooth" m q.
    "shuffled" is gamma dealt to the tasks at random in each step: the right weights, on the wrong tasks.
    The others make the groups only, and a group weighs the mean of gamma = p q: "rate" is L / (first loss seen),
    "grad_norm" the norm of the task gradient, "cosine" its cosine to the mean gradient, "random" a uniform draw. The
    weights of any other method become indicators by the wrapper `grouped` (Table 4). With `Balancer(memory="features")`
    "grad_norm" and "cosine" are those of the gradients with respect to the features, the output of the last shared
    layer, at the cost of a pass through each head.

    Reads: losses; the Gramian for "grad_norm" and "cosine".
    State: `log_q` (m,) up to a constant; the last seen losses (m,); for "rate" the first ones (m,); the stream of
        random groups and indicators.
    Scale: that of the authors' code, the sum of the losses in p and not their mean: equal losses give weight 1 under
        every indicator.
    Reference: J. Shen et al., "GO4Align: Group Optimization for Multi-Task Alignment", NeurIPS 2024,
        https://arxiv.org/abs/2404.06486, Eqs. 3 and 5-7, Algorithm 1.
    Departures: k-means by dynamic programming finds the global optimum, where the authors run Lloyd's iteration
        from a random start. Of their other clusterings (Table 5) "spectral-linear" is the same problem with assignments
        that draw nothing, and "sdp" rounds to k groups, where they count the connected components of a threshold.
        `decay` below 1 lets log q forget, which the published form does not. While a task is absent, log q moves by its
        last loss, and its weight is 0 without changing the weights of the others.

    Args:
        n_tasks: the number of tasks m, at least 1.
        groups: the number of groups k, from 1 to m, or "auto"; 2 for NYUv2 and 5 for QM9 in the paper.
        step: the beta of Eq. 6, at least 0; 1e-4 in the authors' code.
        decay: what is kept of log q at each step, in [0, 1].
        indicator: what tasks are grouped by: "risk" (gamma), "loss", "scale", "smooth", "shuffled", "rate",
            "grad_norm", "cosine" or "random".
        clustering: "kmeans", "spectral", "sdp", "agglomerative", "quantile", "given" (the fixed `assignment`), "random"
            (Fig. 5 of the paper), "shuffled" or "none"; their options are in `equipoise.core.grouping.Grouping`.
        criterion: how "auto" chooses the number of groups: "gap" or "bic".
        assignment: the group of each task (m,), with "given" only.
        group_weights: fixed weights of the groups (k,) in place of the means (Fig. 5 of the paper).
        seed: of the random groups and indicators, and of the numbers that the gap statistic compares with.

    Raises:
        ValueError: if a hyper-parameter is out of its range; from the `Balancer`, for a loss that is not positive,
            unless the indicator is "smooth".
    """

    needs_positive_losses = True
    log_q: Tensor

    def __init__(
        self,
        n_tasks: int,
        groups: int | str = 2,
        step: float = 1e-4,
        decay: float = 1.0,
        *,
        indicator: str = "risk",
        clustering: str = "kmeans",
        criterion: str = "gap",
        assignment: Sequence[int] | None = None,
        group_weights: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(n_tasks)
        check_at_least("step", step, 0.0)
        if not 0.0 <= decay <= 1.0:
            raise ValueError(f"`decay` should be from 0 to 1. Found {decay:g}.")
        check_one_of("indicator", indicator, (*WEIGHTS, *INDICATORS))
        self.step, self.decay = step, decay
        self.part = indicator if indicator in WEIGHTS else "risk"
        self.needs_positive_losses = indicator != "smooth"
        self.last_losses = LastLosses(n_tasks)
        self.grouping = Grouping(
            n_tasks,
            groups,
            clustering=clustering,
            criterion=criterion,
            assignment=assignment,
            group_weights=group_weights,
            seed=seed,
        )
        self.register_buffer("log_q", torch.zeros(n_tasks, dtype=torch.float64))
        self.indicator = None if indicator in WEIGHTS else Indicator(n_tasks, indicator, self.grouping.stream)

    @property
    def reads(self) -> Reads:
        """The losses, or the Gramian where the indicator comes from gradients."""
        return Reads.LOSSES if self.indicator is None else self.indicator.reads

    def forward(self, stats: TaskStats) -> Tensor:
        """The task weights (m,)."""
        losses = self.last_losses(stats)
        log_q = self.decay * self.log_q - self.step * losses
        self.log_q.copy_(log_q - log_q.mean())
        gamma = self._gamma(losses)
        indicators = gamma if self.indicator is None else self.indicator(stats, losses)
        present = None if stats.all_present else stats.present
        weights, self.diagnostics = self.grouping(indicators, present, gamma)
        return weights

    def _gamma(self, losses: Tensor) -> Tensor:
        """Eq. 7, or the part of it that is the indicator."""
        if self.part == "loss":
            return losses / losses.mean()
        if self.part == "scale":
            return losses.mean() / losses
        smooth = torch.softmax(self.log_q, dim=0)
        gamma = self.n_tasks * smooth if self.part == "smooth" else losses.sum() / losses * smooth
        return self.grouping.dealt(gamma) if self.part == "shuffled" else gamma
