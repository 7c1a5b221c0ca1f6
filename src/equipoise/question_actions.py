"""What `equipoise study NAME` does for a question that many runs answer, once its options are read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from equipoise import actions
from equipoise.benchmark.provenance import source_commit, versions
from equipoise.benchmark.records import Plan
from equipoise.benchmark.runner import How
from equipoise.problems.registry import problem_class
from equipoise.report.answers_page import correlation_said, write_answers
from equipoise.study.answers import answer
from equipoise.study.answers_file import write_answers_file
from equipoise.study.asking import (
    SEEDS,
    Asked,
    arm_plans,
    check_asked,
    first_plan,
    keep_question,
    run_question,
)
from equipoise.study.plan import StudyError
from equipoise.study.questions import QUESTIONS
from equipoise.terminal import say
from equipoise.training.storage import held

_Number = TypeVar("_Number", int, float)


def asked(name: str, problem: str | None, preset: str, seeds: int | None, lrs: str, known: str) -> Asked:
    """What a user asks for, as far as it is the study's own.

    Args:
        name: of the question.
        problem: its name; None for the question's own, if it has one.
        preset: of the problem.
        seeds: how many; None for one with the preset "smoke" and 5 otherwise.
        lrs: numbers with commas, or nothing.
        known: the group of each task, with commas, or nothing.

    Raises:
        StudyError: on what is not a number, or without a problem.
    """
    problem = problem or QUESTIONS[name].problem
    if problem is None:
        raise StudyError(f"`problem` should be named, as in: equipoise study {name} qm9. Found none.")
    count = seeds if seeds is not None else 1 if preset == "smoke" else SEEDS
    return Asked(
        question=name,
        problem=problem,
        preset=preset,
        seeds=count,
        lrs=_numbers("lr", lrs, float),
        known=_numbers("known", known, int),
    )


def complete(
    wanted: Asked, baselines: str, settings: dict[str, Any], device: str, *, elsewhere: bool
) -> Asked:
    """The same with what all benchmarks have: baselines, settings and device, all of them checked.

    Raises:
        PlanError: on anything that is wrong; the message says what to do.
    """
    try:
        cls = problem_class(wanted.problem)
    except ValueError as error:
        raise StudyError(str(error)) from None
    changed = actions.overrides("ls", 1, "", baselines, settings)
    base = actions.make_plan(wanted.problem, wanted.preset, changed, device, command="", elsewhere=elsewhere)
    chosen = baselines or ("none" if wanted.preset == "smoke" else "")
    full = wanted.model_copy(
        update={"baselines": chosen, "settings": settings, "device": base.config["device"]}
    )
    check_asked(QUESTIONS[wanted.question], cls, full)
    return full


def print_asked(wanted: Asked, where: Path) -> None:
    """Print the runs of each directory of a study; those that a first run decides are not known yet."""
    question, cls = QUESTIONS[wanted.question], problem_class(wanted.problem)
    before = first_plan(question, cls, wanted)
    if before is not None:
        say(f"{where}/first: {len(before.methods)} methods on seed {before.seeds[0]}")
    for planned in arm_plans(question, cls, wanted, {}):
        baselines = len(planned.plan.tasks) if planned.plan.baselines == "own" else 0
        rows = ", ".join(variant.name for variant in planned.variants)
        say(
            f"{where}/{planned.arm.name}: {len(planned.plan.methods)} methods and {baselines} single-task networks on "
            f"{len(planned.plan.seeds)} seeds: {rows}"
        )
        for contrast in question.asked(planned.facts):
            say(f"  {contrast.question} {_side(contrast.these)} against {_side(contrast.those)}")
    if before is not None:
        say("More variants follow from what the first runs find.")


def ask(wanted: Asked, where: Path, how: How, *, command: str) -> list[str]:
    """Run a study, write what it found, and print its answers.

    Args:
        wanted: what was asked.
        where: its directory.
        how: how many runs at a time and where, whether to go on, and whether to repeat what failed.
        command: the command line.

    Returns:
        A line for each run that failed.
    """
    question, cls = QUESTIONS[wanted.question], problem_class(wanted.problem)
    if "memory" in question.looks:
        how = replace(how, jobs=1)  # time and memory of a run by itself
    failed: list[str] = []

    def run(plan: Plan, directory: Path) -> None:
        failed.extend(actions.failures(actions.run(plan, directory, how)))

    facts = {"command": command, "versions": versions(), "git": source_commit()}
    with held(where, StudyError):
        keep_question(wanted, where, facts, resume=how.resume)
        plans = run_question(question, cls, wanted, where, run)
        found = answer(question, where, plans)
        write_answers_file(found, where)
        page = write_answers(found, where, command)
    for arm in found.arms:
        if len(found.arms) > 1 and arm.answers:
            say(f"{arm.arm.name}:")
        for one in arm.answers:
            say(f"{one.contrast.question} {one.sentence}")
    if said := correlation_said(found):
        say(said.replace("**", "").removeprefix("- "))
    say(f"Page: {page}")
    return failed


def _side(names: tuple[str, ...]) -> str:
    return " + ".join(names)


def _numbers(name: str, text: str, kind: type[_Number]) -> tuple[_Number, ...]:
    try:
        return tuple(kind(part) for part in text.split(",") if part.strip())
    except ValueError:
        wanted = "whole numbers" if kind is int else "numbers"
        raise StudyError(f"`{name}` should be {wanted}, separated by commas. Found {text!r}.") from None
