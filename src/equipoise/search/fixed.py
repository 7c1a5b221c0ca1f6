"""Searches that leave the weights of a run alone: a random sample, a grid, and successive halving in step."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from .generations import Assignment, Result, SearchError, point_of, ranked, stream
from .space import Point, Space

_MOST = 10_000  # points of a grid


@dataclass(frozen=True)
class Candidates:
    """Every candidate is trained to the end, and the best one is the result.

    Args:
        candidates: points of the space.
        epochs: of the training.

    Raises:
        SearchError: without a candidate or an epoch.
    """

    candidates: Sequence[Point]
    epochs: int

    def __post_init__(self) -> None:
        if not self.candidates or self.epochs < 1:
            raise SearchError(
                "A search should have at least 1 candidate and 1 epoch. "
                f"Found {len(self.candidates)} and {self.epochs}."
            )

    @property
    def members(self) -> int:
        """Assignments of the whole search."""
        return len(self.candidates)

    def propose(self, history: Sequence[Sequence[Result]]) -> list[Assignment]:
        """All candidates at once; see `Algorithm`."""
        return [] if history else beginners(self.candidates, self.epochs)


@dataclass(frozen=True)
class Halving:
    """Successive halving: of the candidates that have come so far, the best part goes on, for longer each time.

    With n candidates, a first rung of r epochs and the reduction eta, the ceil(n / eta^k) best are trained until
    r eta^k epochs, or to the end. Those that diverged never go on; where all of a later rung did, the search ends.
    In step: a rung begins when the one before is done, so the same seed gives the same search, which asynchronous
    promotion (ASHA) does not.

    Source: K. Jamieson and A. Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization,
    AISTATS 2016, https://arxiv.org/abs/1502.07943, Figure 3; L. Li et al., A System for Massively Parallel
    Hyperparameter Tuning, MLSys 2020, https://arxiv.org/abs/1810.05934, Section 3.1.

    Args:
        candidates: points of the space.
        epochs: of the training.
        first: epochs of the first rung r.
        reduction: eta, at least 2.

    Raises:
        SearchError: on a number out of its range.
    """

    candidates: Sequence[Point]
    epochs: int
    first: int
    reduction: int = 3

    def __post_init__(self) -> None:
        check_rungs(len(self.candidates), self.epochs, self.first, self.reduction)

    @property
    def members(self) -> int:
        """Assignments of the whole search, if none diverges."""
        rungs = range(len(rung_ends(self.epochs, self.first, self.reduction)))
        return sum(math.ceil(len(self.candidates) / self.reduction**rung) for rung in rungs)

    def propose(self, history: Sequence[Sequence[Result]]) -> list[Assignment]:
        """The next rung; see `Algorithm`.

        Raises:
            SearchError: if every candidate of the last rung diverged.
        """
        ends = rung_ends(self.epochs, self.first, self.reduction)
        if not history:
            return beginners(self.candidates, ends[0])
        if len(history) == len(ends):
            return []
        good = [one for one in ranked(history[-1]) if one.score is not None]
        if not good and len(history) == 1:
            raise SearchError("Every candidate diverged in the first rung: lower the learning rate.")
        few = math.ceil(len(self.candidates) / self.reduction ** len(history))
        kept = sorted(good[:few], key=lambda one: one.assignment.member)
        return [promoted(one, ends[len(history)]) for one in kept]


def check_rungs(candidates: int, epochs: int, first: int, reduction: int) -> None:
    """Refuse rungs that are none.

    Raises:
        SearchError: naming the number that is out of its range.
    """
    if candidates < 1:
        raise SearchError("A search should have at least 1 candidate. Found none.")
    if not 1 <= first < epochs:
        raise SearchError(
            f"`interval`, here the epochs of the first rung, should be at least 1 and less than the {epochs} of the "
            f"run. Found {first}."
        )
    if reduction < 2:
        raise SearchError(f"`reduction` should be at least 2. Found {reduction}.")


def rung_ends(epochs: int, first: int, reduction: int) -> list[int]:
    """The epochs after which candidates are compared: r, r eta, r eta^2, ..., and the last one."""
    found = [first]
    while found[-1] < epochs:
        found.append(min(found[-1] * reduction, epochs))
    return found


def beginners(points: Sequence[Point], end: int, generation: int = 0) -> list[Assignment]:
    """New networks at these points, trained until an epoch."""
    return [
        Assignment(generation, k, point.weights, 0, end, None, point.settings)
        for k, point in enumerate(points)
    ]


def promoted(result: Result, end: int) -> Assignment:
    """The same candidate in the next rung."""
    one, point = result.assignment, point_of(result.assignment)
    return Assignment(one.generation + 1, one.member, point.weights, one.end, end, one.member, point.settings)


def sample(space: Space, candidates: int, seed: int) -> list[Point]:
    """Points drawn from the space, uniform weights with the defaults of all settings first."""
    draws = (space.drawn(stream(seed, 0, k)) for k in range(1, candidates))
    return [space.uniform(), *draws][:candidates]


def grid(count: int, parts: int, *, inner: bool = True) -> list[Point]:
    """All weights that are multiples of 1 / parts, in lexicographic order.

    There are C(parts - 1, m - 1) without zeros, and C(parts + m - 1, m - 1) with them.

    Args:
        count: of the weights m.
        parts: into which 1 is divided.
        inner: whether every weight is above 0.

    Raises:
        SearchError: if there is no such point, or more than 10,000.
    """
    least = 1 if inner else 0
    free = parts - least * count
    points = math.comb(free + count - 1, count - 1) if count >= 1 and free >= 0 else 0
    if not 1 <= points <= _MOST:
        raise SearchError(
            f"A grid of {count} weights in steps of 1/{parts} should have 1 to {_MOST:,} points. Found {points:,}: "
            f"{'take smaller steps' if points < 1 else 'take larger steps, or a random search'}."
        )
    bars = itertools.combinations(range(free + count - 1), count - 1)
    found = []
    for chosen in bars:
        edges = (-1, *chosen, free + count - 1)
        weights = tuple((b - a - 1 + least) / parts for a, b in itertools.pairwise(edges))
        found.append(Point(weights, {}))
    return found
