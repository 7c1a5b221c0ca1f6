"""Adaptive group risk minimisation: tasks with alike indicators share one weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from equipoise.solvers.auto_k import CRITERIA, Reference, kmeans_auto, uniform_reference
from equipoise.solvers.clustering import LINKAGES, Rule, agglomerative, cluster_1d, quantile_bins
from equipoise.solvers.kmeans import group_means, kmeans_1d
from equipoise.solvers.sdp import sdp_groups
from equipoise.solvers.spectral import AFFINITIES, ASSIGNMENTS, spectral

from .method import check_one_of
from .random import RandomStream

# What may follow each clustering after a hyphen; the first of each is what is left out.
CLUSTERINGS: dict[str, tuple[tuple[str, ...], ...]] = {
    "kmeans": (),
    "spectral": (AFFINITIES, ASSIGNMENTS),
    "sdp": (),
    "agglomerative": (LINKAGES,),
    "quantile": (),
    "given": (),
    "random": (),
    "shuffled": (),
    "none": (),
}


class Grouping(nn.Module):
    """Puts m tasks into k groups by their indicators, and gives each group one weight.

    With indicators gamma (m,) and an assignment matrix A (k, m) in {0, 1}, the lower problem of AGRM is
    min over (omega, A) of ||gamma' - omega' A||, so omega_k is the mean of gamma over group k and the best A
    is one-dimensional k-means, solved exactly. Task weights are omega' A (m,).

    Other clusterings, each from the indicators of the present tasks; groups are numbered by rising mean:
        "kmeans": exact, and the only one with "quantile" that waits for no device.
        "spectral-AFFINITY-ASSIGNMENT": normalised cuts, with the affinity "rbf" or "linear" (that of the authors'
            code, of rank one) and the assignment "cluster_qr", "discretize" or "kmeans". "spectral" is
            "spectral-rbf-cluster_qr".
        "sdp": the semidefinite relaxation of k-means. Slow: 0.01 to 0.1 s a step for 11 tasks, 0.2 to 2 s for 64.
            The diagnostics tell whether it converged.
        "agglomerative-LINKAGE": "ward" (that of "agglomerative"), "average", "complete" or "single".
        "quantile": groups of equal size by rank.
        "given": the fixed `assignment`, with the numbers of the groups as given.
        "random": tasks dealt to the groups anew at every step.
        "shuffled": the groups of "kmeans", dealt to tasks at random: groups of the same sizes.
        "none": every task by itself, w = gamma; `groups` does not matter.

    Args:
        n_tasks: the number of tasks m.
        groups: the number of groups k, from 1 (all weights equal) to m (every task by itself), or "auto": at each
            step the number, at most m / 2 rounded up, that `criterion` finds in the indicators.
        clustering: as above.
        criterion: how "auto" chooses: "gap" (the gap statistic) or "bic".
        assignment: the group of each task (m,), from 0 to k - 1; with "given" only.
        group_weights: fixed weights of the groups (k,) in place of the means.
        seed: of the random groups, and of the numbers that the gap statistic compares with.

    Raises:
        ValueError: on a number of groups outside 1..m, an unknown clustering or criterion, "auto" beside an
            `assignment` or `group_weights`, or ones that do not fit.
    """

    _assignment: Tensor
    _group_weights: Tensor
    _reference: Tensor | None

    def __init__(
        self,
        n_tasks: int,
        groups: int | str,
        *,
        clustering: str = "kmeans",
        criterion: str = "gap",
        assignment: Sequence[int] | None = None,
        group_weights: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.clustering, options = _checked_clustering(clustering)
        check_one_of("criterion", criterion, CRITERIA)
        if (self.clustering == "given") != (assignment is not None):
            raise ValueError(
                '`assignment` should be set with clustering="given" and only then. '
                f"Found clustering={clustering!r} and assignment={assignment}."
            )
        if self.clustering == "none":
            groups, assignment = n_tasks, range(n_tasks)
        _check_groups(groups, n_tasks, fixed=assignment is not None or group_weights is not None)
        self.groups = groups
        self._most = groups if isinstance(groups, int) else n_tasks
        self._rule = _rule(self.clustering, options)
        self.fixed_weights = group_weights is not None
        given = _checked_assignment(assignment, n_tasks, self._most)
        self.register_buffer("_assignment", torch.tensor(given), persistent=False)
        omega = _checked_group_weights(group_weights, self._most)
        self.register_buffer("_group_weights", torch.tensor(omega, dtype=torch.float64), persistent=False)
        by_gap = groups == "auto" and criterion == "gap"
        reference = uniform_reference(n_tasks, torch.Generator().manual_seed(seed)) if by_gap else None
        table = None if reference is None else torch.stack(reference)
        self.register_buffer("_reference", table, persistent=False)
        self.stream = RandomStream(seed)

    def __call__(
        self, indicators: Tensor, present: Tensor | None, gamma: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """As `forward`, typed where `nn.Module` is not."""
        answer: tuple[Tensor, dict[str, Tensor]] = super().__call__(indicators, present, gamma)
        return answer

    def forward(
        self, indicators: Tensor, present: Tensor | None, gamma: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weights (m,) for indicators (m,), 0 for absent tasks, and what the figures show of the groups.

        Where `gamma` (m,) is given, the groups are those of the indicators, and their weights the means of gamma.
        """
        labels, shown = self._labels(indicators, present)
        values = indicators if gamma is None else gamma
        weights, group_weights = group_means(values, labels, self._most, present)
        if self.fixed_weights:
            group_weights = self._group_weights
            weights = group_weights[labels]
            if present is not None:
                weights = weights * present
        shown |= {"indicators": indicators, "assignment": labels, "group_weights": group_weights}
        return weights, shown

    def dealt(self, values: Tensor) -> Tensor:
        """The same numbers (m,), dealt to the tasks in a random order."""
        return values[self.stream.uniform(len(values)).argsort().to(values.device, non_blocking=True)]

    def _labels(self, indicators: Tensor, present: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        if self.clustering in ("given", "none"):
            return self._assignment, {}
        if self.clustering in ("kmeans", "shuffled"):
            labels = self._by_kmeans(indicators, present)
            return (self._shuffled(labels, present) if self.clustering == "shuffled" else labels), {}
        k: int | Tensor
        k = self.groups if isinstance(self.groups, int) else self._by_kmeans(indicators, present).amax() + 1
        if self.clustering == "random":
            return self.stream.uniform(len(indicators)).argsort().to(
                indicators.device, non_blocking=True
            ) % k, {}
        if self._rule is None:
            return quantile_bins(indicators, k, present), {}
        labels, converged = cluster_1d(indicators, int(k), self._rule, present)
        return labels, ({"converged": converged} if self.clustering == "sdp" else {})

    def _by_kmeans(self, indicators: Tensor, present: Tensor | None) -> Tensor:
        if isinstance(self.groups, int):
            return kmeans_1d(indicators, self.groups, present)
        return kmeans_auto(
            indicators, present, None if self._reference is None else Reference(*self._reference)
        )

    def _shuffled(self, labels: Tensor, present: Tensor | None) -> Tensor:
        """The labels of the present tasks, dealt to them in a random order."""
        draws = self.stream.uniform(len(labels)).to(labels.device, non_blocking=True)
        if present is None:
            return labels[draws.argsort()]
        order = torch.where(present, draws, 1.0).argsort()
        return torch.empty_like(labels).scatter(0, order, labels[(~present).argsort(stable=True)])


def _rule(clustering: str, options: tuple[str, ...]) -> Rule | None:
    """What `cluster_1d` groups by; None for the clusterings that need no such frame."""
    if clustering == "sdp":
        return sdp_groups
    if clustering == "spectral":
        return partial(_sure, partial(spectral, affinity=options[0], assignment=options[1]))
    if clustering == "agglomerative":
        return partial(_sure, partial(agglomerative, linkage=options[0]))
    return None


def _sure(group: Callable[[Tensor, int], Tensor], ordered: Tensor, k: int) -> tuple[Tensor, bool]:
    return group(ordered, k), True


def _checked_clustering(clustering: str) -> tuple[str, tuple[str, ...]]:
    """The name of a clustering and all its options, from text like "spectral-linear"."""
    name, *given = clustering.split("-")
    check_one_of("clustering", name, tuple(CLUSTERINGS))
    choices = CLUSTERINGS[name]
    known = [option in allowed for option, allowed in zip(given, choices, strict=False)]
    if len(given) > len(choices) or not all(known):
        parts = "".join(f"-({'|'.join(allowed)})" for allowed in choices)
        raise ValueError(f"`clustering` should read {name}{parts}. Found {clustering!r}.")
    return name, (*given, *(allowed[0] for allowed in choices[len(given) :]))


def _check_groups(groups: int | str, m: int, *, fixed: bool) -> None:
    if groups == "auto":
        if fixed:
            raise ValueError(
                '`groups` should be a number with `assignment` or `group_weights`. Found "auto".'
            )
    elif not isinstance(groups, int) or isinstance(groups, bool):
        raise ValueError(f'`groups` should be a whole number or "auto". Found {groups!r}.')
    elif not 1 <= groups <= m:
        raise ValueError(f"`groups` should be from 1 to the number of tasks, {m}. Found {groups}.")


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
