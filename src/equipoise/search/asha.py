"""ASHA: successive halving that does not wait for a rung to be whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .generations import Assignment, Result, SearchError, ranked
from .rungs import Rungs, beginners, check_candidates, promoted
from .space import Point


@dataclass(frozen=True)
class AsynchronousHalving:
    """Promotes a candidate as soon as it is among the best part of those that have reached its rung so far.

    With the reduction eta, a candidate goes on to the next rung, eta times as long, once it is among the best
    floor(n / eta) of the n that have come to the end of its own. What can be promoted goes before what is new, so no
    worker waits. Those that diverged never go on. Who is promoted depends on the order in which results come: on one
    worker the same seed gives the same search, on several it need not, and a search that was killed goes on from what
    it had recorded. Where all is done and nobody has come to the end, the best of the highest rung goes on, and if it
    diverges the next one.

    Source: L. Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020,
    https://arxiv.org/abs/1810.05934, Algorithm 2, for a fixed number of candidates.

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
        """About how many assignments the search has; the order of results decides."""
        sizes = (len(self.candidates) // self.rungs.reduction**rung for rung in range(len(self.rungs.ends)))
        return sum(max(size, 1) for size in sizes)

    def ready(self, results: Sequence[Result]) -> list[Assignment]:
        """See `Asynchronous`.

        Raises:
            SearchError: if every candidate diverged.
        """
        ends = self.rungs.ends
        found = {one.place: one for one in beginners(self.candidates, ends[0])}
        rungs: list[list[Result]] = [[] for _ in ends]
        for number, result in enumerate(results, start=1):
            rung = result.assignment.generation
            rungs[rung].append(result)
            if rung + 1 < len(ends):
                best = ranked(rungs[rung])[: len(rungs[rung]) // self.rungs.reduction]
                found |= _places(best, ends[rung + 1])
            if number == len(found):
                found |= _next_best(rungs, ends, found)
        return list(found.values())


def _next_best(
    rungs: Sequence[Sequence[Result]], ends: Sequence[int], found: Mapping[tuple[int, int], Assignment]
) -> dict[tuple[int, int], Assignment]:
    """Who goes on where all is done and nobody has come to the end: the best of the highest rung that still can."""
    if any(one.score is not None for one in rungs[-1]):
        return {}
    for rung in reversed(range(len(ends) - 1)):
        for one in ranked(rungs[rung]):
            if one.score is not None and promoted(one, ends[rung + 1]).place not in found:
                return _places([one], ends[rung + 1])
    raise SearchError("Every candidate diverged: lower the learning rate.")


def _places(results: Sequence[Result], end: int) -> dict[tuple[int, int], Assignment]:
    going = (promoted(one, end) for one in results if one.score is not None)
    return {one.place: one for one in going}
