"""Population-based training, in step: the worst members go on from the best, at other points of the space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch

from .generations import Assignment, Result, SearchError, point_of, ranked, stream
from .space import Point, Space


class Question(NamedTuple):
    """What is known when a point for one member is chosen.

    Args:
        history: all whole generations.
        source: the point of the member whose network goes on.
        taken: points of the new generation that are settled already.
        draws: the random numbers for this choice.
    """

    history: Sequence[Sequence[Result]]
    source: Point
    taken: Sequence[Point]
    draws: torch.Generator


class Explore(Protocol):
    """Chooses the point that a replaced member goes on with."""

    def __call__(self, question: Question) -> Point:
        """The point."""


@dataclass(frozen=True)
class Nearby:
    """Explores as PBT does: a move from where the network comes from.

    Args:
        space: of the points.
    """

    space: Space

    def __call__(self, question: Question) -> Point:
        """See `Explore`."""
        return self.space.moved(question.source, question.draws)


@dataclass(frozen=True)
class PopulationBased:
    """PBT of N members: every E epochs the worst Q N are replaced by copies of the best, at other points.

    At first member 0 has the uniform weights and each other one a point that is drawn from the space. After every
    E epochs members are ranked. The worst q = min(ceil(Q N), floor(N / 2)), and all that diverged, are replaced: each
    goes on from the network, optimizer and method of one of the best q, drawn at random, at a point that `explore`
    chooses. All others go on with what they have. Member 0 keeps the uniform weights for ever: where it is among the
    worst, it goes on from a good network, with the uniform weights and the other settings of the point chosen.

    N (1 + Q E_total / E) configurations are tried, about.

    Source: M. Jaderberg et al., Population Based Training of Neural Networks, 2017, https://arxiv.org/abs/1711.09846,
    Algorithm 1, for weights as in A. Royer et al., NeurIPS 2023, https://arxiv.org/abs/2310.08910. Quantile, factors
    and the probability of a fresh draw, which the latter does not give, are the defaults of Ray Tune.

    Args:
        space: of the points.
        population: members N, at least 2.
        epochs: of the whole training E_total.
        interval: epochs E between two comparisons, less than `epochs`; the last interval may be shorter.
        seed: of all draws.
        quantile: Q, above 0 and at most 0.5.
        explore: chooses points; `Nearby` by default.

    Raises:
        SearchError: on a number out of its range.
    """

    space: Space
    population: int
    epochs: int
    interval: int
    seed: int
    quantile: float = 0.25
    explore: Explore | None = None

    def __post_init__(self) -> None:
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

    @property
    def members(self) -> int:
        """Assignments of the whole search."""
        return self.population * math.ceil(self.epochs / self.interval)

    def propose(self, history: Sequence[Sequence[Result]]) -> list[Assignment]:
        """The next generation; see `Algorithm`.

        Raises:
            SearchError: if every member of the last generation diverged.
        """
        begin = len(history) * self.interval
        if begin >= self.epochs:
            return []
        end = min(begin + self.interval, self.epochs)
        if history:
            chosen = self._chosen(history)
        else:
            chosen = [(None, self._first(member)) for member in range(self.population)]
        return [
            Assignment(len(history), k, point.weights, begin, end, parent, point.settings)
            for k, (parent, point) in enumerate(chosen)
        ]

    def _first(self, member: int) -> Point:
        return self.space.drawn(stream(self.seed, 0, member)) if member else self.space.uniform()

    def _chosen(self, history: Sequence[Sequence[Result]]) -> list[tuple[int | None, Point]]:
        """Whose network each member goes on from, and its point."""
        order = ranked(history[-1])
        if order[0].score is None:
            raise SearchError(
                f"Every member diverged in generation {len(history) - 1}: lower the learning rate."
            )
        few = min(math.ceil(self.population * self.quantile), self.population // 2)
        replaced = {one.assignment.member for one in order[-few:]}
        replaced |= {one.assignment.member for one in order if one.score is None}
        good = [one.assignment for one in order[:few] if one.score is not None]
        found: dict[int, tuple[int | None, Point]] = {
            one.assignment.member: (one.assignment.member, point_of(one.assignment))
            for one in order
            if one.assignment.member not in replaced
        }
        explore = self.explore or Nearby(self.space)
        for member in sorted(replaced):
            draws = stream(self.seed, len(history), member)
            source = good[int(torch.randint(len(good), (), generator=draws))]
            taken = [point for _, point in found.values()]
            point = explore(Question(history, point_of(source), taken, draws))
            fresh = point._replace(weights=self.space.uniform().weights) if member == 0 else point
            found[member] = (source.member, fresh)
        return [found[member] for member in range(self.population)]
