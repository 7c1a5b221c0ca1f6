"""Which runs a benchmark needs: methods, their learning rates, seeds, and single-task baselines."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from equipoise.build import build_method
from equipoise.core import MethodSpec
from equipoise.core.names import check_known
from equipoise.training.config import RunConfig, TrainConfig
from equipoise.training.problem import Description, Problem, description
from equipoise.training.setup import task_of

from .provenance import source_commit, versions
from .records import Baselines, Plan, Record


class PlanError(ValueError):
    """A benchmark was asked for that cannot be run; the message says what to write instead."""


@dataclass(frozen=True)
class Overrides:
    """What a user changes of a preset; None or empty leaves it as it is.

    Args:
        methods: labels.
        seeds: of the runs; the first one also serves to choose the learning rate.
        lrs: candidates of the learning rate.
        baselines: "own" single-task runs, the "published" constants, "none", or as the preset says.
        settings: options of the problem and fields of `TrainConfig`, by name.
    """

    methods: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    lrs: tuple[float, ...] = ()
    baselines: Baselines | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One run of a plan.

    Args:
        run_id: unique within the plan, and a file name.
        method: label; "stl:task=NAME" for single-task runs.
        task: of a single-task run.
        seed: of the run.
        lr: learning rate.
    """

    run_id: str
    method: str
    task: str | None
    seed: int
    lr: float


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
    lrs = changed.lrs or tuple(base["lrs"])
    if min(lrs) <= 0 or len(set(lrs)) < len(lrs):
        raise PlanError(
            f"`lr` should be different numbers above 0. Found {', '.join(f'{lr:g}' for lr in lrs)}."
        )
    options, train = _settings(problem, base, changed.settings)
    described = _described(problem, options)
    return Plan(
        problem=problem.name,
        preset=preset,
        methods=tuple(_labels(problem, described, changed.methods or base["methods"])),
        seeds=changed.seeds or tuple(range(base["seeds"])),
        lrs=lrs,
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
    )


def pending(plan: Plan, records: Iterable[Record]) -> list[Run]:
    """The runs that can be started now, in order.

    Every method, and every single-task baseline, first runs with each learning rate on the first seed. The
    one with the lowest validation score then runs on the other seeds. A method that fails with every
    learning rate is left at that.
    """
    done = {record.run_id: record for record in records}
    first: list[Run] = []
    later: list[Run] = []
    for label, task in entries(plan):
        candidates = [_run(label, task, plan.seeds[0], lr) for lr in plan.lrs]
        missing = [run for run in candidates if run.run_id not in done]
        first += missing
        if not missing:
            lr = _chosen(done[run.run_id] for run in candidates)
            runs = [_run(label, task, seed, lr) for seed in plan.seeds[1:] if lr is not None]
            later += [run for run in runs if run.run_id not in done]
    return first + later


def left(plan: Plan, records: Iterable[Record]) -> int:
    """How many runs are still to come, those that cannot be started yet included."""
    records = list(records)
    runs = pending(plan, records)
    first = plan.seeds[0]
    waiting = {run.method for run in runs if run.seed == first}
    return len(runs) + len(waiting) * (len(plan.seeds) - 1)


def entries(plan: Plan) -> list[tuple[str, str | None]]:
    """The label and the task (of single-task runs) of everything that a plan runs."""
    names = [task.name for task in plan.tasks]
    methods = [(label, task_of(MethodSpec.parse(label), names)) for label in plan.methods]
    own = (
        [(MethodSpec("stl", {"task": name}).label, name) for name in names] if plan.baselines == "own" else []
    )
    return methods + own


def run_config(plan: Plan, run: Run) -> RunConfig:
    """All that one run is a function of."""
    return RunConfig(
        problem=plan.problem,
        options=dict(plan.config["options"]),
        method=run.method,
        lr=run.lr,
        seed=run.seed,
        train=TrainConfig(**plan.config["train"]),
        device=plan.config["device"],
    )


def differences(old: Plan, new: Plan) -> list[str]:
    """What two plans differ in, a line each; not the command, versions and commit, which may change."""
    lines: list[str] = []
    for name in (f.name for f in fields(Plan) if f.name not in ("command", "versions", "git", "config")):
        before, after = (getattr(plan, name) for plan in (old, new))
        if before != after:
            lines.append(f"{name}: {_shown(before)} -> {_shown(after)}")
    before, after = flat(_with_defaults(old.config)), flat(_with_defaults(new.config))
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            lines.append(f"{name}: {before.get(name, 'not set')} -> {after.get(name, 'not set')}")
    return lines


def _with_defaults(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings that an older version did not know have their defaults."""
    if "train" not in config:
        return config
    return {**config, "train": TrainConfig(**config["train"]).model_dump()}


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping as one, with names like `train.epochs`."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        nested = isinstance(value, Mapping)
        found |= flat(value, f"{prefix}{name}.") if nested else {prefix + name: value}
    return found


def known(kind: str, name: str, names: Iterable[str]) -> None:
    """Refuse a name that is not there, and give the nearest one."""
    check_known(f"A {kind}", name, sorted(names), PlanError)


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


def _run(label: str, task: str | None, seed: int, lr: float) -> Run:
    return Run(f"{_file_safe(label)}-lr{lr:g}-seed{seed}", label, task, seed, lr)


def _file_safe(label: str) -> str:
    plain = label.replace(":", "_").replace("=", "-")
    safe = re.sub(r"[^A-Za-z0-9._+-]", "-", plain)
    if safe == plain and len(safe) <= 100:
        return safe
    return f"{safe[:60]}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"  # two labels may look the same


def _chosen(candidates: Iterable[Record]) -> float | None:
    good = [record for record in candidates if record.status == "ok"]
    return min(good, key=lambda record: record.validation_score).lr if good else None


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return (
            ", ".join(asdict(item)["name"] if hasattr(item, "name") else str(item) for item in value)
            or "none"
        )
    return str(value)
