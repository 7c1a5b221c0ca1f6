"""What `equipoise study` does, once its options are read."""

from __future__ import annotations

from pathlib import Path

from equipoise import actions
from equipoise.benchmark.provenance import source_commit, versions
from equipoise.benchmark.runner import How
from equipoise.problems.registry import problem_class
from equipoise.report.study_page import write_study
from equipoise.search.generations import best_of
from equipoise.search.kept import finished_history, read_plan
from equipoise.study.analysis import analyse
from equipoise.study.make import Wanted, base_of, make_study
from equipoise.study.plan import StudyError, StudyPlan
from equipoise.study.run import keep_plan, run_study, write_findings
from equipoise.study.verdict import verdicts
from equipoise.task_show import showing_tasks
from equipoise.terminal import say
from equipoise.training.storage import held


def plan_of(problem: str, preset: str, wanted: Wanted, device: str, *, elsewhere: bool = False) -> StudyPlan:
    """The checked plan of a study; the device may be that of other machines.

    Raises:
        PlanError: on anything that is wrong; the message says what to do.
    """
    try:
        cls = problem_class(problem)
    except ValueError as error:
        raise StudyError(str(error)) from None
    base, overrides = base_of(cls, preset, wanted)
    plan = actions.make_plan(problem, base, overrides, device, command="", elsewhere=elsewhere)
    return make_study(cls, preset, wanted, plan)


def print_plan(plan: StudyPlan, where: Path) -> None:
    """Print the plan as JSON, and how much it is to do."""
    say(plan.model_dump_json(indent=1))
    say(_amount(plan, where))


def _amount(plan: StudyPlan, where: Path) -> str:
    cells = plan.cells()
    joint = sum(cell.joint for cell in cells)
    steps = plan.steps
    each = "" if steps is None else f" of {steps:,} steps"
    few = (
        f" Fewer than {plan.least_steps} steps: they would be left out of figures and verdicts."
        if steps is not None and steps < plan.least_steps
        else ""
    )
    return f"{len(cells)} cells{each} ({joint} joint, {len(cells) - joint} single) would go to {where}.{few}"


def run(
    plan: StudyPlan,
    where: Path,
    how: How,
    *,
    command: str,
    search: Path | None,
) -> list[str]:
    """Run a study, write what it found, and print its verdicts.

    Args:
        plan: of the study.
        where: its directory.
        how: how many cells at a time and where, whether to go on, and whether to train again what failed before.
        command: the command line.
        search: the directory of a search whose winner is shown too, or None.

    Returns:
        A line for each cell that failed.
    """
    if search is not None:
        best_of(finished_history(read_plan(search), search))  # says at once what is missing
    facts = {"command": command, "versions": versions(), "git": source_commit()}
    with held(where, StudyError), showing_tasks() as show:
        keep_plan(plan, where, facts, resume=how.resume)
        jobs, cls = how.place or how.jobs, problem_class(plan.config.problem)
        results = run_study(plan, cls, where, show, jobs=jobs, retry=how.retry)
    found = analyse(plan, results)
    write_findings(found, where)
    page = write_study(found, where, command, search)
    for verdict in verdicts(found):
        say(verdict.sentence)
    if found.hidden:
        say(f"{len(found.hidden)} of {len(results)} cells are left out; the page names them.")
    say(f"Page: {page}")
    return [f"  {result.cell.name}: {result.error}" for result in results if result.error is not None]
