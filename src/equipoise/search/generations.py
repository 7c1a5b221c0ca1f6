"""The words of a search: what a member is asked to do, what came of it, and who decides what comes next.

A search goes in generations. In each, every member trains for some epochs with weights of its own, alone or from where
a member of the generation before stands; then all are compared. What comes next is a function of what has come out and
of the seed, so a search that was killed goes on as if it had not been, and two searches of one seed are the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch

from equipoise.training.setup import stream_seed

from .space import Point
from .weights import Weights


class SearchError(ValueError):
    """A search that cannot be made, or cannot go on; the message says why and what to do."""


@dataclass(frozen=True)
class Assignment:
    """What one member does in one generation.

    Args:
        generation: from 0.
        member: its number within the generation.
        weights: of the tasks, or sampling probabilities of the domains.
        begin: epochs that its network has been trained for.
        end: epochs that it has been trained for afterwards.
        parent: the member of the generation before whose network, optimizer and method go on; None for a new network.
        settings: other settings that are searched, by name, such as lr.
    """

    generation: int
    member: int
    weights: Weights
    begin: int
    end: int
    parent: int | None = None
    settings: Mapping[str, float] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What it is called in messages."""
        return f"member {self.member} in generation {self.generation}"

    @property
    def place(self) -> tuple[int, int]:
        """Generation and member: no two assignments of a search have the same."""
        return self.generation, self.member


@dataclass(frozen=True)
class Result:
    """What came of an assignment.

    Args:
        assignment: which.
        score: what members are compared by, lower is better; None if the network diverged.
        metrics: of the validation part, by name.
        seconds: that it took.
    """

    assignment: Assignment
    score: float | None
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.score is not None and not math.isfinite(self.score):
            raise ValueError(
                f"`score` should be finite, or None for a network that diverged. Found {self.score}."
            )

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Result:
        """Read what `to_dict` wrote, after JSON too.

        Raises:
            KeyError, TypeError, ValueError: on anything else.
        """
        given = dict(raw["assignment"])
        assignment = Assignment(**{**given, "weights": tuple(given["weights"])})
        return cls(assignment, raw["score"], dict(raw["metrics"]), raw["seconds"])


class Algorithm(Protocol):
    """Decides what the members of the next generation do, once the one before is whole."""

    @property
    def members(self) -> int:
        """About how many assignments the search has."""

    def propose(self, history: Sequence[Sequence[Result]]) -> list[Assignment]:
        """The next generation, a function of the finished ones alone; empty when the search is over."""


@runtime_checkable
class Asynchronous(Protocol):
    """Decides what follows from each result, without waiting for others."""

    @property
    def members(self) -> int:
        """About how many assignments the search has."""

    def ready(self, results: Sequence[Result]) -> list[Assignment]:
        """All assignments that the results, in the order in which they came, allow, those of the results included."""


def point_of(assignment: Assignment) -> Point:
    """Where in the space an assignment is."""
    return Point(assignment.weights, assignment.settings)


def stream(seed: int, generation: int, member: int) -> torch.Generator:
    """The random numbers of one member in one generation, independent of those of all others."""
    name = f"search: generation {generation}, member {member}"
    return torch.Generator().manual_seed(stream_seed(seed, name))


def ranked(results: Sequence[Result]) -> list[Result]:
    """From the best to the worst; those that diverged come last, ties in the order of their numbers."""

    def key(result: Result) -> tuple[float, int]:
        return (math.inf if result.score is None else result.score, result.assignment.member)

    return sorted(results, key=key)


def best_of(history: Sequence[Sequence[Result]]) -> Result:
    """The best of the members that were trained for longest.

    Raises:
        SearchError: if there is none that has not diverged.
    """
    found = [one for row in history for one in row if one.score is not None]
    longest = max((one.assignment.end for one in found), default=0)
    last = [one for one in found if one.assignment.end == longest]
    if not last or (first := ranked(last)[0]).score is None:
        raise SearchError(
            "The search should have a member that did not diverge. Found none: lower the learning rate."
        )
    return first


def schedule_of(history: Sequence[Sequence[Result]], result: Result) -> list[tuple[int, Point]]:
    """The points that led to a result: (first epoch, point) for each generation of its ancestry, from epoch 0 on."""
    found = [result]
    while (parent := found[-1].assignment.parent) is not None:
        before = history[found[-1].assignment.generation - 1]
        found.append(next(other for other in before if other.assignment.member == parent))
    return [(one.assignment.begin, point_of(one.assignment)) for one in reversed(found)]
