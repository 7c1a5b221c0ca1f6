"""Searches that leave the weights of a run alone: a random sample, a grid, and successive halving of a sample."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from .generations import Assignment, Result, SearchError, ranked, stream
from .weights import Weights, drawn, uniform

_MOST = 10_000  # points of a grid


@dataclass(frozen=True)
class Candidates:
    """Every candidate is trained to the end, and the best one is the result.

    Args:
        weights: of each candidate.
        epochs: of the training.

    Raises:
        SearchError: without a candidate or an epoch.
    """

    weights: Sequence[Weights]
    epochs: int

    def __post_init__(self) -> None:
        if not self.weights or self.epochs < 1:
            raise SearchError(
                "A search should have at least 1 candidate and 1 epoch. "
                f"Found {len(self.weights)} and {self.epochs}."
            )

    def propose(self, history: Sequence[Sequence[Result]]) -> list[Assignment]:
        """All candidates at once; see `Algorithm`."""
        if history:
            return []
        return [Assignment(0, k, weights, 0, self.epochs) for k, weights in enumerate(self.weights)]


@dataclass(frozen=True)
class Halving:
    """Successive halving: of the candidates that have come so far, the best part goes on, for longer each time.

    With n candidates, a first rung of r epochs and the reduction eta, the ceil(n / eta^k) best are trained until
    r eta^k epochs, or to the end. Those that diverged never go on. In step: a rung begins when the one before is
    done, so the same seed gives the same search, which asynchronous promotion (ASHA) does not.

    Source: K. Jamieson and A. Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization,
    AISTATS 2016, https://arxiv.org/abs/1502.07943, Figure 3; L. Li et al., A System for Massively Parallel
    Hyperparameter Tuning, MLSys 2020, https://arxiv.org/abs/1810.05934, Section 3.1.

    Args:
        weights: of each candidate.
        epochs: of the training.
        first: epochs of the first rung r.
        reduction: eta, at least 2.

    Raises:
        SearchError: on a number out of its range.
    """

    weights: Sequence[Weights]
    epochs: int
    first: int
    reduction: int = 3

    def __post_init__(self) -> None:
        if not self.weights:
            raise SearchError("A search should have at least 1 candidate. Found none.")
        if not 1 <= self.first < self.epochs:
            raise SearchError(
                f"`first` should be at least 1 epoch and less than the {self.epochs} of the run. Found {self.first}."
            )
        if self.reduction < 2:
            raise SearchError(f"`reduction` should be at least 2. Found {self.reduction}.")

    def propose(self, history: Sequence[Sequence[Result]]) -> list[Assignment]:
        """The next rung; see `Algorithm`.

        Raises:
            SearchError: if every candidate of the last rung diverged.
        """
        rung = len(history)
        begin, end = (self._epochs(k) for k in (rung - 1, rung))
        if not history:
            return [Assignment(0, k, weights, 0, end) for k, weights in enumerate(self.weights)]
        if begin == self.epochs:
            return []
        good = [one.assignment for one in ranked(history[-1]) if one.score is not None]
        if not good:
            raise SearchError(f"Every candidate diverged in rung {rung - 1}: lower the learning rate.")
        kept = sorted(good[: math.ceil(len(self.weights) / self.reduction**rung)], key=lambda one: one.member)
        return [Assignment(rung, one.member, one.weights, begin, end, one.member) for one in kept]

    def _epochs(self, rung: int) -> int:
        return min(self.first * self.reduction**rung, self.epochs) if rung >= 0 else 0


def sample(count: int, candidates: int, floor: float, seed: int) -> list[Weights]:
    """Weights drawn uniformly from the simplex of m = `count`, the uniform ones first; see `weights.drawn`."""
    draws = (drawn(count, floor, stream(seed, 0, k)) for k in range(1, candidates))
    return [uniform(count), *draws][:candidates]


def grid(count: int, parts: int, *, inner: bool = True) -> list[Weights]:
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
        found.append(tuple((b - a - 1 + least) / parts for a, b in itertools.pairwise(edges)))
    return found
