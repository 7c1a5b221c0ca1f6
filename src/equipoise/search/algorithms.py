"""Every algorithm of a search by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from .asha import AsynchronousHalving
from .bohb import ModelBased
from .fixed import Candidates, Halving, grid, sample
from .generations import Algorithm, Assignment, Asynchronous, Result
from .gradients import ReadOff
from .pb2 import Bandit
from .pbt import PopulationBased
from .rungs import Rungs
from .space import Space

Name = Literal["pbt", "pb2", "asha", "halving", "random", "grid", "bohb", "gradients", "transfer"]
ALGORITHMS: tuple[str, ...] = get_args(Name)


_MOVES = {"population", "interval", "quantile", "kind", "resample", "floor"}
READS: dict[str, set[str]] = {
    "pbt": _MOVES,
    "pb2": _MOVES,
    "asha": {"population", "interval", "floor"},
    "halving": {"population", "interval", "floor"},
    "random": {"population", "floor"},
    "grid": {"population"},
    "bohb": {"population", "interval", "floor"},
    "gradients": {"interval", "floor"},
    "transfer": set(),
}
"""The settings of a search that each algorithm reads."""
SearchAlgorithm = Algorithm | Asynchronous


@dataclass(frozen=True)
class Nothing:
    """Searches nothing: the weights come from elsewhere."""

    members: int = 0

    def propose(self, history: Sequence[Sequence[Result]]) -> list[Assignment]:
        """No assignment; see `Algorithm`."""
        return []


def algorithm_of(
    name: Name, space: Space, *, names: Sequence[str], epochs: int, seed: int, **numbers: Any
) -> SearchAlgorithm:
    """The algorithm of this name.

    Args:
        name: of the algorithm.
        space: of the points.
        names: of the tasks.
        epochs: of the training.
        seed: of all draws.
        **numbers: `population`, `interval` and `quantile`; see `SearchPlan`.

    Raises:
        SearchError: on a number out of its range.
    """
    population, interval, quantile = numbers["population"], numbers["interval"], numbers["quantile"]
    if name in ("pbt", "pb2"):
        explore = Bandit(space) if name == "pb2" else None
        return PopulationBased(space, population, epochs, interval, seed, quantile, explore)
    if name == "bohb":
        return ModelBased(space, population, Rungs(epochs, interval), seed)
    if name == "gradients":
        return ReadOff(space, names, epochs, interval)
    if name == "transfer":
        return Nothing()
    if name == "grid":
        points = grid(space.count, population)
        others = [point for point in points if point.weights != space.uniform().weights]
        return Candidates([space.uniform(), *others], epochs)
    candidates = sample(space, population, seed)
    if name == "random":
        return Candidates(candidates, epochs)
    if name == "asha":
        return AsynchronousHalving(candidates, Rungs(epochs, interval))
    return Halving(candidates, Rungs(epochs, interval))
