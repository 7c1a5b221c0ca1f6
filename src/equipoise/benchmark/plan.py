"""From a preset and a user's changes to a checked plan: methods, their settings, seeds, and single-task baselines."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

from equipoise.build import build_method
from equipoise.core import MethodSpec
from equipoise.core.names import check_known
from equipoise.training.config import TrainConfig
from equipoise.training.problem import Description, Problem, description
from equipoise.training.setup import task_of

from .belonging import flat as flat
from .belonging import with_defaults
from .fair import fair, required
from .order import left as left
from .order import pending as pending
from .overrides import Overrides as Overrides
from .overrides import PlanError as PlanError
from .provenance import source_commit, versions
from .records import Plan
from .runs import Run as Run
from .runs import entries as entries
from .runs import listens
from .runs import run_config as run_config

_NOT_COMPARED = ("command", "versions", "git", "config", "format", "added", "trials")


def make_plan(
    problem: type[Problem],
    preset: str,
    overrides: Overrides | None = None,
    *,
    device: str = "cpu",
    command: str = "",
) -> Plan:
    """The plan of a preset with a user's changes, everything checked that can be without data.

    A preset is a mapping with "options" of the problem, "train" settings, "methods", "lrs", the number of "seeds",
    and "baselines" if they are not to be "own". The tasks are those of `training.problem.description`.

    Args:
        problem: the class of the problem.
        preset: one of its presets.
        overrides: what to change.
        device: where to train.
        command: the command line, for the record.

    Raises:
        PlanError: on an unknown name (the nearest one is given) or a value out of range.
    """
    changed = overrides or Overrides()
    known(f"preset of {problem.name}", preset, problem.presets)
    base = problem.presets[preset]
    options, train = _settings(problem, base, changed.settings)
    described = _described(problem, options)
    texts = changed.methods or tuple(base["methods"])
    added = required(texts, changed)
    labels = _labels(problem, described, [*texts, *added])
    made = Plan(
        problem=problem.name,
        preset=preset,
        methods=tuple(labels),
        seeds=changed.seeds or tuple(range(base["seeds"])),
        lrs=_lrs(changed, base),
        baselines=changed.baselines or base.get("baselines", "own"),
        tasks=described.tasks,
        config={
            "options": options,
            "train": train.model_dump(),
            "device": device,
            "reference": dict(described.reference),
        },
        command=command,
        versions=versions(),
        git=source_commit(),
        added=tuple(labels[len(texts) :]),
    )
    return fair(made, dict(zip(labels, [*texts, *added], strict=True)), train, changed)


def differences(old: Plan, new: Plan) -> list[str]:
    """What two plans differ in, a line each; not the command, versions and commit, which may change."""
    lines: list[str] = []
    for name in (f.name for f in fields(Plan) if f.name not in _NOT_COMPARED):
        before, after = (getattr(plan, name) for plan in (old, new))
        if before != after:
            lines.append(f"{name}: {_shown(before)} -> {_shown(after)}")
    before, after = flat(with_defaults(old.config)), flat(with_defaults(new.config))
    for name in sorted({*before, *after}):
        unread = name == "train.after_step" and not any(map(listens, {*old.methods, *new.methods}))
        if before.get(name) != after.get(name) and not unread:
            lines.append(f"{name}: {before.get(name, 'not set')} -> {after.get(name, 'not set')}")
    rows = sorted(row for row in {*old.trials, *new.trials} if old.trials.get(row) != new.trials.get(row))
    if rows and old.budget == new.budget:
        lines.append(f"trials: others, of {', '.join(rows)}")
    return lines


def grown(old: Plan, new: Plan) -> bool:
    """Whether a plan is another one with more seeds or methods, so that all of that one's runs are runs of it."""
    if new.seeds[: len(old.seeds)] != old.seeds or not set(old.methods) <= set(new.methods):
        return False
    trials = {row: settings for row, settings in new.trials.items() if row in old.trials}
    return not differences(
        old, replace(new, seeds=old.seeds, methods=old.methods, added=old.added, trials=trials)
    )


def known(kind: str, name: str, names: Iterable[str]) -> None:
    """Refuse a name that is not there, and give the nearest one."""
    check_known(f"A {kind}", name, sorted(names), PlanError)


def _lrs(changed: Overrides, base: Mapping[str, Any]) -> tuple[float, ...]:
    lrs = changed.lrs or tuple(base["lrs"])
    if min(lrs) <= 0 or len(set(lrs)) < len(lrs):
        raise PlanError(
            f"`lr` should be different numbers above 0. Found {', '.join(f'{lr:g}' for lr in lrs)}."
        )
    return lrs if changed.budget is None else lrs[:1]


def _settings(
    problem: type[Problem], base: Mapping[str, Any], changed: Mapping[str, Any]
) -> tuple[dict[str, Any], TrainConfig]:
    """The options of the problem and how to train: those of a preset, with changes by name."""
    options = [name for name in inspect.signature(problem).parameters if name != "progress"]
    for name in changed:
        known("setting", name, [*options, *TrainConfig.model_fields])
    train = {name: value for name, value in changed.items() if name in TrainConfig.model_fields}
    chosen = {name: value for name, value in changed.items() if name in options}
    try:
        settings = TrainConfig.read({**base.get("train", {}), **train})
    except ValueError as error:
        raise PlanError(str(error)) from error
    return {**base.get("options", {}), **chosen}, settings


def _described(problem: type[Problem], options: Mapping[str, Any]) -> Description:
    try:
        return description(problem, options)
    except (ValueError, OSError, ImportError) as error:
        raise PlanError(str(error)) from error


def _labels(problem: type[Problem], described: Description, methods: Sequence[str]) -> list[str]:
    names = [task.name for task in described.tasks]
    labels = [_label(problem, names, text) for text in methods]
    for label in labels:
        if labels.count(label) > 1:
            raise PlanError(f"`methods` should be different from each other. Found {label} more than once.")
    return labels


def _label(problem: type[Problem], names: Sequence[str], text: str) -> str:
    """The full label of a method: with the defaults of the problem, and built once to check it."""
    defaults = problem.method_defaults
    try:
        spec = MethodSpec.parse(text)
        task = task_of(spec, names)
        kwargs = {**defaults.get(spec.name, {}), **spec.kwargs} if task is None else {"task": task}
        wrappers = tuple((name, {**defaults.get(name, {}), **given}) for name, given in spec.wrappers)
        full = MethodSpec(spec.name, kwargs, wrappers)
        build_method(full if task is None else MethodSpec("stl", {}, wrappers), 1 if task else len(names))
    except (ValueError, TypeError) as error:
        raise PlanError(f"{error} (method {text!r}; `equipoise methods` lists them all)") from error
    return full.label


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return (
            ", ".join(asdict(item)["name"] if hasattr(item, "name") else str(item) for item in value)
            or "none"
        )
    return str(value)
