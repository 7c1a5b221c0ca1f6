"""A `Show` that remembers, and ways to run the toy problem."""

from pathlib import Path
from typing import Any

from equipoise.benchmark.plan import Overrides, Run, make_plan
from equipoise.benchmark.records import Plan, Record
from equipoise.benchmark.runner import How, run_plan
from equipoise.training.outcome import Progress
from equipoise.training.problem import Preview
from toy import Toy


class Shown:
    """Keeps everything it is told."""

    def __init__(self) -> None:
        self.total = self.done = -1
        self.starts: list[str] = []
        self.ends: list[tuple[str, int]] = []
        self.said: list[str] = []
        self.previews: list[Preview] = []
        self.steps: dict[str, int] = {}

    def began(self, total: int, done: int) -> None:
        self.total, self.done = total, done

    def loading(self, done: int, total: int) -> None:
        self.said.append(f"{done}/{total}")

    def started(self, run: Run) -> None:
        self.starts.append(run.run_id)

    def progress(self, run: Run, now: Progress) -> None:
        self.steps[run.run_id] = now.step

    def finished(self, record: Record, left: int) -> None:
        self.ends.append((record.run_id, left))

    def say(self, text: str) -> None:
        self.said.append(text)

    def preview(self, preview: Preview) -> None:
        self.previews.append(preview)


def toy_plan(**changes: Any) -> Plan:
    return make_plan(Toy, "quick", Overrides(**changes))


def go(
    plan: Plan, where: Path, show: Shown | None = None, problem: type[Toy] = Toy, **how: Any
) -> list[Record]:
    return run_plan(plan, problem, where, show or Shown(), How(**how))


def results(records: list[Record]) -> dict[str, Any]:
    """All of the records that may not depend on the clock."""
    return {
        r.run_id: (r.status, r.metrics, r.validation_score, r.best_epoch, r.steps, r.error) for r in records
    }
