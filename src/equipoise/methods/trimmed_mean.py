"""Coordinate-wise trimmed mean."""

from __future__ import annotations

from torch import Tensor

from equipoise.core import Aggregator, TaskStats

_ROUNDING = 1e-9  # 0.29 * 100 is a little less than 29


class TrimmedMean(Aggregator):
    """Averages the task gradients in each coordinate without the extreme ones, so that a few tasks cannot dominate.

    In each column of the Jacobian J (m, n), the floor(fraction m) largest and as many smallest entries are left out;
    the answer (n,) is the mean of the rest.

    Reads: Jacobian.
    State: none.
    Scale: a mean over tasks.
    Reference: D. Yin, Y. Chen, K. Ramchandran, P. Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal
        Statistical Rates", ICML 2018, https://arxiv.org/abs/1803.01498, Definition 2.
    Departures: the paper averages the gradients of workers, here they are those of tasks. Absent tasks are left out
        before, so the number of entries to trim follows the present ones.

    Args:
        n_tasks: the number of tasks m, at least 1.
        fraction: what is trimmed at each end, in [0, 0.5). The paper wants at least the share of bad workers and has no
            default; a third gives the median of three tasks, and the mean of one or two.

    Raises:
        ValueError: if a hyper-parameter is out of its range.
    """

    def __init__(self, n_tasks: int, fraction: float = 1 / 3) -> None:
        super().__init__(n_tasks)
        if not 0.0 <= fraction < 0.5:
            raise ValueError(f"`fraction` should be at least 0 and below 0.5. Found {fraction:g}.")
        self.fraction = fraction

    def forward(self, stats: TaskStats) -> Tensor:
        """The shared gradient (n,)."""
        rows = stats.jacobian if stats.all_present else stats.jacobian[stats.present]
        cut = min(int(self.fraction * len(rows) + _ROUNDING), (len(rows) - 1) // 2)
        return rows.sort(dim=0).values[cut : len(rows) - cut].mean(0)
