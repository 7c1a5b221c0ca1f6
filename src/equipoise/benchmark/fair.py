"""What makes a plan a fair one: the methods that no table goes without, equal trials, and rows at matched compute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from equipoise.build import build_method
from equipoise.core import MethodSpec
from equipoise.training.config import TrainConfig

from .matched import with_compute
from .overrides import Overrides, PlanError
from .records import Plan, Setting
from .runs import base_label, entries
from .trials import Budget, settings_of

REQUIRED = ("ls", "si", "rlw", "gls", "uw")
"""Rows of every tuned table: on published evidence many methods are no better than these once all are tuned."""


def required(texts: Sequence[str], changed: Overrides) -> list[str]:
    """The methods that belong into the table and are not among those that a user has named.

    Args:
        texts: of the user, or of the preset.
        changed: with a budget, all of `REQUIRED` belong into it; for rows at the compute of `ls`, that one does.
    """
    needed: Iterable[str] = REQUIRED if changed.budget is not None else ("ls",) if changed.compute else ()
    named = {text.partition(":")[0].strip() for text in texts if "+" not in text}
    return [name for name in needed if name not in named]


def fair(plan: Plan, texts: Mapping[str, str], train: TrainConfig, changed: Overrides) -> Plan:
    """The plan with the trials of a budget and with rows at matched compute, as far as a user has asked for them.

    Args:
        plan: without these.
        texts: label -> how the user has written it.
        train: settings of the preset, with the user's changes.
        changed: by the user.

    Raises:
        PlanError: on a budget or bounds out of range, and where the test part would be read in every trial.
    """
    try:
        if changed.compute:
            plan = replace(plan, methods=tuple(with_compute(plan.methods, train, len(plan.tasks))))
        if changed.budget is None:
            _refuse_bounds(changed)
            return plan
        budget = _checked(changed, plan.lrs[0], train)
        return replace(plan, budget=changed.budget, trials=_trials(plan, texts, train, budget))
    except ValueError as error:
        raise error if isinstance(error, PlanError) else PlanError(str(error)) from error


def _trials(
    plan: Plan, texts: Mapping[str, str], train: TrainConfig, budget: Budget
) -> dict[str, tuple[Setting, ...]]:
    found = {}
    for label in dict.fromkeys(base_label(label) for label, _ in entries(plan)):
        fixed = MethodSpec.parse(texts.get(label, label)).kwargs
        found[label] = settings_of(label, fixed, budget, train, problem=plan.problem, n_tasks=len(plan.tasks))
        _check_built(label, found[label], len(plan.tasks))
    return found


def _check_built(label: str, settings: Iterable[Setting], n_tasks: int) -> None:
    """Build each setting once, so that one that cannot be is found before any time is spent."""
    spec = MethodSpec.parse(label)
    for setting in settings:
        if setting.knobs:
            build_method(MethodSpec(spec.name, {**spec.kwargs, **setting.knobs}, spec.wrappers), n_tasks)


def _checked(changed: Overrides, lr: float, train: TrainConfig) -> Budget:
    if changed.budget is None or changed.budget < 1:
        raise PlanError(f"`budget` should be at least 1. Found {changed.budget}.")
    if changed.lrs:
        raise PlanError(
            "`lr` should be bounds with --budget, such as 1e-4..1e-2: the budget chooses the candidates. Found "
            f"{', '.join(f'{one:g}' for one in changed.lrs)}."
        )
    if train.report == "last":
        raise PlanError(
            "`report` should be best with --budget, or every trial would read the test part. Found last: choose a "
            "preset with a validation part, such as clean, or add --set report=best."
        )
    budget = Budget(changed.budget, lr, changed.bounds)
    low, high = budget.range
    if not 0 < low < high:
        raise PlanError(f"`lr` should have bounds above 0, the lower one first. Found {low:g}..{high:g}.")
    if train.schedule == "cosine" and low < train.min_lr:
        raise PlanError(
            f"`lr` should be at least `min_lr`, {train.min_lr:g}, for schedule=cosine. Found {low:g}..{high:g}: give "
            "--lr with a higher lower bound."
        )
    return budget


def _refuse_bounds(changed: Overrides) -> None:
    if changed.bounds is not None:
        low, high = changed.bounds
        raise PlanError(
            f"`lr` should be numbers separated by commas without --budget. Found bounds, {low:g}..{high:g}: add "
            "--budget N to try out N settings between them."
        )
