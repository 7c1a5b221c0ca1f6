"""What a task is called and how it is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One number that says how well a task is done.

    Args:
        name: unique over all tasks of a problem.
        higher_is_better: the direction of improvement.
        unit: as printed in tables, for example "meV" or "%".
    """

    name: str
    higher_is_better: bool
    unit: str


@dataclass(frozen=True)
class Task:
    """One objective of a problem, with the metrics that measure it.

    Args:
        name: unique within a problem.
        metrics: at least one.
    """

    name: str
    metrics: tuple[Metric, ...]
