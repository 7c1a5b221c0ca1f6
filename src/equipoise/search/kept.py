"""`search.json`: the plan of a search, kept in its directory and compared when the search goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from equipoise.problems.registry import problem_class
from equipoise.training.storage import LOCK, storing, write_atomically

from .driver import still_to_do
from .genealogy import generations, read_results
from .generations import Result, SearchError
from .plan import SearchPlan
from .retrain import read_retrained
from .run import Found, chosen_variants, comparing, epochs_of, to_train

FILE = "search.json"


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
    path = directory / FILE
    if not path.exists():
        found = directory.iterdir() if directory.exists() else ()
        others = sorted(one.name for one in found if one.name != LOCK and one.suffix != ".tmp")
        if others:
            raise SearchError(
                f"{directory} should be new, empty, or hold a search. Found {', '.join(others[:5])} and no {FILE}: "
                "choose another one with --out."
            )
        with storing(path):
            directory.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps({"plan": plan.model_dump(), **facts}, indent=1))
        return
    _compare(read_plan(directory), plan, directory)
    if not resume:
        raise SearchError(
            f"{directory} was begun with this search: add --resume to go on, or choose another one with --out."
        )


def read_plan(directory: Path) -> SearchPlan:
    """The plan of a directory.

    Raises:
        SearchError: if there is none, or it cannot be read.
    """
    path = directory / FILE
    try:
        return SearchPlan.read(json.loads(path.read_text())["plan"])
    except FileNotFoundError:
        raise SearchError(f"`{path}` should exist: {directory} holds no search.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise SearchError(f"`{path}` should hold the plan of a search. {error}") from error


def _compare(old: SearchPlan, new: SearchPlan, directory: Path) -> None:
    before, after = (json.loads(plan.model_dump_json()) for plan in (old, new))
    changed = [f"{name}: {before[name]} -> {after[name]}" for name in before if before[name] != after[name]]
    if changed:
        lines = "".join(f"\n  {line}" for line in changed)
        raise SearchError(
            f"{directory} holds another search. From it to this one changes:{lines}\n"
            "Choose another directory with --out, or the same settings."
        )


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
