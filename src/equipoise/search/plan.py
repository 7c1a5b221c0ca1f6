"""All that a search is a function of, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from equipoise.build import METHODS, build_method, hyper_parameters
from equipoise.core import MethodSpec
from equipoise.core.names import check_known
from equipoise.problems.registry import problem_class
from equipoise.training.config import Field, RunConfig, Settings
from equipoise.training.problem import description

from .algorithms import ALGORITHMS, READS, Name, SearchAlgorithm, algorithm_of
from .generations import SearchError
from .member import Act, Setting
from .ranking import Rank, check_rank
from .space import Point, Range, Space
from .weights import Exploration


class SearchPlan(Settings):
    """A search, and what is trained anew after it.

    Args:
        config: of a run with equal weights; its seed is that of all draws of the search too.
        names: of the tasks or domains that the weights are of.
        algorithm: one of `ALGORITHMS`.
        act: what weights act on: "losses", or the "sampling" of domains.
        rank: what members are compared by: "delta_m", "mean", "worst" or "pareto"; see `ranking`.
        tune: bounds of other settings that are searched too, by name: "lr" of the model, and with act="sampling"
            hyper-parameters of the method that have another name.
        population: members (pbt, pb2), candidates (random, halving, asha, bohb), or parts into which a grid divides 1.
        interval: epochs between two comparisons (pbt, pb2), of the first rung (halving, asha, bohb), or of the short
            run (gradients).
        fraction: of the training samples that members are trained on; the rest compares them.
        quantile: part of the population that is replaced at a time (pbt, pb2).
        kind: of a move, "multiplicative" or "lognormal".
        resample: probability of a fresh draw in place of a move.
        floor: of each weight, in units of the uniform one.
        seeds: how often each variant is trained anew.
        restarts: whether networks with uniform weights and other seeds are trained for as many epochs as the search
            took, so that uniform weights have the same compute.
        transferred: schedules by variant, (first epoch, weights), from another search (transfer).
    """

    config: RunConfig
    names: tuple[str, ...]
    algorithm: Name = "pbt"
    act: Act = "losses"
    rank: Rank = "delta_m"
    tune: dict[str, tuple[float, float]] = Field(default_factory=dict)
    population: int = 8
    interval: int = 1
    fraction: float = 0.7
    quantile: float = 0.25
    kind: Literal["multiplicative", "lognormal"] = "multiplicative"
    resample: float = 0.25
    floor: float = 0.1
    seeds: int = 3
    restarts: bool = True
    transferred: dict[str, list[tuple[int, list[float]]]] = Field(default_factory=dict)

    def setting(self) -> Setting:
        """What members have in common."""
        return Setting(self.config, self.act, self.fraction, self.rank, self.algorithm == "gradients")

    def space(self) -> Space:
        """Where members may be.

        Raises:
            SearchError: on a number out of its range.
        """
        try:
            how = Exploration(kind=self.kind, resample=self.resample, floor=self.floor)
            ranges = (Range(name, *bounds, self._default(name)) for name, bounds in self.tune.items())
            return Space(len(self.names), how, tuple(ranges))
        except ValueError as error:
            raise SearchError(str(error)) from error

    def decides(self) -> SearchAlgorithm:
        """Who decides what members do.

        Raises:
            SearchError: on a number out of its range.
        """
        return algorithm_of(
            self.algorithm,
            self.space(),
            names=self.names,
            epochs=self.config.train.epochs,
            seed=self.config.seed,
            population=self.population,
            interval=self.interval,
            quantile=self.quantile,
        )

    def given(self) -> dict[str, list[tuple[int, Point]]]:
        """The variants that came from another search."""
        return {
            name: [(begin, Point(tuple(weights), {})) for begin, weights in rows]
            for name, rows in self.transferred.items()
        }

    def _default(self, name: str) -> float:
        """The value of a setting in a run of its own."""
        if name == "lr":
            return self.config.lr
        spec = MethodSpec.parse(self.config.method)
        known = hyper_parameters(METHODS[spec.name])
        if self.act == "losses" or name not in known:
            names = [] if self.act == "losses" else [one for one in known if one != "lr"]
            raise SearchError(
                f"`tune` should be of lr{''.join(f', {one}' for one in names)}, with act={self.act}. Found {name}."
            )
        default = spec.kwargs.get(name, known[name].default)
        if isinstance(default, bool) or not isinstance(default, float):
            raise SearchError(
                f"`tune` should be of settings that are no whole numbers and have a default. Found {name}={default!r}: "
                f"set it with --method {spec.name}:{name}=VALUE."
            )
        return default


def make_search(config: RunConfig, names: Sequence[str], given: Mapping[str, Any]) -> SearchPlan:
    """A checked plan.

    Args:
        config: of a run with equal weights.
        names: of the tasks or domains.
        given: the other settings by name; those that are None have their defaults.

    Raises:
        SearchError: on anything that is wrong; the message says what to do.
    """
    algorithm = given.get("algorithm") or "pbt"
    check_known("`algorithm`", algorithm, ALGORITHMS, SearchError)
    chosen = {name: value for name, value in given.items() if value is not None}
    _check_read(algorithm, chosen)
    try:
        plan = SearchPlan.read({"config": config, "names": tuple(names), **chosen})
    except ValueError as error:
        raise SearchError(str(error)) from error
    if plan.seeds < 1:
        raise SearchError(f"`seeds` should be at least 1. Found {plan.seeds}.")
    if config.train.max_steps is not None:
        raise SearchError("A search goes by epochs: `max_steps` should be left out, and `epochs` be fewer.")
    if plan.act == "losses" and MethodSpec.parse(config.method).label != "ls":
        raise SearchError(
            f"`method` should be ls where weights act on losses. Found {config.method}: take act=sampling."
        )
    if plan.rank == "pareto" and plan.algorithm in ("pb2", "asha", "bohb"):
        raise SearchError(
            f"`rank` should be one number for algorithm={plan.algorithm}. Found pareto: take pbt, halving or random."
        )
    problem = description(problem_class(config.problem), config.options)
    check_rank(plan.rank, problem)
    plan.decides()
    _check_bounds(plan)
    return plan


def _check_read(algorithm: str, chosen: Mapping[str, Any]) -> None:
    """Refuse settings that would do nothing."""
    if algorithm == "transfer" and "transferred" not in chosen:
        raise SearchError("`algorithm` should not be transfer by itself: take --transfer-from RUN.")
    options = set().union(*READS.values()) - READS[algorithm]
    options |= {"tune"} if algorithm in ("grid", "transfer") else set()
    idle = [name for name in chosen if name in options]
    if idle:
        raise SearchError(
            f"`{idle[0]}` should be left out with algorithm={algorithm}, which does not read it. "
            f"Found {chosen[idle[0]]!r}."
        )


def _check_bounds(plan: SearchPlan) -> None:
    """Try the bounds of what is tuned before any time is spent."""
    train, space = plan.config.train, plan.space()
    for one in space.ranges:
        if one.name == "lr" and train.schedule == "cosine" and one.low < train.min_lr:
            raise SearchError(
                f"`tune` of lr should begin at `min_lr`, {train.min_lr:g}, or above, for schedule=cosine. "
                f"Found {one.low:g}."
            )
        for bound in (one.low, one.high):
            point = space.uniform()
            point = point._replace(settings={**point.settings, one.name: bound})
            try:
                build_method(plan.setting().at(point).method, len(plan.names))
            except ValueError as error:
                raise SearchError(f"`tune` of {one.name} should stay where the method is. {error}") from error
