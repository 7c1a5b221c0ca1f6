"""All that a search is a function of, checked, and the file that keeps it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from equipoise.core.names import check_known
from equipoise.training.config import RunConfig, Settings
from equipoise.training.storage import LOCK, storing

from .fixed import Candidates, Halving, grid, sample
from .generations import Algorithm, SearchError
from .member import Act, Setting
from .pbt import PopulationBased
from .weights import Exploration

FILE = "search.json"
Name = Literal["pbt", "random", "grid", "halving"]
ALGORITHMS: tuple[str, ...] = get_args(Name)


class SearchPlan(Settings):
    """A search, and what is trained anew after it.

    Args:
        config: of a run with equal weights; its seed is that of all draws of the search too.
        names: of the tasks or domains that the weights are of.
        algorithm: "pbt", "random", "grid" or "halving".
        act: what weights act on: "losses", or the "sampling" of domains.
        population: members (pbt), candidates (random, halving), or parts into which a grid divides 1.
        interval: epochs between two comparisons (pbt), or of the first rung (halving).
        fraction: of the training samples that members are trained on; the rest compares them.
        quantile: part of the population that is replaced at a time (pbt).
        kind: of a move, "multiplicative" or "lognormal".
        resample: probability of a fresh draw in place of a move.
        floor: of each weight, in units of the uniform one.
        seeds: how often each variant is trained anew.
    """

    config: RunConfig
    names: tuple[str, ...]
    algorithm: Name = "pbt"
    act: Act = "losses"
    population: int = 8
    interval: int = 1
    fraction: float = 0.7
    quantile: float = 0.25
    kind: Literal["multiplicative", "lognormal"] = "multiplicative"
    resample: float = 0.25
    floor: float = 0.1
    seeds: int = 3

    def setting(self, seed: int | None = None) -> Setting:
        """What members have in common, with another seed if one is given."""
        config = self.config if seed is None else self.config.model_copy(update={"seed": seed})
        return Setting(config, self.act, self.fraction)

    def decides(self) -> Algorithm:
        """Who decides what members do.

        Raises:
            SearchError: on a number out of its range.
        """
        count, epochs, seed = len(self.names), self.config.train.epochs, self.config.seed
        if self.algorithm == "pbt":
            how = self._exploration()
            return PopulationBased(count, self.population, epochs, self.interval, seed, self.quantile, how)
        if self.algorithm == "grid":
            return Candidates(grid(count, self.population), epochs)
        candidates = sample(count, self.population, self._exploration().floor, seed)
        if self.algorithm == "halving":
            return Halving(candidates, epochs, self.interval)
        return Candidates(candidates, epochs)

    def _exploration(self) -> Exploration:
        try:
            return Exploration(kind=self.kind, resample=self.resample, floor=self.floor)
        except ValueError as error:
            raise SearchError(str(error)) from error


def make_search(config: RunConfig, names: Sequence[str], given: Mapping[str, Any]) -> SearchPlan:
    """A checked plan.

    Args:
        config: of a run with equal weights.
        names: of the tasks or domains.
        given: the other settings by name; those that are None have their defaults.

    Raises:
        SearchError: on anything that is wrong; the message says what to do.
    """
    check_known("`algorithm`", given.get("algorithm", "pbt"), ALGORITHMS, SearchError)
    chosen = {name: value for name, value in given.items() if value is not None}
    try:
        plan = SearchPlan.read({"config": config, "names": tuple(names), **chosen})
    except ValueError as error:
        raise SearchError(str(error)) from error
    if plan.seeds < 1:
        raise SearchError(f"`seeds` should be at least 1. Found {plan.seeds}.")
    if config.train.max_steps is not None:
        raise SearchError("A search goes by epochs: `max_steps` should be left out, and `epochs` be fewer.")
    plan.decides()
    return plan


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
        others = (
            sorted(one.name for one in directory.iterdir() if one.name != LOCK) if directory.exists() else []
        )
        if others:
            raise SearchError(
                f"{directory} should be new, empty, or hold a search. Found {', '.join(others[:5])} and no {FILE}: "
                "choose another one with --out."
            )
        with storing(path):
            directory.mkdir(parents=True, exist_ok=True)
            fresh = path.with_suffix(".tmp")
            fresh.write_text(json.dumps({"plan": plan.model_dump(), **facts}, indent=1))
            os.replace(fresh, path)
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
