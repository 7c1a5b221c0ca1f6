"""What is searched: weights on the simplex and, if asked, other settings between two bounds each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from .weights import Exploration, Weights, drawn, floored, moved, uniform


class Point(NamedTuple):
    """Weights, and the other settings by name."""

    weights: Weights
    settings: Mapping[str, float]


@dataclass(frozen=True)
class Range:
    """A setting between two bounds, searched on a logarithmic scale.

    Args:
        name: "lr", or a hyper-parameter of the method.
        low: above 0.
        high: above `low`.
        default: where the uniform member begins; brought between the bounds.

    Raises:
        ValueError: on bounds that are none.
    """

    name: str
    low: float
    high: float
    default: float

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf:
            raise ValueError(
                f"The bounds of `{self.name}` should be two finite numbers above 0, the lower one first. "
                f"Found {self.low:g} and {self.high:g}."
            )

    def held(self, value: float) -> float:
        """The value brought between the bounds."""
        return min(max(value, self.low), self.high)

    def at(self, part: float) -> float:
        """The value at a part of the way from the lower bound (0) to the upper one (1)."""
        return self.held(self.low * (self.high / self.low) ** part)

    def part(self, value: float) -> float:
        """The inverse of `at`."""
        return math.log(value / self.low) / math.log(self.high / self.low)


@dataclass(frozen=True)
class Space:
    """All points that a search may try.

    Args:
        count: of the weights m, at least 2.
        exploration: how weights move, and the least weight. Other settings move likewise: each times a factor of its
            own, or drawn afresh with the same probability.
        ranges: of the other settings.

    Raises:
        ValueError: on fewer than 2 weights, or two ranges of one name.
    """

    count: int
    exploration: Exploration = field(default_factory=Exploration)
    ranges: tuple[Range, ...] = ()

    def __post_init__(self) -> None:
        if self.count < 2:
            raise ValueError(f"A search should have at least 2 weights to find. Found {self.count}.")
        names = [one.name for one in self.ranges]
        if len(set(names)) < len(names):
            raise ValueError(f"Each setting should have one range. Found {', '.join(names)}.")

    @property
    def dimensions(self) -> int:
        """How many numbers a point is made of: m - 1 weights and each other setting."""
        return self.count - 1 + len(self.ranges)

    def uniform(self) -> Point:
        """Uniform weights, and the defaults of the other settings."""
        return Point(uniform(self.count), {one.name: one.held(one.default) for one in self.ranges})

    def drawn(self, generator: torch.Generator) -> Point:
        """Weights that are uniform on the simplex, with the floor; each other setting log-uniform."""
        weights = drawn(self.count, self.exploration.floor, generator)
        return Point(weights, {one.name: one.at(_chance(generator)) for one in self.ranges})

    def moved(self, point: Point, generator: torch.Generator) -> Point:
        """A point near another one; see `Exploration`."""
        weights = moved(point.weights, self.exploration, generator)
        return Point(
            weights,
            {one.name: self._stepped(one, point.settings[one.name], generator) for one in self.ranges},
        )

    def _stepped(self, one: Range, value: float, generator: torch.Generator) -> float:
        how = self.exploration
        if _chance(generator) < how.resample:
            return one.at(_chance(generator))
        if how.kind == "lognormal":
            step = math.exp(how.sigma * float(torch.randn((), dtype=torch.float64, generator=generator)))
        else:
            step = how.factors[int(torch.randint(2, (), generator=generator))]
        return one.held(value * step)

    def coordinates(self, points: Sequence[Point]) -> Tensor:
        """Points as rows (n, m + settings) in float64, for models of the score: all numbers go from 0 to 1.

        Weight i is (p_i - l) / (1 - m l) with the least weight l; another setting its part of the logarithmic range.
        """
        least = self.exploration.floor / self.count
        rows = [
            [(weight - least) / (1 - self.exploration.floor) for weight in point.weights]
            + [one.part(point.settings[one.name]) for one in self.ranges]
            for point in points
        ]
        return torch.tensor(rows, dtype=torch.float64).reshape(len(points), self.count + len(self.ranges))

    def point(self, row: Sequence[float]) -> Point:
        """The point nearest to a row of coordinates: weights below the floor are raised, and the sum is made 1."""
        least = self.exploration.floor / self.count
        weights = [max(value, 0.0) * (1 - self.exploration.floor) + least for value in row[: self.count]]
        rest = zip(self.ranges, row[self.count :], strict=True)
        settings = {one.name: one.at(min(max(part, 0.0), 1.0)) for one, part in rest}
        return Point(
            floored([weight / math.fsum(weights) for weight in weights], self.exploration.floor), settings
        )


def _chance(generator: torch.Generator) -> float:
    return float(torch.rand((), dtype=torch.float64, generator=generator))
