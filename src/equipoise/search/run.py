"""A whole search: members, then networks that are trained anew, then what it was worth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from equipoise.training.metrics import delta_m
from equipoise.training.outcome import Hooks
from equipoise.training.problem import Description, Problem, description

from .cluster import Job, Place, workers
from .driver import Train, run_search
from .generations import Assignment, Result, best_of, schedule_of
from .member import keeping, train_member
from .plan import SearchPlan
from .retrain import Comparison, Retrained, append_retrained, compared, read_retrained, retrain, variants
from .weights import Weights, uniform

Say = Callable[[str], None]


@dataclass(frozen=True)
class Found:
    """What came of a search.

    Args:
        weights: of the best member at its end.
        schedule: (first epoch, weights) that led there.
        retrained: every network that was trained anew.
        gains: of each variant but the uniform one, its test score less that of uniform weights; below 0 is better.
        epochs: that all members together were trained for, on their part of the data.
    """

    weights: Weights
    schedule: Sequence[tuple[int, Weights]]
    retrained: Sequence[Retrained]
    gains: Mapping[str, Comparison]
    epochs: int


def search(
    plan: SearchPlan, problem: type[Problem], directory: Path, place: Place | None = None, say: Say = print
) -> Found:
    """Run a search to its end and train anew, from wherever it was stopped.

    Args:
        plan: of the search, kept in the directory already.
        problem: the class.
        directory: of the search.
        place: workers on Ray, or None for this process alone.
        say: told how it goes.

    Raises: see `run_search` and `workers`.
    """
    algorithm = plan.decides()
    with _trained_at(plan, problem, directory, place, say) as train:
        history = run_search(algorithm, train, directory, lambda result: say(_line(plan, result)))
    best = best_of(history)
    retrained = _retrained(plan, problem, directory, history, say)
    scores = {
        name: [one.score for one in retrained if one.variant == name]
        for name in dict.fromkeys(o.variant for o in retrained)
    }
    gains = {name: compared(own, scores["uniform"]) for name, own in scores.items() if name != "uniform"}
    epochs = sum(one.assignment.end - one.assignment.begin for row in history for one in row)
    return Found(best.assignment.weights, schedule_of(history, best), retrained, gains, epochs)


def _trained_at(
    plan: SearchPlan, problem: type[Problem], directory: Path, place: Place | None, say: Say
) -> AbstractContextManager[Train]:
    if place is not None:
        return workers(Job(problem, plan.setting(), directory), place, say)
    return _here(plan, problem, directory, say)


@contextmanager
def _here(plan: SearchPlan, problem: type[Problem], directory: Path, say: Say) -> Iterator[Train]:
    make = keeping(problem)

    def train(assignments: Sequence[Assignment]) -> Iterator[Result]:
        for one in assignments:
            yield train_member(make, plan.setting(), one, directory, Hooks(say=say))

    yield train


def _retrained(
    plan: SearchPlan, problem: type[Problem], directory: Path, history: Sequence[Sequence[Result]], say: Say
) -> list[Retrained]:
    """Every variant with every seed; a schedule or constant weights that are uniform ones are not trained twice."""
    make = keeping(problem)
    chosen = variants(history)
    different = {
        name: kept for name, kept in chosen.items() if name == "uniform" or kept != chosen["uniform"]
    }
    if different.get("schedule") == different.get("constant"):
        different.pop("schedule", None)
    described = description(problem, plan.config.options)
    found = read_retrained(directory)
    done = {(one.variant, one.seed) for one in found}
    for seed in range(plan.config.seed, plan.config.seed + plan.seeds):
        for name, schedule in different.items():
            if (name, seed) in done:
                continue
            where = directory / "retrained" / f"{name}-seed{seed}"
            outcome = retrain(make, plan.setting(seed), schedule, where, Hooks(say=say))
            score = _score(described, outcome.metrics["test"])
            one = Retrained(name, seed, score, outcome.metrics["test"], outcome.seconds)
            append_retrained(directory, one)
            found.append(one)
            say(f"Trained anew with {name} weights, seed {seed}: test score {one.score:.2f}.")
    return sorted(found, key=lambda one: (list(chosen).index(one.variant), one.seed))


def _score(problem: Description, metrics: Mapping[str, float]) -> float:
    """delta_m of test metrics against the problem's reference values, in percent; lower is better."""
    known = [metric for task in problem.tasks for metric in task.metrics]
    return delta_m(
        [metrics[metric.name] for metric in known],
        [problem.reference[metric.name] for metric in known],
        [metric.higher_is_better for metric in known],
    )


def _line(plan: SearchPlan, result: Result) -> str:
    one = result.assignment
    weights = ", ".join(f"{name} {weight:.3f}" for name, weight in zip(plan.names, one.weights, strict=True))
    told = "diverged" if result.score is None else f"score {result.score:.2f}"
    origin = "" if one.parent in (None, one.member) else f", from member {one.parent}"
    return f"generation {one.generation}, member {one.member}{origin}, epoch {one.end}: {told} ({weights})"


def sentences(plan: SearchPlan, found: Found) -> list[str]:
    """The verdict in words."""
    weights = ", ".join(
        f"{name} {weight:.3f}" for name, weight in zip(plan.names, found.weights, strict=True)
    )
    told = [
        f"Best member: {weights}.",
        f"The search trained for {found.epochs} epochs on {100 * plan.fraction:g} % of the training part; a run has "
        f"{plan.config.train.epochs}.",
    ]
    if found.weights == uniform(len(plan.names)):
        told.append("The uniform member won: there are no constant weights to compare.")
    for name, gain in found.gains.items():
        if gain.half == float("inf"):
            told.append(
                f"{name} weights against uniform ones: {gain.mean:+.2f} with one seed, which tells nothing."
            )
            continue
        words = ("better" if gain.mean < 0 else "worse") if gain.clear else "no clear difference"
        told.append(
            f"{name} weights against uniform ones, {plan.seeds} seeds: {gain.mean:+.2f} ± {gain.half:.2f} points of "
            f"the test score (paired 95 % interval; lower is better): {words}."
        )
    return told
