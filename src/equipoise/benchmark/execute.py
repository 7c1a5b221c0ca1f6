"""One run of a plan, from its configuration to its record."""

from __future__ import annotations

import math
import traceback
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from equipoise.training.checkpoint import remove_checkpoint
from equipoise.training.loop import Trainer
from equipoise.training.outcome import Hooks, InterruptedRunError
from equipoise.training.problem import Problem
from equipoise.training.storage import StorageError, storing

from .provenance import source_commit, versions
from .records import Plan, Record
from .runs import Run, run_config

_NOTHING: dict[str, Any] = {
    "metrics": {},
    "validation_score": math.nan,
    "best_epoch": 0,
    "epochs": 0,
    "steps": 0,
    "seconds": 0.0,
    "seconds_per_step": math.nan,
    "peak_memory_mb": None,
    "fallbacks": 0,
    "parameters": 0,
}


@dataclass(frozen=True)
class Files:
    """Where the files of one run lie.

    Args:
        folder: of the logs.
        checkpoint: while it is under way.
    """

    folder: Path
    checkpoint: Path

    @classmethod
    def of(cls, directory: Path, run: Run) -> Files:
        """The files of a run in a run directory."""
        return cls(directory / "runs" / run.run_id, directory / "checkpoints" / f"{run.run_id}.pt")


def execute(problem: Problem, plan: Plan, run: Run, directory: Path, hooks: Hooks) -> Record:
    """Train one run to its end, or resume it. A run that fails gives a record of its failure.

    Raises:
        InterruptedRunError: if it was asked to stop; it can be resumed.
        StorageError: if the run directory cannot be written; it can be resumed.
    """
    files = Files.of(directory, run)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    if run.refused:
        return failed(plan, run, run.refused, started)
    try:
        config = run_config(plan, run)
        trainer = Trainer(problem, config, files.folder, files.checkpoint, hooks, test=run.test)
        outcome = trainer.run()
    except (InterruptedRunError, StorageError):
        raise
    except Exception as error:  # any failure of one run must not end the others
        text = f"{type(error).__name__}: {error}"
        with storing(files.folder):
            files.folder.mkdir(parents=True, exist_ok=True)
            (files.folder / "error.txt").write_text(traceback.format_exc())
        return failed(plan, run, text, started)
    return _record(plan, run, started, {"status": "ok", "error": None, **asdict(outcome)})


def failed(plan: Plan, run: Run, error: str, started: str = "") -> Record:
    """The record of a run that failed."""
    return _record(plan, run, started, {"status": "failed", "error": error, **_NOTHING})


def clean_up(directory: Path, run_ids: Iterable[str]) -> None:
    """Remove the checkpoints of runs that will not go on."""
    for name in run_ids:
        remove_checkpoint(directory / "checkpoints" / f"{name}.pt")


def _record(plan: Plan, run: Run, started: str, found: dict[str, Any]) -> Record:
    return Record(
        run_id=run.run_id,
        problem=plan.problem,
        preset=plan.preset,
        method=run.method,
        task=run.task,
        seed=run.seed,
        lr=run.lr,
        trial=run.trial,
        config={**run_config(plan, run).model_dump(), "reference": plan.config["reference"]},
        versions=versions(),
        git=source_commit(),
        started=started,
        **found,
    )
