"""A whole search: members, then networks that are trained anew."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from equipoise.cluster.connection import Place
from equipoise.cluster.storage import Storage
from equipoise.training.outcome import Hooks, Progress
from equipoise.training.problem import Problem, description

from .driver import Compare, Forget, run_search
from .genealogy import read_results
from .generations import Assignment, Result
from .member import checkpoint_of, keeping
from .plan import SearchPlan
from .ranking import pareto
from .retrain import Anew, Retrained, Schedule, append_retrained, read_retrained, stretched, variants
from .work import Task, Work, work
from .workers import Job, workers

_RESTART_SEEDS = 1000  # from the first seed of the search to that of the first restart


class Show(Protocol):
    """Where a search tells how it goes."""

    def stage(self, name: str, total: int, done: int) -> None:
        """A stage begins, with so many tasks in all, of which some were done before."""

    def progress(self, label: str, now: Progress) -> None:
        """A task in this process is so far."""

    def finished(self, label: str, text: str) -> None:
        """A task has ended so."""

    def say(self, text: str) -> None:
        """Something that the user should know."""


@dataclass(frozen=True)
class Found:
    """What came of a search.

    Args:
        history: every result of a member, by generation.
        variants: what was trained anew: (first epoch, point), by name.
        retrained: every network that was trained anew.
    """

    history: Sequence[Sequence[Result]]
    variants: Mapping[str, Schedule]
    retrained: Sequence[Retrained]


def search(
    plan: SearchPlan,
    problem: type[Problem],
    directory: Path,
    show: Show,
    place: Place | None = None,
    storage: Storage | None = None,
) -> Found:
    """Run a search to its end and train anew, from wherever it was stopped.

    Args:
        plan: of the search, kept in the directory already.
        problem: the class.
        directory: of the search.
        show: told how it goes.
        place: workers on Ray, or None for this process alone.
        storage: of the checkpoints of members that are trained on Ray, or None for the directory.

    Raises: see `run_search` and `workers`.
    """
    with _working(Job(problem, plan.setting(), directory, storage), show, place) as do:
        history = _searched(plan, problem, directory, show, do, storage)
        chosen = chosen_variants(plan, history)
        todo = to_train(plan, chosen, epochs_of(history))
        known = [
            one for one in read_retrained(directory) if (one.variant, one.seed) in {t.place for t in todo}
        ]
        done = {(one.variant, one.seed) for one in known}
        show.stage("trained anew", len(todo), len(known))
        for found in do([one for one in todo if one.place not in done]):
            append_retrained(directory, found)
            known.append(found)
            show.finished(_label(found), _told_anew(found))
    order = [one.place for one in todo]
    return Found(history, chosen, sorted(known, key=lambda one: order.index((one.variant, one.seed))))


def epochs_of(history: Sequence[Sequence[Result]]) -> int:
    """Epochs that all members together were trained for, on their part of the data."""
    return sum(one.assignment.end - one.assignment.begin for row in history for one in row)


def chosen_variants(plan: SearchPlan, history: Sequence[Sequence[Result]]) -> dict[str, Schedule]:
    """What is trained anew, by name."""
    uniform = plan.space().uniform()
    return {**(plan.given() or variants(history, uniform))}


def to_train(plan: SearchPlan, chosen: Mapping[str, Schedule], epochs: int) -> list[Anew]:
    """Every variant with every seed, then restarts of the uniform one.

    There are as many restarts as the search took trainings: its epochs, on its part of the data, in trainings.
    """
    first = plan.config.seed
    found = [
        Anew(name, seed, schedule)
        for seed in range(first, first + plan.seeds)
        for name, schedule in chosen.items()
    ]
    if plan.restarts and len(chosen) > 1:
        more = math.ceil(epochs * plan.fraction / plan.config.train.epochs)
        found += [Anew("restart", first + _RESTART_SEEDS + k, chosen["uniform"]) for k in range(more)]
    return found


def transferred(history: Sequence[Sequence[Result]], old: SearchPlan, epochs: int) -> dict[str, Any]:
    """The weights of a search for a run of another length, as `SearchPlan.transferred` has them; no other settings."""
    found = variants(history, old.space().uniform())
    rows = {name: stretched(schedule, old.config.train.epochs, epochs) for name, schedule in found.items()}
    return {
        name: [(begin, list(point.weights)) for begin, point in schedule] for name, schedule in rows.items()
    }


def comparing(plan: SearchPlan, problem: type[Problem]) -> Compare:
    """Gives results of one generation the scores that members are compared by."""
    tasks = description(problem, plan.config.options).tasks
    metrics = [metric for task in tasks for metric in task.metrics]
    return (lambda row: pareto(row, metrics)) if plan.rank == "pareto" else list


def _searched(
    plan: SearchPlan,
    problem: type[Problem],
    directory: Path,
    show: Show,
    do: Work,
    storage: Storage | None,
) -> list[list[Result]]:
    algorithm = plan.decides()
    show.stage("members", algorithm.members, len(read_results(directory)))
    forget: Forget | None = None
    if storage is not None:
        forget = lambda one: storage.remove(checkpoint_of(directory, *one.place).stem)  # noqa: E731
    hear = lambda result: show.finished(result.assignment.label, _told(plan, result))  # noqa: E731
    return run_search(algorithm, do, directory, hear, comparing(plan, problem), forget)


def _working(job: Job, show: Show, place: Place | None) -> AbstractContextManager[Work]:
    return _here(job, show) if place is None else workers(job, place, show.say)


@contextmanager
def _here(job: Job, show: Show) -> Iterator[Work]:
    make = keeping(job.problem)

    def do(waiting: list[Task]) -> Iterator[Result | Retrained]:
        while waiting:
            task = waiting.pop(0)
            hooks = Hooks(lambda now, task=task: show.progress(task.label, now), say=show.say)  # type: ignore[misc]
            yield work(make, job.setting, task, job.directory, hooks)

    yield do


def _told(plan: SearchPlan, result: Result) -> str:
    one: Assignment = result.assignment
    told = "diverged" if result.score is None else f"score {result.score:.2f}"
    origin = "" if one.parent in (None, one.member) else f", from member {one.parent}"
    point = [*zip(plan.names, one.weights, strict=True), *one.settings.items()]
    words = ", ".join(f"{name} {value:.3g}" for name, value in point)
    return f"generation {one.generation}, member {one.member}{origin}, epoch {one.end}: {told} ({words})"


def _label(found: Retrained) -> str:
    return Anew(found.variant, found.seed, ()).label


def _told_anew(found: Retrained) -> str:
    score = "diverged" if found.score is None else f"test score {found.score:.2f}"
    return f"Trained anew with {_label(found)}: {score}."
