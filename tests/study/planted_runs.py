"""A runner that trains nothing: its records hold the scores that a test plants."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

from equipoise.benchmark.order import pending
from equipoise.benchmark.plan import run_config
from equipoise.benchmark.records import Plan, Record, append_record, write_plan
from equipoise.benchmark.runs import Run

Scores = Callable[[str, int], float | None]
"""Label and seed -> how many percent worse than the reference every metric is, or None for a run that fails."""


class Planted:
    """Writes what a benchmark would write.

    Args:
        score: what each run comes to.
        groups: label -> the groups of the tasks in each logged step, for runs that have some.
    """

    def __init__(self, score: Scores, groups: Mapping[str, list[tuple[int, ...]]] | None = None) -> None:
        self.score = score
        self.groups = groups or {}
        self.plans: list[tuple[str, Plan]] = []

    def __call__(self, plan: Plan, directory: Path) -> None:
        self.plans.append((directory.name, plan))
        write_plan(directory, plan)
        done: list[Record] = []
        while runs := pending(plan, done):
            for run in runs:
                record = self._record(plan, run)
                append_record(directory, record)
                done.append(record)
                self._log(plan, run, directory)

    def _record(self, plan: Plan, run: Run) -> Record:
        score = self.score(run.method, run.seed)
        reference: Mapping[str, float] = plan.config["reference"]
        test = {name: value * (1 + (score or 0.0) / 100) for name, value in reference.items()}
        return Record(
            run_id=run.run_id,
            problem=plan.problem,
            preset=plan.preset,
            method=run.method,
            task=run.task,
            seed=run.seed,
            lr=run.lr,
            status="failed" if score is None else "ok",
            error="the loss of g1t1 is not finite" if score is None else None,
            metrics={} if score is None else {"test": test, "validation": test, "trivial": test},
            validation_score=score if score is not None else float("nan"),
            best_epoch=1,
            epochs=1,
            steps=10,
            seconds=1.0,
            seconds_per_step=0.2 if "go4align" in run.method else 0.1,
            peak_memory_mb=300.0,
            fallbacks=0,
            parameters=10,
            config=run_config(plan, run).model_dump(),
            versions={},
            git=None,
            started="2026-01-01T00:00:00",
        )

    def _log(self, plan: Plan, run: Run, directory: Path) -> None:
        rows = self.groups.get(run.method)
        if rows is None:
            return
        folder = directory / "runs" / run.run_id
        folder.mkdir(parents=True, exist_ok=True)
        header = ["step", *(f"group_{task.name}" for task in plan.tasks)]
        with open(folder / "steps.csv", "w", newline="") as file:
            csv.writer(file).writerows([header, *([step + 1, *row] for step, row in enumerate(rows))])
