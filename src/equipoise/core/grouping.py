"""Adaptive group risk minimisation: tasks with alike indicators share one weight."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from equipoise.solvers.kmeans import group_means, kmeans_1d

from .method import check_one_of
from .random import RandomStream

CLUSTERINGS = ("kmeans", "given", "random")


class Grouping(nn.Module):
    """Puts m tasks into k groups by their indicators, and gives each group one weight.

    With indicators gamma (m,) and an assignment matrix A (k, m) in {0, 1}, the lower problem of AGRM is
    min over (omega, A) of ||gamma' - omega' A||, so omega_k is the mean of gamma over group k and the best A
    is one-dimensional k-means, solved exactly. Task weights are omega' A (m,).

    Args:
        n_tasks: the number of tasks m.
        groups: the number of groups k, from 1 (all weights equal) to m (every task by itself).
        clustering: "kmeans" (exact, the default), "given" (the fixed `assignment`) or "random" (tasks dealt to
            the groups anew at every step).
        assignment: the group of each task (m,), from 0 to k - 1; with "given" only.
        group_weights: fixed weights of the groups (k,) in place of the means.
        seed: of the random groups.

    Raises:
        ValueError: on a number of groups outside 1..m, an unknown clustering, or an assignment or group weights
            that do not fit.
    """

    _assignment: Tensor
    _group_weights: Tensor

    def __init__(
        self,
        n_tasks: int,
        groups: int,
        *,
        clustering: str = "kmeans",
        assignment: Sequence[int] | None = None,
        group_weights: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 1 <= groups <= n_tasks:
            raise ValueError(f"`groups` should be from 1 to the number of tasks, {n_tasks}. Found {groups}.")
        check_one_of("clustering", clustering, CLUSTERINGS)
        if (clustering == "given") != (assignment is not None):
            raise ValueError(
                '`assignment` should be set with clustering="given" and only then. '
                f"Found clustering={clustering!r} and assignment={assignment}."
            )
        self.groups = groups
        self.clustering = clustering
        self.fixed_weights = group_weights is not None
        given = _checked_assignment(assignment, n_tasks, groups)
        self.register_buffer("_assignment", torch.tensor(given), persistent=False)
        omega = _checked_group_weights(group_weights, groups)
        self.register_buffer("_group_weights", torch.tensor(omega, dtype=torch.float64), persistent=False)
        self.stream = RandomStream(seed)

    def __call__(self, indicators: Tensor, present: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """As `forward`, typed where `nn.Module` is not."""
        answer: tuple[Tensor, dict[str, Tensor]] = super().__call__(indicators, present)
        return answer

    def forward(self, indicators: Tensor, present: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Weights (m,) for indicators (m,), 0 for absent tasks, and what the figures show of the groups."""
        labels = self._labels(indicators, present)
        weights, group_weights = group_means(indicators, labels, self.groups, present)
        if self.fixed_weights:
            group_weights = self._group_weights
            weights = group_weights[labels]
            if present is not None:
                weights = weights * present
        shown = {"indicators": indicators, "assignment": labels, "group_weights": group_weights}
        return weights, shown

    def _labels(self, indicators: Tensor, present: Tensor | None) -> Tensor:
        if self.clustering == "given":
            return self._assignment
        if self.clustering == "kmeans":
            return kmeans_1d(indicators, self.groups, present)
        m = len(indicators)
        dealt = self.stream.uniform(m).argsort().to(indicators.device)
        return dealt % self.groups


def _checked_assignment(assignment: Sequence[int] | None, m: int, groups: int) -> list[int]:
    if assignment is None:
        return [0] * m
    if len(assignment) != m or sorted(set(assignment)) != list(range(groups)):
        raise ValueError(
            f"`assignment` should name one of the groups 0 to {groups - 1} for each of the {m} tasks and "
            f"leave no group empty. Found {list(assignment)}."
        )
    return list(assignment)


def _checked_group_weights(group_weights: Sequence[float] | None, groups: int) -> list[float]:
    if group_weights is None:
        return [0.0] * groups
    if len(group_weights) != groups or min(group_weights) < 0:
        raise ValueError(
            f"`group_weights` should be {groups} numbers that are not negative. Found {list(group_weights)}."
        )
    return [float(weight) for weight in group_weights]
