"""What a question to many runs is made of: variants of a method, comparisons between them, and arms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Look = Literal["groups", "sweep", "convergence", "cost", "memory", "choice"]
"""What a page shows besides answers and scores."""


@dataclass(frozen=True)
class Variant:
    """One row of a study.

    Args:
        name: as tables and comparisons call it, unique within a study.
        label: of the method, as the benchmark runs it.
        x: its place on the axis of a sweep, or None.
    """

    name: str
    label: str
    x: float | None = None


@dataclass(frozen=True)
class Contrast:
    """A question that two sets of variants answer: is the mean score of the first ones lower?

    Args:
        question: to be answered by yes or no.
        these: names of variants, whose scores are averaged for each seed.
        those: names of the variants that they are compared with.
    """

    question: str
    these: tuple[str, ...]
    those: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All variants that it needs."""
        return (*self.these, *self.those)


@dataclass(frozen=True)
class Arm:
    """One run directory of a study, with all variants.

    Args:
        name: of the directory.
        settings: options of the problem that differ from the study's.
        x: its place on the axis of the arms, or None.
    """

    name: str = "runs"
    settings: Mapping[str, Any] = field(default_factory=dict)
    x: float | None = None


@dataclass(frozen=True)
class Found:
    """What a run before the study found.

    Args:
        score: of the validation part; lower is better.
        groups: the most frequent groups of the second half of its training, from 0, or None.
    """

    score: float
    groups: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Facts:
    """What variants may depend on.

    Args:
        tasks: m, the number of tasks.
        groups: k, the number of groups that the problem's defaults, or its known groups, give.
        known: the true group of each task, from 0, or None.
        first: label -> what the runs before the study found; empty without any.
    """

    tasks: int
    groups: int
    known: tuple[int, ...] | None = None
    first: Mapping[str, Found] = field(default_factory=dict)


def one_arm(facts: Facts) -> Sequence[Arm]:
    """All variants in one run directory."""
    del facts
    return (Arm(),)


@dataclass(frozen=True)
class Question:
    """A question about grouping and weighting that many runs answer.

    Args:
        name: of the command.
        numbers: of the questions of docs/questions.md that it answers.
        text: the question, a line.
        about: what is compared, and how to read it; a paragraph.
        variants: of an arm, from the facts.
        contrasts: the comparisons; those whose variants are not there are left out.
        first: labels that are run before, on one seed, for the variants to build on; None for none.
        first_seed: how that seed is chosen: "another" than those of the study, or the "same" as its first.
        arms: the run directories, from the facts.
        option: an option that the problem has to have, or None.
        problem: the problem where none is named, or None.
        least_tasks: the fewest tasks with which it can be asked.
        looks: what the page shows besides.
    """

    name: str
    numbers: tuple[int, ...]
    text: str
    about: str
    variants: Callable[[Facts], Sequence[Variant]]
    contrasts: Callable[[Facts], Sequence[Contrast]]
    first: Callable[[Facts], Sequence[str]] | None = None
    first_seed: Literal["another", "same"] = "another"
    arms: Callable[[Facts], Sequence[Arm]] = one_arm
    option: str | None = None
    problem: str | None = None
    least_tasks: int = 2
    looks: frozenset[Look] = frozenset()

    def asked(self, facts: Facts) -> list[Contrast]:
        """The comparisons whose variants are all there."""
        names = {variant.name for variant in self.variants(facts)}
        return [contrast for contrast in self.contrasts(facts) if names.issuperset(contrast.names)]
