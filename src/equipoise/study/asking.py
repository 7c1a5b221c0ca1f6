"""From a question to the plans of its runs, and the directory that holds them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.benchmark.plan import Overrides, make_plan
from equipoise.benchmark.records import Plan, read_records
from equipoise.training.config import Field, Settings
from equipoise.training.planned import Planned
from equipoise.training.problem import Problem, description

from .partition import logged_groups, most_frequent
from .plan import StudyError
from .question import Arm, Facts, Found, Question, Variant

FIRST = "first"
"""The directory of the runs before the study."""
SEEDS = 5
"""Of a study, unless its preset is "smoke"; fewer say little."""
_KEPT = Planned("question.json", "study", StudyError)
_TIMED = {"samples": 320, "held": 64, "batch_size": 32, "epochs": 1}  # ten steps
_DEFAULT_GROUPS = 2


class Asked(Settings):
    """What a user asks for; kept in the directory of the study.

    Args:
        question: its name.
        problem: its name.
        preset: of the problem.
        seeds: how many, from 0.
        lrs: candidates of the learning rate; empty for the preset's.
        baselines: "own", "published" or "none"; empty for the preset's.
        settings: options of the problem and of training.
        known: the true group of each task, from 0; empty for those that the problem knows.
        device: "cpu" or "cuda".
    """

    question: str
    problem: str
    preset: str
    seeds: int
    lrs: tuple[float, ...] = ()
    baselines: str = ""
    settings: dict[str, Any] = Field(default_factory=dict)
    known: tuple[int, ...] = ()
    device: str = "cpu"


@dataclass(frozen=True)
class ArmPlan:
    """A run directory that is planned.

    Args:
        arm: which.
        facts: that its variants were made from.
        variants: with the labels that its plan has.
        plan: of the benchmark.
    """

    arm: Arm
    facts: Facts
    variants: tuple[Variant, ...]
    plan: Plan


Run = Callable[[Plan, Path], Any]
"""Runs a plan in a directory; see `equipoise.benchmark.runner.run_plan`."""


def check_asked(question: Question, problem: type[Problem], asked: Asked) -> None:
    """Refuse what cannot be asked.

    Raises:
        StudyError: naming the setting.
    """
    if asked.seeds < 1:
        raise StudyError(f"`seeds` should be at least 1. Found {asked.seeds}.")
    if question.option is not None and question.option not in inspect.signature(problem).parameters:
        raise StudyError(
            f"`problem` should have the option `{question.option}`, which `study {question.name}` changes. Found "
            f"{problem.name}: take {question.problem}."
        )
    tasks = facts_of(question, problem, asked, {}).tasks
    if tasks < question.least_tasks:
        raise StudyError(
            f"`problem` should have at least {question.least_tasks} tasks for `study {question.name}`. Found "
            f"{tasks} of {problem.name}."
        )
    if asked.known and len(asked.known) != tasks:
        raise StudyError(
            f"`known` should be the group of each of the {tasks} tasks. Found {len(asked.known)} numbers."
        )
    if asked.known and sorted(set(asked.known)) != list(range(max(asked.known) + 1)):
        raise StudyError(
            "`known` should number the groups from 0 and leave none empty. Found "
            f"{', '.join(map(str, asked.known))}."
        )


def facts_of(question: Question, problem: type[Problem], asked: Asked, settings: Mapping[str, Any]) -> Facts:
    """What is known before anything is run.

    Args:
        question: which.
        problem: the class.
        asked: by the user.
        settings: of an arm.
    """
    base = _plan(question, problem, asked, Arm(settings=settings), ("ls",))
    options = dict(base.config["options"])
    tasks = len(description(problem, options).tasks)
    known = asked.known or _known(problem, options)
    groups = problem.method_defaults.get("go4align", {}).get("groups", _DEFAULT_GROUPS)
    if known:
        groups = max(known) + 1
    return Facts(tasks, min(groups, tasks), known or None)


def _known(problem: type[Problem], options: Mapping[str, Any]) -> tuple[int, ...]:
    """The groups that a problem planted; none by default."""
    tell = getattr(problem, "known_groups", None)
    found: tuple[int, ...] = tell(options) if tell else ()
    return found


def first_plan(question: Question, problem: type[Problem], asked: Asked) -> Plan | None:
    """The plan of the runs before the study; None where it needs none."""
    if question.first is None:
        return None
    labels = question.first(facts_of(question, problem, asked, {}))
    seed = asked.seeds if question.first_seed == "another" else 0
    return _plan(question, problem, asked, Arm(), labels, seeds=(seed,), baselines="none")


def read_first(directory: Path, labels: Sequence[str], plan: Plan) -> dict[str, Found]:
    """What the runs before the study found, by the labels that asked for them.

    Raises:
        StudyError: if every one of them failed.
    """
    by_method = dict(zip(plan.methods, labels, strict=True))
    tasks = [task.name for task in plan.tasks]
    found: dict[str, Found] = {}
    done = [record for record in read_records(directory) if record.status == "ok"]
    for record in sorted(done, key=lambda record: record.validation_score, reverse=True):
        history = logged_groups(directory, record.run_id, tasks)
        found[by_method[record.method]] = Found(record.validation_score, most_frequent(history))
    if not found:
        raise StudyError(
            f"At least one run of {directory} should have ended well. Found none: its records.jsonl says why."
        )
    return found


def arm_plans(
    question: Question, problem: type[Problem], asked: Asked, first: Mapping[str, Found]
) -> list[ArmPlan]:
    """The plans of all arms."""
    plans = []
    for arm in question.arms(facts_of(question, problem, asked, {})):
        known = facts_of(question, problem, asked, arm.settings)
        facts = Facts(known.tasks, known.groups, known.known, first)
        wanted = question.variants(facts)
        labels = tuple(dict.fromkeys(variant.label for variant in wanted))
        plan = _plan(question, problem, asked, arm, labels)
        full = dict(zip(labels, plan.methods, strict=True))
        rows = tuple(Variant(one.name, full[one.label], one.x) for one in wanted)
        plans.append(ArmPlan(arm, facts, rows, plan))
    return plans


def run_question(
    question: Question, problem: type[Problem], asked: Asked, directory: Path, run: Run
) -> list[ArmPlan]:
    """Run everything that the directory has no record of; returns the plans of its arms."""
    first: dict[str, Found] = {}
    before = first_plan(question, problem, asked)
    if before is not None and question.first is not None:
        run(before, directory / FIRST)
        labels = question.first(facts_of(question, problem, asked, {}))
        first = read_first(directory / FIRST, labels, before)
    plans = arm_plans(question, problem, asked, first)
    for planned in plans:
        run(planned.plan, directory / planned.arm.name)
    return plans


def keep_question(asked: Asked, directory: Path, facts: Mapping[str, Any], *, resume: bool) -> None:
    """Write what was asked into a new directory, or compare it with what is there.

    Raises:
        StudyError: if the directory holds another study or anything else, or was begun and `resume` is not set.
        StorageError: if it cannot be written.
    """
    begun = _KEPT.keep(directory, asked, facts)
    if begun and not resume and any(path.is_dir() for path in directory.iterdir()):
        raise StudyError(
            f"{directory} was begun with this study: add --resume to go on, or choose another one with --out."
        )


def _plan(
    question: Question,
    problem: type[Problem],
    asked: Asked,
    arm: Arm,
    labels: Sequence[str],
    *,
    seeds: Sequence[int] = (),
    baselines: Any = None,
) -> Plan:
    timed = _TIMED if "memory" in question.looks else {}
    changes = Overrides(
        methods=tuple(labels),
        seeds=tuple(seeds) or tuple(range(asked.seeds)),
        lrs=asked.lrs,
        baselines=baselines or ("none" if timed else asked.baselines or None),  # type: ignore[arg-type]
        settings={**timed, **asked.settings, **arm.settings},
    )
    return make_plan(problem, asked.preset, changes, device=asked.device)
