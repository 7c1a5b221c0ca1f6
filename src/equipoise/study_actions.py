"""What `equipoise study` does, once its options are read."""

from __future__ import annotations

from pathlib import Path

from equipoise import actions
from equipoise.benchmark.plan import Run
from equipoise.benchmark.provenance import source_commit, versions
from equipoise.benchmark.records import Record
from equipoise.benchmark.runner import How
from equipoise.benchmark.runner import Show as BenchmarkShow
from equipoise.problems.registry import problem_class
from equipoise.report.study_page import write_study
from equipoise.search.generations import best_of
from equipoise.search.kept import finished_history, read_plan
from equipoise.study.analysis import analyse
from equipoise.study.cell import CellResult
from equipoise.study.make import Wanted, base_of, make_study
from equipoise.study.plan import Cell, StudyError, StudyPlan
from equipoise.study.run import keep_plan, run_study, write_findings
from equipoise.study.verdict import verdicts
from equipoise.terminal import say, showing
from equipoise.training.outcome import Progress
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
    with held(where, StudyError), showing() as show:
        keep_plan(plan, where, facts, resume=how.resume)
        watch = _Watch(plan, show)
        jobs, cls = how.place or how.jobs, problem_class(plan.config.problem)
        results = run_study(plan, cls, where, watch, jobs=jobs, retry=how.retry)
    found = analyse(plan, results)
    write_findings(found, where)
    page = write_study(found, where, command, search)
    for verdict in verdicts(found):
        say(verdict.sentence)
    if found.hidden:
        say(f"{len(found.hidden)} of {len(results)} cells are left out; the page names them.")
    say(f"Page: {page}")
    return [f"  {result.cell.name}: {result.error}" for result in results if result.error is not None]


class _Watch:
    """Tells of cells in the words of a benchmark.

    Args:
        plan: of the study.
        show: the progress bars or lines of a benchmark.
    """

    def __init__(self, plan: StudyPlan, show: BenchmarkShow) -> None:
        self._plan = plan
        self._show = show

    def began(self, total: int, done: int) -> None:
        """See `Show`."""
        self._show.began(total, done)

    def started(self, cell: Cell) -> None:
        """See `Show`."""
        self._show.started(self._run(cell))

    def progress(self, cell: Cell, now: Progress) -> None:
        """See `Show`."""
        self._show.progress(self._run(cell), now)

    def say(self, text: str) -> None:
        """See `Show`."""
        self._show.say(text)

    def finished(self, result: CellResult, left: int) -> None:
        """See `Show`."""
        config = self._plan.config_of(result.cell)
        record = Record(
            run_id=result.cell.name,
            problem=config.problem,
            preset="",
            method=config.method,
            task=None,
            seed=config.seed,
            lr=config.lr,
            status="ok" if result.error is None else "failed",
            error=result.error,
            metrics=result.metrics,
            validation_score=result.score,
            best_epoch=result.epochs,
            epochs=result.epochs,
            steps=result.steps,
            seconds=result.seconds,
            seconds_per_step=result.seconds / max(result.steps, 1),
            peak_memory_mb=None,
            fallbacks=0,
            parameters=result.parameters,
            config={},
            versions={},
            git=None,
            started="",
        )
        self._show.finished(record, left)

    def _run(self, cell: Cell) -> Run:
        config = self._plan.config_of(cell)
        return Run(cell.name, config.method, None, cell.seed, config.lr)
