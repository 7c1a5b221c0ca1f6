"""One cell of a study: trained, looked at after every epoch, and written down."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from equipoise.training.checkpoint import remove_checkpoint
from equipoise.training.config import RunConfig
from equipoise.training.loop import Trainer
from equipoise.training.outcome import Hooks, InterruptedRunError, Outcome
from equipoise.training.problem import Problem
from equipoise.training.storage import StorageError, append_line, storing, whole_lines

from .plan import Cell, StudyPlan
from .probe import Probe

FILE = "cells.jsonl"
Make = Callable[[Mapping[str, Any]], Problem]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class CellResult:
    """What came of a cell.

    Args:
        cell: which.
        error: why it failed, or None.
        steps: of the optimizer.
        epochs: that were trained.
        seconds: that it took, in this process.
        parameters: of the network.
        score: the trainer's validation score at the end; lower is better.
        metrics: "validation", "test" and "trivial" -> the value by domain or task, at the end of training.
        history: a row for each epoch: "epoch", "validation" by name, and what `Probe.measure` found.
    """

    cell: Cell
    error: str | None
    steps: int = 0
    epochs: int = 0
    seconds: float = 0.0
    parameters: int = 0
    score: float = math.nan
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    history: Sequence[Row] = ()

    def to_json(self) -> str:
        """One line."""
        return json.dumps({**asdict(self), "score": self.score if math.isfinite(self.score) else None})

    @classmethod
    def from_json(cls, text: str | bytes) -> CellResult:
        """Read what `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: on anything else.
        """
        raw = json.loads(text)
        cell = Cell(**{**raw["cell"], "names": tuple(raw["cell"]["names"])})
        score = math.nan if raw["score"] is None else raw["score"]
        return cls(**{**raw, "cell": cell, "score": score})


class _Seen:
    """A problem that keeps the network which it made last."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self.network: nn.Module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._problem, name)

    def model(self, seed: int) -> nn.Module:
        """See `Problem`."""
        self.network = self._problem.model(seed)
        return self.network


def train_cell(make: Make, plan: StudyPlan, cell: Cell, directory: Path, hooks: Hooks) -> CellResult:
    """Train a cell to its end, from wherever a kill has left it. One that fails gives a result that says so.

    Args:
        make: builds the problem from options.
        plan: of the study.
        cell: which.
        directory: of the study; logs lie in its folder `cells`, checkpoints in `checkpoints`.
        hooks: what the caller wants to hear and say.

    Raises:
        InterruptedRunError: if `hooks.stop` said so; it can go on.
        StorageError: if the directory cannot be written.
    """
    began = time.perf_counter()
    config = plan.config_of(cell)
    try:
        problem = make(config.options)
        outcome, history = _trained(problem, plan, cell, config, _Files(directory, cell), hooks)
    except (InterruptedRunError, StorageError):
        raise
    except Exception as error:  # any failure of one cell must not end the others
        return CellResult(cell, f"{type(error).__name__}: {error}", seconds=time.perf_counter() - began)
    metrics = {part: _chosen(plan, cell, found) for part, found in outcome.metrics.items()}
    return CellResult(
        cell,
        None,
        steps=outcome.steps,
        epochs=outcome.epochs,
        seconds=time.perf_counter() - began,
        parameters=outcome.parameters,
        score=outcome.validation_score,
        metrics=metrics,
        history=history,
    )


class _Files:
    def __init__(self, directory: Path, cell: Cell) -> None:
        self.folder = directory / "cells" / cell.name
        self.checkpoint = directory / "checkpoints" / f"{cell.name}.pt"
        self.probe = self.folder / "probe.jsonl"


def _trained(
    problem: Problem, plan: StudyPlan, cell: Cell, config: RunConfig, files: _Files, hooks: Hooks
) -> tuple[Outcome, list[Row]]:
    seen = _Seen(problem)
    trainer = Trainer(cast("Problem", seen), config, files.folder, files.checkpoint, hooks)
    metrics = {name: plan.measure(name).metric for name in cell.names}
    device = torch.device(config.device)
    probe = Probe(problem, cell.names, metrics, seed=cell.seed, batches=plan.probe, device=device)
    rows: list[Row] = [json.loads(line) for line in whole_lines(files.probe)]
    for epoch in range(len(rows) + 1, config.train.epochs + 1):
        validation, _ = trainer.advance(epoch)
        row = {"epoch": epoch, "validation": _chosen(plan, cell, validation), **probe.measure(seen.network)}
        with storing(files.probe):
            append_line(files.probe, json.dumps(row).encode())
        rows.append(row)
    return trainer.run(), rows


def _chosen(plan: StudyPlan, cell: Cell, metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: metrics[plan.measure(name).metric] for name in cell.names}


def read_cells(directory: Path) -> list[CellResult]:
    """The last result of each cell, in the order of their first ones."""
    found = (CellResult.from_json(line) for line in whole_lines(directory / FILE))
    return list({result.cell: result for result in found}.values())


def keep_cell(directory: Path, result: CellResult) -> None:
    """Write a result down, and only then let the checkpoint go.

    Raises:
        StorageError: if it cannot be written.
    """
    with storing(directory / FILE):
        append_line(directory / FILE, result.to_json().encode())
        remove_checkpoint(_Files(directory, result.cell).checkpoint)
