"""Searches that leave the weights of a run alone: a random sample, a grid, and successive halving in step."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from .generations import Assignment, Result, SearchError, ranked, stream
from .rungs import Rungs, beginners, check_candidates, promoted
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
        rungs: when they are compared.

    Raises:
        SearchError: on a number out of its range.
    """

    candidates: Sequence[Point]
    rungs: Rungs

    def __post_init__(self) -> None:
        check_candidates(len(self.candidates))

    @property
    def members(self) -> int:
        """Assignments of the whole search, if none diverges."""
        sizes = (len(self.candidates) / self.rungs.reduction**rung for rung in range(len(self.rungs.ends)))
        return sum(map(math.ceil, sizes))

    def propose(self, history: Sequence[Sequence[Result]]) -> list[Assignment]:
        """The next rung; see `Algorithm`.

        Raises:
            SearchError: if every candidate of the last rung diverged.
        """
        ends = self.rungs.ends
        if not history:
            return beginners(self.candidates, ends[0])
        if len(history) == len(ends):
            return []
        good = [one for one in ranked(history[-1]) if one.score is not None]
        if not good and len(history) == 1:
            raise SearchError("Every candidate diverged in the first rung: lower the learning rate.")
        few = math.ceil(len(self.candidates) / self.rungs.reduction ** len(history))
        kept = sorted(good[:few], key=lambda one: one.assignment.member)
        return [promoted(one, ends[len(history)]) for one in kept]


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
