"""The runs of a plan: what they are called, and all that each is a function of."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from equipoise.build import METHODS
from equipoise.core import Method, MethodSpec
from equipoise.training.config import RunConfig, TrainConfig
from equipoise.training.setup import task_of

from .choice import best
from .records import Plan, Record, Setting

COMPUTE = "@compute"
"""Ends the label of a row that has the compute of `ls`, see `equipoise.benchmark.matched`."""


@dataclass(frozen=True)
class Run:
    """One run of a plan.

    Args:
        run_id: unique within the plan, and a file name.
        method: label of its row; "stl:task=NAME" for single-task runs.
        task: of a single-task run.
        seed: of the run.
        lr: learning rate.
        trial: position of its setting among the row's trials; None without a tuning budget.
        knobs: hyper-parameters of the method besides those in the label.
        train: settings of the training besides those of the plan.
        test: whether it reads the test part; trials do not.
        refused: why it cannot be run, or "".
    """

    run_id: str
    method: str
    task: str | None
    seed: int
    lr: float
    trial: int | None = None
    knobs: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    test: bool = True
    refused: str = ""


def entries(plan: Plan) -> list[tuple[str, str | None]]:
    """The label and the task (of single-task runs) of everything that a plan runs."""
    names = [task.name for task in plan.tasks]
    methods = [(label, task_of(MethodSpec.parse(base_label(label)), names)) for label in plan.methods]
    own = (
        [(MethodSpec("stl", {"task": name}).label, name) for name in names] if plan.baselines == "own" else []
    )
    return methods + own


def base_label(label: str) -> str:
    """The label of the method of a row."""
    return label.removesuffix(COMPUTE)


def candidates(plan: Plan, label: str, task: str | None, seed: int, *, test: bool = True) -> list[Run]:
    """One run of a row for each setting that it tries out, which reads the test part or does not."""
    name = _file_safe(base_label(label)) + (".compute" if label.endswith(COMPUTE) else "")
    if plan.budget is None:
        return [Run(f"{name}-lr{lr:g}-seed{seed}", label, task, seed, lr) for lr in plan.lrs]
    return [
        Run(f"{name}-t{trial}-seed{seed}", label, task, seed, one.lr, trial, one.knobs, one.train, test)
        for trial, one in enumerate(settings(plan, label))
    ]


def settings(plan: Plan, label: str) -> tuple[Setting, ...]:
    """What a row tries out."""
    if plan.budget is None:
        return tuple(Setting(lr) for lr in plan.lrs)
    return plan.trials[base_label(label)]


def run_config(plan: Plan, run: Run) -> RunConfig:
    """All that one run is a function of."""
    spec = MethodSpec.parse(base_label(run.method))
    return RunConfig(
        problem=plan.problem,
        options=dict(plan.config["options"]),
        method=MethodSpec(spec.name, {**spec.kwargs, **run.knobs}, spec.wrappers).label,
        lr=run.lr,
        seed=run.seed,
        train=TrainConfig(**{**plan.config["train"], **run.train}),
        device=plan.config["device"],
    )


def listens(label: str) -> bool:
    """Whether the method of a row looks at the losses after the step, as FAMO does."""
    return METHODS[MethodSpec.parse(base_label(label)).name].after_step is not Method.after_step


def chosen(plan: Plan, records: Iterable[Record]) -> Record | None:
    """Of the records of a row, that of the first seed with the lowest validation score; None if none has one.

    Of equal scores that of the setting that comes first in the plan counts, in whatever order the runs ended.
    """
    order = {lr: place for place, lr in enumerate(plan.lrs)}
    found = [record for record in records if record.status == "ok" and record.seed == plan.seeds[0]]
    found.sort(key=lambda r: order.get(r.lr, len(order)) if r.trial is None else r.trial)
    first = {record.run_id: record for record in found}
    name = best({run_id: record.validation_score for run_id, record in first.items()})
    return None if name is None else first[name]


def of_setting(record: Record, other: Record) -> bool:
    """Whether two records of a row are of the same setting."""
    return record.trial == other.trial and record.lr == other.lr


def _file_safe(label: str) -> str:
    plain = label.replace(":", "_").replace("=", "-")
    safe = re.sub(r"[^A-Za-z0-9._+-]", "-", plain)
    if safe == plain and len(safe) <= 100:
        return safe
    return f"{safe[:60]}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"  # two labels may look the same
