"""`search.json`: the plan of a search, kept in its directory and compared when the search goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from equipoise.problems.registry import problem_class
from equipoise.training.planned import Planned

from .driver import still_to_do
from .genealogy import generations, read_results
from .generations import Result, SearchError
from .plan import SearchPlan
from .retrain import read_retrained
from .run import Found, chosen_variants, comparing, epochs_of, to_train

FILE = "search.json"
_KEPT = Planned(FILE, "search", SearchError)


def keep_plan(plan: SearchPlan, directory: Path, facts: Mapping[str, Any], *, resume: bool) -> None:
    """Write the plan into a new directory, or compare it with the one that is there.

    Args:
        plan: of the search.
        directory: of the search; made if it is not there.
        facts: command, versions and commit, kept beside the plan and not compared.
        resume: whether to go on in a directory that was begun.

    Raises:
        SearchError: if the directory holds another search or anything else, or was begun and `resume` is not set.
        StorageError: if it cannot be written.
    """
    if _KEPT.keep(directory, plan, facts) and not resume:
        raise SearchError(
            f"{directory} was begun with this search: add --resume to go on, or choose another one with --out."
        )


def read_plan(directory: Path) -> SearchPlan:
    """The plan of a directory.

    Raises:
        SearchError: if there is none, or it cannot be read.
    """
    return _KEPT.read(directory, SearchPlan)


def finished_history(plan: SearchPlan, directory: Path) -> list[list[Result]]:
    """The results of a search that has come to the end of its members.

    Raises:
        SearchError: if it has not.
    """
    results = read_results(directory)
    left = still_to_do(plan.decides(), results, comparing(plan, problem_class(plan.config.problem)))
    if left:
        raise SearchError(
            f"The search in {directory} should be done. Found that {left[0].label} is not: go on with --resume."
        )
    return generations(results)


def recorded(plan: SearchPlan, directory: Path) -> Found:
    """What came of a search, from its directory.

    Raises:
        SearchError: if it is not done.
    """
    history = [] if plan.transferred else finished_history(plan, directory)
    chosen = chosen_variants(plan, history)
    places = [one.place for one in to_train(plan, chosen, epochs_of(history))]
    found = {(one.variant, one.seed): one for one in read_retrained(directory)}
    missing = [place for place in places if place not in found]
    if missing:
        raise SearchError(
            f"The search in {directory} should have trained {len(places)} networks anew. Found "
            f"{len(places) - len(missing)}: go on with --resume."
        )
    return Found(history, chosen, [found[place] for place in places])
