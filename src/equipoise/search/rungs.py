"""The rungs of halving: after how many epochs candidates are compared, and how they begin and go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .generations import Assignment, Result, SearchError, point_of
from .space import Point


@dataclass(frozen=True)
class Rungs:
    """Comparisons after r, r eta, r eta^2, ... epochs, and after the last one.

    Args:
        epochs: of the training.
        first: epochs of the first rung r, fewer than `epochs`.
        reduction: eta, at least 2.

    Raises:
        SearchError: on a number out of its range.
    """

    epochs: int
    first: int
    reduction: int = 3

    def __post_init__(self) -> None:
        if not 1 <= self.first < self.epochs:
            raise SearchError(
                f"`interval`, here the epochs of the first rung, should be at least 1 and less than the {self.epochs} "
                f"of the run. Found {self.first}."
            )
        if self.reduction < 2:
            raise SearchError(f"`reduction` should be at least 2. Found {self.reduction}.")

    @property
    def ends(self) -> list[int]:
        """The epochs after which candidates are compared."""
        found = [self.first]
        while found[-1] < self.epochs:
            found.append(min(found[-1] * self.reduction, self.epochs))
        return found


def check_candidates(count: int) -> None:
    """Refuse a search of nothing.

    Raises:
        SearchError: if there is no candidate.
    """
    if count < 1:
        raise SearchError("A search should have at least 1 candidate. Found none.")


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
