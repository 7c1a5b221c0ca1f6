"""BOHB: brackets of successive halving whose candidates come from a model of what was good."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .generations import Assignment, Result, point_of, ranked, stream
from .rungs import Rungs, beginners, check_candidates, promoted
from .space import Point, Space

_GOOD = 0.15  # of the results that make the model of good points
_RANDOM = 1 / 3  # of the candidates that are drawn from the space
_WIDER = 3.0  # than the model: the kernel from which candidates are drawn
_CANDIDATES = 64
_LEAST_WIDTH = 1e-3


@dataclass(frozen=True)
class ModelBased:
    """Hyperband with candidates from kernel densities of the good and of the other results.

    A bracket s begins ceil((S + 1) eta^s / (s + 1)) new candidates (S + 1 the number of rungs) at rung S - s, and
    goes on with the best 1 / eta of them at each rung, to the end of the training. Brackets go from s = S, with the
    most candidates, to 0, then from S again, until so many candidates have begun as asked for. The very first has
    uniform weights.

    A new candidate is drawn from the space with probability 1/3, and while no rung has d + 2 results that did not
    diverge, d the dimensions of the space. Else, with the results of the highest such rung, l is a density of Gaussian
    kernels at the best 15 % of them (d + 1 at least), g one at the others (d + 1 at least, of the worst),
    with Scott's width n^(-1/(d + 4)) std in each coordinate; of 64 points drawn from the kernels of l, three times as
    wide, the one with the highest l / g is taken. In step: a bracket begins when the one before is done, and the same
    seed gives the same search.

    Source: S. Falkner, A. Klein and F. Hutter, BOHB: Robust and Efficient Hyperparameter Optimization at Scale, ICML
    2018, https://arxiv.org/abs/1807.01774, Algorithms 1 and 2 and their defaults.

    Args:
        space: of the points.
        population: candidates that begin.
        rungs: when they are compared.
        seed: of all draws.

    Raises:
        SearchError: on a number out of its range.
    """

    space: Space
    population: int
    rungs: Rungs
    seed: int

    def __post_init__(self) -> None:
        check_candidates(self.population)

    @property
    def members(self) -> int:
        """Assignments of the whole search, if none diverges."""
        return sum(size for bracket in self._brackets() for size in bracket)

    def propose(self, history: Sequence[Sequence[Result]]) -> list[Assignment]:
        """The next rung of a bracket, or the first of the next one; see `Algorithm`."""
        ends = self.rungs.ends
        rest = list(history)
        for sizes in self._brackets():
            last: Sequence[Result] | None = None
            for rung, size in enumerate(sizes):
                if last is not None and all(one.score is None for one in last):
                    break  # nobody is left to go on, and the next bracket begins
                if not rest:
                    end = ends[rung - len(sizes)]
                    return self._begun(history, size, end) if last is None else _gone_on(last, size, end)
                last = rest.pop(0)
        return []

    def _brackets(self) -> list[list[int]]:
        """How many candidates each rung of each bracket has."""
        rungs, reduction = len(self.rungs.ends), self.rungs.reduction
        found: list[list[int]] = []
        left, s = self.population, rungs - 1
        while left > 0:
            size = min(math.ceil(rungs * reduction**s / (s + 1)), left)
            found.append([max(size // reduction**rung, 1) for rung in range(s + 1)])
            left, s = left - size, s - 1 if s else rungs - 1
        return found

    def _begun(self, history: Sequence[Sequence[Result]], size: int, end: int) -> list[Assignment]:
        generation = len(history)
        points = [self._candidate(history, stream(self.seed, generation, k)) for k in range(size)]
        if not history:
            points[0] = self.space.uniform()
        return beginners(points, end, generation)

    def _candidate(self, history: Sequence[Sequence[Result]], draws: torch.Generator) -> Point:
        results = self._known(history)
        by_chance = float(torch.rand((), dtype=torch.float64, generator=draws)) < _RANDOM
        if by_chance or not results:
            return self.space.drawn(draws)
        least = self.space.dimensions + 1
        rows = self.space.coordinates([point_of(one.assignment) for one in ranked(results)])
        good = rows[: max(least, int(_GOOD * len(rows)))]
        other = rows[-max(least, len(rows) - len(good)) :]
        return self.space.point(_best_ratio(good, other, draws).tolist())

    def _known(self, history: Sequence[Sequence[Result]]) -> list[Result]:
        """The results of the highest rung that has enough of them."""
        found: dict[int, list[Result]] = {}
        for one in (one for row in history for one in row if one.score is not None):
            found.setdefault(one.assignment.end, []).append(one)
        enough = [end for end, row in found.items() if len(row) >= self.space.dimensions + 2]
        return found[max(enough)] if enough else []


def _gone_on(last: Sequence[Result], size: int, end: int) -> list[Assignment]:
    good = [one for one in ranked(last) if one.score is not None][:size]
    return [promoted(one, end) for one in sorted(good, key=lambda one: one.assignment.member)]


def _best_ratio(good: Tensor, other: Tensor, draws: torch.Generator) -> Tensor:
    """Of points drawn around the good rows, the one where good rows are densest against the others: (d,)."""
    width = _width(good)
    centres = good[torch.randint(len(good), (_CANDIDATES,), generator=draws)]
    noise = torch.randn(centres.shape, dtype=centres.dtype, generator=draws)
    points = (centres + _WIDER * width * noise).clamp(0, 1)
    return points[
        int((_log_density(good, width, points) - _log_density(other, _width(other), points)).argmax())
    ]


def _width(rows: Tensor) -> Tensor:
    """Scott's width of a Gaussian kernel in each coordinate: (d,)."""
    count, dimensions = rows.shape
    width: Tensor = count ** (-1 / (dimensions + 4)) * rows.std(0)
    return width.clamp(min=_LEAST_WIDTH)


def _log_density(rows: Tensor, width: Tensor, points: Tensor) -> Tensor:
    """The logarithm of the mean of Gaussian kernels of a width (d,) at rows (n, d), for points (b, d): (b,)."""
    far = torch.cdist(points / width, rows / width).square() / 2
    return torch.logsumexp(-far, dim=1) - math.log(len(rows)) - width.log().sum()
