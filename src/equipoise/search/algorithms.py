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
from .space import Space

Name = Literal["pbt", "pb2", "asha", "halving", "random", "grid", "bohb", "gradients", "transfer"]
ALGORITHMS: tuple[str, ...] = get_args(Name)


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
        return ModelBased(space, population, epochs, interval, seed)
    if name == "gradients":
        return ReadOff(space, names, epochs, interval)
    if name == "transfer":
        return Nothing()
    if name == "grid":
        return Candidates(grid(space.count, population), epochs)
    candidates = sample(space, population, seed)
    if name == "random":
        return Candidates(candidates, epochs)
    if name == "asha":
        return AsynchronousHalving(candidates, epochs, interval)
    return Halving(candidates, epochs, interval)
