"""Adaptive group risk minimisation over any weighting."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from equipoise.core import TaskStats, Weighting, Wrapper
from equipoise.core.grouping import Grouping


class Grouped(Wrapper):
    """Gives tasks with alike weights one weight: the mean over their group.

    The weights gamma (m,) of the base are the indicators: one-dimensional k-means puts the tasks into k groups and
    w_i = mean of gamma over the group of i (m,). Other clusterings, and a number of groups found in the weights of
    each step, are options.

    Reads: what the base reads.
    State: that of the base, and the stream of random groups.
    Scale: with the means as group weights, the sum of the base's weights.
    Reference: J. Shen et al., "GO4Align", NeurIPS 2024, https://arxiv.org/abs/2404.06486, Eq. 3 and Table 4.
    Departures: exact k-means; a base whose weights learn (UW) is refused.

    Args:
        base: the weighting whose weights are the indicators.
        groups: the number of groups k, from 1 to m, or "auto".
        clustering: "kmeans", "spectral", "sdp", "agglomerative", "quantile", "given" (the fixed `assignment`),
            "random", "shuffled" or "none"; their options are in `equipoise.core.grouping.Grouping`.
        criterion: how "auto" chooses the number of groups: "gap" or "bic".
        assignment: the group of each task (m,), with "given" only.
        group_weights: fixed weights of the groups (k,) in place of the means.
        seed: of the random groups, and of the numbers that the gap statistic compares with.

    Raises:
        TypeError: if the base is no `Weighting`.
        ValueError: if a hyper-parameter is out of its range, or the base has weights that learn.
    """

    def __init__(
        self,
        base: Weighting,
        groups: int | str = 2,
        *,
        clustering: str = "kmeans",
        criterion: str = "gap",
        assignment: Sequence[int] | None = None,
        group_weights: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(base)
        self.refuse_learned_weights()
        self.grouping = Grouping(
            base.n_tasks,
            groups,
            clustering=clustering,
            criterion=criterion,
            assignment=assignment,
            group_weights=group_weights,
            seed=seed,
        )

    def forward(self, stats: TaskStats) -> Tensor:
        """The task weights (m,)."""
        indicators = self.base(stats)
        weights, shown = self.grouping(indicators, None if stats.all_present else stats.present)
        fallback = [d["converged"] for d in (self.base.diagnostics, shown) if "converged" in d]
        self.diagnostics = {**self.base.diagnostics, **shown}
        if len(fallback) == 2:
            self.diagnostics["converged"] = fallback[0] & fallback[1]
        return weights
