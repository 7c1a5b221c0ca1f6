"""Population-based training of weights, in step: the worst members go on from the best, with weights nearby."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from .generations import Assignment, Result, SearchError, ranked, stream
from .weights import Exploration, Weights, drawn, moved, uniform


@dataclass(frozen=True)
class PopulationBased:
    """PBT of N members: every E epochs the worst Q N are replaced by copies of the best, with other weights.

    At first member 0 has the uniform weights and each other one weights that are drawn from the simplex. After every
    E epochs members are ranked. The worst q = min(ceil(Q N), floor(N / 2)), and all that diverged, are replaced: each
    goes on from the network, optimizer and method of one of the best q, drawn at random, with the weights of that one
    after a move (`Exploration`). All others go on with what they have. Member 0 keeps the uniform weights for ever:
    where it is among the worst, it goes on from a good network, with the uniform weights.

    N (1 + Q E_total / E) configurations are tried, about.

    Source: M. Jaderberg et al., Population Based Training of Neural Networks, 2017, https://arxiv.org/abs/1711.09846,
    Algorithm 1, for weights as in A. Royer et al., NeurIPS 2023, https://arxiv.org/abs/2310.08910. Quantile, factors
    and the probability of a fresh draw, which the latter does not give, are the defaults of Ray Tune.

    Args:
        count: of the weights m.
        population: members N, at least 2.
        epochs: of the whole training E_total.
        interval: epochs E between two comparisons, less than `epochs`; the last interval may be shorter.
        seed: of all draws.
        quantile: Q, above 0 and at most 0.5.
        exploration: how weights move.

    Raises:
        SearchError: on a number out of its range.
    """

    count: int
    population: int
    epochs: int
    interval: int
    seed: int
    quantile: float = 0.25
    exploration: Exploration = field(default_factory=Exploration)

    def __post_init__(self) -> None:
        if self.count < 2:
            raise SearchError(f"A search should have at least 2 weights to find. Found {self.count}.")
        if self.population < 2:
            raise SearchError(
                f"`population` should be at least 2, since members are compared. Found {self.population}."
            )
        if not 1 <= self.interval < self.epochs:
            raise SearchError(
                f"`interval` should be at least 1 epoch and less than the {self.epochs} of the run, or no weights "
                f"would ever move. Found {self.interval}."
            )
        if not 0 < self.quantile <= 0.5:
            raise SearchError(f"`quantile` should be above 0 and at most 0.5. Found {self.quantile}.")

    def propose(self, history: Sequence[Sequence[Result]]) -> list[Assignment]:
        """The next generation; see `Algorithm`.

        Raises:
            SearchError: if every member of the last generation diverged.
        """
        begin = len(history) * self.interval
        if begin >= self.epochs:
            return []
        end = min(begin + self.interval, self.epochs)
        if not history:
            return [Assignment(0, k, self._first(k), 0, end) for k in range(self.population)]
        parents = self._parents(history[-1])
        return [
            Assignment(len(history), k, weights, begin, end, parent)
            for k, (parent, weights) in enumerate(parents)
        ]

    def _first(self, member: int) -> Weights:
        if member == 0:
            return uniform(self.count)
        return drawn(self.count, self.exploration.floor, stream(self.seed, 0, member))

    def _parents(self, last: Sequence[Result]) -> list[tuple[int, Weights]]:
        """Whose network each member goes on from, and its weights."""
        order = ranked(last)
        if order[0].score is None:
            raise SearchError(
                f"Every member diverged in generation {order[0].assignment.generation}: lower the learning rate."
            )
        few = min(math.ceil(self.population * self.quantile), self.population // 2)
        replaced = {one.assignment.member for one in order[-few:]}
        replaced |= {one.assignment.member for one in order if one.score is None}
        good = [one for one in order[:few] if one.score is not None]
        weights = {one.assignment.member: one.assignment.weights for one in last}
        generation = last[0].assignment.generation + 1
        found = []
        for member in range(self.population):
            if member not in replaced:
                found.append((member, weights[member]))
                continue
            draws = stream(self.seed, generation, member)
            source = good[int(torch.randint(len(good), (), generator=draws))].assignment
            fresh = uniform(self.count) if member == 0 else moved(source.weights, self.exploration, draws)
            found.append((source.member, fresh))
        return found
