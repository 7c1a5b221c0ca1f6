"""What `equipoise search` does, once its options are read."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from equipoise import actions
from equipoise.benchmark import plan as planning
from equipoise.benchmark.plan import Overrides
from equipoise.benchmark.provenance import source_commit, versions
from equipoise.problems.registry import problem_class
from equipoise.search.cluster import Place
from equipoise.search.generations import SearchError
from equipoise.search.plan import SearchPlan, keep_plan, make_search
from equipoise.search.run import Found, search, sentences
from equipoise.terminal import print_rows, say
from equipoise.training.config import RunConfig
from equipoise.training.storage import held


def base(problem: str, preset: str, changed: Overrides, device: str) -> tuple[RunConfig, list[str]]:
    """The configuration of a run with equal weights, and the names of the tasks."""
    plan = actions.make_plan(problem, preset, changed, device, command="", one_lr=True)
    return planning.run_config(plan, planning.pending(plan, [])[0]), [task.name for task in plan.tasks]


def place(workers: int | None, address: str | None, gpus: float) -> Place | None:
    """Where members are trained; None for this process.

    Raises:
        SearchError: if a cluster or GPUs are named, but no number of workers.
    """
    if workers is None:
        if address is not None or gpus:
            raise SearchError(
                "`workers` should be given with `address` or `gpus`: members at a time. Found none."
            )
        return None
    return Place(workers=workers, address=address, gpus=gpus)


def run(
    config: RunConfig,
    names: Sequence[str],
    given: Mapping[str, Any],
    where: Path,
    place: Place | None,
    *,
    command: str,
    resume: bool,
) -> None:
    """Search, train anew, and print what it was worth."""
    if given.get("interval") is None:
        given = {**given, "interval": max(config.train.epochs // 10, 1)}
    cls = problem_class(config.problem)
    if given.get("act") == "sampling" and "weights" not in inspect.signature(cls).parameters:
        raise SearchError(
            f"`act` should be losses for {config.problem}, whose samples come from one domain. Found 'sampling'."
        )
    plan = make_search(config, names, given)
    facts = {"command": command, "versions": versions(), "git": source_commit()}
    with held(where, SearchError):
        keep_plan(plan, where, facts, resume=resume)
        found = search(plan, cls, where, place, say)
    _print(plan, found)
    say(f"Genealogy and logs: {where}")


def _print(plan: SearchPlan, found: Found) -> None:
    metrics = list(found.retrained[0].metrics)
    rows = [
        [one.variant, str(one.seed), *(f"{one.metrics[name]:.4g}" for name in metrics), f"{one.score:.2f}"]
        for one in found.retrained
    ]
    print_rows(["weights", "seed", *metrics, "test score"], rows)
    schedule = [[str(begin), *(f"{weight:.3f}" for weight in weights)] for begin, weights in found.schedule]
    print_rows(["from epoch", *plan.names], schedule)
    for sentence in sentences(plan, found):
        say(sentence)
