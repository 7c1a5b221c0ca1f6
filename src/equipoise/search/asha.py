"""ASHA: successive halving that does not wait for a rung to be whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .fixed import beginners, check_rungs, promoted, rung_ends
from .generations import Assignment, Result, SearchError, ranked
from .space import Point


@dataclass(frozen=True)
class AsynchronousHalving:
    """Promotes a candidate as soon as it is among the best part of those that have reached its rung so far.

    With the reduction eta, a candidate goes on to the next rung, eta times as long, once it is among the best
    floor(n / eta) of the n that have come to the end of its own. What can be promoted goes before what is new, so no
    worker waits. Those that diverged never go on. Who is promoted depends on the order in which results come: on one
    worker the same seed gives the same search, on several it need not, and a search that was killed goes on from what
    it had recorded. When all that is left has been done, the best of a rung goes on to the end if nobody reached it.

    Source: L. Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020,
    https://arxiv.org/abs/1810.05934, Algorithm 2, for a fixed number of candidates.

    Args:
        candidates: points of the space.
        epochs: of the training.
        first: epochs of the first rung.
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
        """About how many assignments the search has; the order of results decides."""
        rungs = range(len(rung_ends(self.epochs, self.first, self.reduction)))
        return sum(max(len(self.candidates) // self.reduction**rung, 1) for rung in rungs)

    def ready(self, results: Sequence[Result]) -> list[Assignment]:
        """See `Asynchronous`.

        Raises:
            SearchError: if every candidate diverged.
        """
        ends = rung_ends(self.epochs, self.first, self.reduction)
        found = {one.place: one for one in beginners(self.candidates, ends[0])}
        rungs: list[list[Result]] = [[] for _ in ends]
        for number, result in enumerate(results, start=1):
            rung = result.assignment.generation
            rungs[rung].append(result)
            if rung + 1 < len(ends):
                best = ranked(rungs[rung])[: len(rungs[rung]) // self.reduction]
                found |= _places(best, ends[rung + 1])
            if number == len(found):
                found |= _last(rungs, ends)
        return list(found.values())


def _last(rungs: Sequence[Sequence[Result]], ends: Sequence[int]) -> dict[tuple[int, int], Assignment]:
    """The best of the highest rung that was reached goes on, where few candidates leave the last one empty."""
    top = max(rung for rung, row in enumerate(rungs) if row)
    if top + 1 == len(ends):
        return {}
    best = ranked(rungs[top])[:1]
    if best[0].score is None:
        raise SearchError(f"Every candidate diverged in rung {top}: lower the learning rate.")
    return _places(best, ends[top + 1])


def _places(results: Sequence[Result], end: int) -> dict[tuple[int, int], Assignment]:
    going = (promoted(one, end) for one in results if one.score is not None)
    return {one.place: one for one in going}
