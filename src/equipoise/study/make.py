"""From what a user asks for to a checked plan of a study."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, get_args

from equipoise.benchmark import plan as planning
from equipoise.benchmark.plan import Overrides
from equipoise.benchmark.records import Plan
from equipoise.core.names import check_known
from equipoise.training.config import RunConfig
from equipoise.training.problem import Problem

from .plan import Act, Measure, Pair, StudyError, StudyPlan, check_study
from .presets import GRID, PRESETS

_CAPACITY = {"depths": "depth", "widths": "width"}
_FIXED = {"report": "last", "last_epochs": 1, "patience": None}  # every cell ends at its last epoch
_ACTS = get_args(Act)


@dataclass(frozen=True)
class Wanted:
    """What a user changes of a preset; None or empty leaves it as it is.

    Args:
        pairs: of domains or tasks; by default the preset's, or all.
        depths: of the network.
        widths: likewise.
        grid: of p.
        seeds: how many, from 0.
        lr: the learning rate.
        act: "sampling" or "losses"; by default "sampling" where the problem can sample domains.
        probe: fixed batches of training samples.
        least_steps: that a cell should have to count.
        settings: options of the problem and of training, by name.
    """

    pairs: Sequence[tuple[str, ...]] = ()
    depths: Sequence[int] | None = None
    widths: Sequence[int] | None = None
    grid: Sequence[float] | None = None
    seeds: int | None = None
    lr: float | None = None
    act: str | None = None
    probe: int | None = None
    least_steps: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


def base_of(problem: type[Problem], preset: str, wanted: Wanted) -> tuple[str, Overrides]:
    """The problem's own preset that a study begins with, and what is changed of it.

    Raises:
        StudyError: on an unknown preset, or a setting that a study fixes.
    """
    own = PRESETS.get(problem.name, {})
    check_known(f"A preset of the study of {problem.name}", preset, [*own, *problem.presets], StudyError)
    for name in (*_FIXED, "weights", "domains", "mixing", "evaluate_every"):
        if name in wanted.settings:
            raise StudyError(
                f"`{name}` should be left out: a study sets it. Found {wanted.settings[name]!r}."
            )
    chosen = own.get(preset, {})
    settings = {**chosen.get("settings", {}), **wanted.settings, **_FIXED}
    parameters = inspect.signature(problem).parameters
    if "domains" in parameters:  # all of them, whatever the preset has
        settings["domains"] = parameters["domains"].default
    base = chosen.get("base", preset)
    check_known(f"A preset of {problem.name}", base, problem.presets, StudyError)
    lr = wanted.lr or chosen.get("lr") or problem.presets[base]["lrs"][0]
    return base, Overrides(("ls",), (0,), (lr,), baselines="none", settings=settings)


def make_study(problem: type[Problem], preset: str, wanted: Wanted, base: Plan) -> StudyPlan:
    """A checked plan.

    Args:
        problem: the class.
        preset: of the study, or of the problem.
        wanted: what to change of it.
        base: the plan of one run with the overrides of `base_of`.

    Raises:
        StudyError: on anything that is wrong; the message says what to do.
    """
    chosen = PRESETS.get(problem.name, {}).get(preset, {})
    parameters = inspect.signature(problem).parameters
    config = _common(problem, base)
    measures = _measures(base)
    seeds = wanted.seeds if wanted.seeds is not None else chosen.get("seeds", 1)
    raw = {
        "config": config,
        "measures": measures,
        "act": _act(problem, wanted.act),
        "domains": "domains" in parameters,
        "pairs": _pairs(wanted.pairs or chosen.get("pairs", ()), [measure.name for measure in measures]),
        **{name: _sizes(problem, name, getattr(wanted, name), chosen.get(name)) for name in _CAPACITY},
        "grid": tuple(wanted.grid if wanted.grid is not None else chosen.get("grid", GRID)),
        "seeds": tuple(range(seeds)),
        "probe": wanted.probe if wanted.probe is not None else chosen.get("probe", 8),
    }
    if wanted.least_steps is not None:
        raw["least_steps"] = wanted.least_steps
    try:
        plan = StudyPlan.read(raw)
    except ValueError as error:
        raise StudyError(str(error)) from error
    check_study(plan)
    return plan


def _common(problem: type[Problem], base: Plan) -> RunConfig:
    """What the runs of all cells have in common."""
    config = planning.run_config(base, planning.pending(base, [])[0])
    if (
        config.train.schedule != "plateau"
    ):  # which follows the looks; `Trainer.advance` looks after every epoch too
        rarely = config.train.model_copy(update={"evaluate_every": config.train.epochs})
        config = config.model_copy(update={"train": rarely})
    if "samples" in inspect.signature(problem).parameters:
        config = config.model_copy(update={"options": {"samples": None, **config.options}})
    return config


def _measures(base: Plan) -> tuple[Measure, ...]:
    found = []
    for task in base.tasks:
        metric = task.metrics[0]
        reference = base.config["reference"][metric.name]
        found.append(
            Measure(
                name=task.name,
                metric=metric.name,
                unit=metric.unit,
                higher_is_better=metric.higher_is_better,
                reference=reference,
            )
        )
    return tuple(found)


def _act(problem: type[Problem], act: str | None) -> str:
    samples = {"weights", "domains"} <= inspect.signature(problem).parameters.keys()
    act = act or ("sampling" if samples else "losses")
    check_known("`act`", act, _ACTS, StudyError)
    if act == "sampling" and not samples:
        raise StudyError(
            f"`act` should be losses for {problem.name}, whose samples come from one domain. Found 'sampling'."
        )
    return act


def _pairs(given: Sequence[Sequence[str]], names: Sequence[str]) -> tuple[Pair, ...]:
    if len(names) < 2:
        raise StudyError(
            f"A study should have at least 2 domains or tasks. Found {', '.join(names) or 'none'}."
        )
    found: list[Pair] = []
    for pair in given or list(combinations(names, 2)):
        for name in pair:
            check_known("`pair`, each of its names,", name, names, StudyError)
        if len(pair) != 2 or pair[0] == pair[1]:
            raise StudyError(
                f"`pair` should be 2 different names, as in {names[0]},{names[1]}. Found {','.join(pair)}."
            )
        found.append((pair[0], pair[1]))
    return tuple(found)


def _sizes(
    problem: type[Problem], name: str, wanted: Sequence[int] | None, preset: Any
) -> tuple[int | None, ...]:
    """Depths or widths; (None,) where the problem has no such option."""
    option = _CAPACITY[name]
    has = option in inspect.signature(problem).parameters
    if wanted is not None:
        if not has:
            raise StudyError(
                f"`{name}` should be left out for {problem.name}, whose networks have none. Found {list(wanted)}."
            )
        return tuple(wanted)
    if preset is not None:
        return tuple(preset)
    if has:
        raise StudyError(f"`{name}` should be given, as in --{name} 2,4: this preset has none. Found none.")
    return (None,)


def wanted_of(
    pairs: Sequence[str], depths: str | None, widths: str | None, grid: str | None, **others: Any
) -> Wanted:
    """Read what a user writes with commas.

    Args:
        pairs: texts like "mnist,pendigits".
        depths: numbers, or None.
        widths: likewise.
        grid: likewise.
        others: fields of `Wanted`, as they are.

    Raises:
        StudyError: on what is not a number.
    """
    return Wanted(
        pairs=[tuple(name.strip() for name in text.split(",")) for text in pairs],
        depths=_numbers("depths", depths, int),
        widths=_numbers("widths", widths, int),
        grid=_numbers("grid", grid, float),
        **others,
    )


def _numbers(name: str, text: str | None, kind: type[int] | type[float]) -> list[Any] | None:
    if text is None:
        return None
    try:
        return [kind(part) for part in text.split(",") if part.strip()]
    except ValueError:
        wanted = "whole numbers" if kind is int else "numbers"
        raise StudyError(f"`{name}` should be {wanted}, separated by commas. Found {text!r}.") from None
