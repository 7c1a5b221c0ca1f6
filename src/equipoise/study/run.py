"""A whole study: its directory, its cells, and what they say."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from equipoise.cluster.connection import Place
from equipoise.training.planned import Planned
from equipoise.training.problem import Problem
from equipoise.training.storage import storing, write_atomically

from .analysis import Findings, generalisation_gap, merit, optimisation_gap
from .cell import FILE, CellResult, keep_cell, read_cells
from .plan import Cell, StudyError, StudyPlan
from .pool import Job, Results, Watch, run_cells
from .ray_cells import cells_on_ray
from .verdict import verdicts

PLAN = "plan.json"
STUDY = "study.json"
_KEPT = Planned(PLAN, "study", StudyError)


class Show(Watch, Protocol):
    """Who is told how a study goes."""

    def stage(self, name: str, total: int, done: int) -> None:
        """It begins, with so many cells in all, of which some were done before."""

    def finished(self, label: str, text: str) -> None:
        """A cell is written down."""


def run_study(
    plan: StudyPlan,
    problem: type[Problem],
    directory: Path,
    show: Show,
    *,
    jobs: int | Place,
    retry: bool = False,
) -> list[CellResult]:
    """Train every cell that the directory has no result of.

    Args:
        plan: of the study, kept in the directory already.
        problem: the class.
        directory: of the study, which this process holds.
        show: who is told how it goes.
        jobs: how many cells at a time, each in a process of its own; 1 trains in this one. Or a place on Ray.
        retry: whether cells that failed are trained again.

    Returns:
        The result of every cell, in the order of the plan.

    Raises:
        StudyError: if `jobs` is below 1.
        StorageError: if the directory cannot be written.
    """
    if isinstance(jobs, int) and jobs < 1:
        raise StudyError(f"`jobs` should be at least 1. Found {jobs}.")
    cells = plan.cells()
    done = {one.cell: one for one in read_cells(directory) if one.error is None or not retry}
    left = [cell for cell in cells if cell not in done]
    if left:
        _prepare(plan, problem)
    show.stage("cells", len(cells), len(cells) - len(left))
    with closing(_trained(Job(problem, plan, directory), left, jobs, show)) as results:
        for result in results:
            keep_cell(directory, result)
            done[result.cell] = result
            show.finished(result.cell.name, _told(result))
    return [done[cell] for cell in cells]


def _told(result: CellResult) -> str:
    if result.error is not None:
        return f"{result.cell.name} FAILED: {result.error}"
    score = "" if result.score is None else f"validation score {result.score:.1f}, "
    return f"{result.cell.name}: {score}{result.steps} steps in {result.seconds:.0f} s"


def _trained(job: Job, cells: Sequence[Cell], jobs: int | Place, show: Show) -> Results:
    if isinstance(jobs, Place):
        return cells_on_ray(job, cells, jobs, show)
    threads = max(1, torch.get_num_threads() // jobs)
    return run_cells(replace(job, threads=threads), cells, jobs, show)


def _prepare(plan: StudyPlan, problem: type[Problem]) -> None:
    """Read all data once: what is missing is said at once, and workers find filled caches."""
    names = plan.names if plan.domains else plan.names[:1]
    for name in names:
        problem(**plan.config_of(Cell((name,), None, *plan.capacities[0], plan.seeds[0])).options)


def keep_plan(plan: StudyPlan, directory: Path, facts: Mapping[str, Any], *, resume: bool) -> None:
    """Write the plan into a new directory, or compare it with the one that is there.

    Args:
        plan: of the study.
        directory: of the study.
        facts: command, versions and commit, kept beside the plan and not compared.
        resume: whether to go on in a directory that was begun.

    Raises:
        StudyError: if the directory holds another study or anything else, or was begun and `resume` is not set.
        StorageError: if it cannot be written.
    """
    if _KEPT.keep(directory, plan, facts) and not resume and (directory / FILE).exists():
        raise StudyError(
            f"{directory} was begun with this study and has {len(read_cells(directory))} finished cells: add --resume "
            "to go on, or choose another one with --out."
        )


def read_plan(directory: Path) -> StudyPlan:
    """The plan of a directory.

    Raises:
        StudyError: if there is none, or it cannot be read.
    """
    return _KEPT.read(directory, StudyPlan)


def write_findings(found: Findings, directory: Path) -> None:
    """Write `study.json`: the plan, the verdicts, and every number that figures and page show.

    Raises:
        StorageError: if it cannot be written.
    """
    plan = found.plan
    content = {
        "plan": plan.model_dump(mode="json"),
        "verdicts": [asdict(verdict) for verdict in verdicts(found)],
        "hidden": dict(found.hidden),
        "noise": {part: noise and asdict(noise) for part, noise in found.noise.items()},
        "capacities": [
            {"depth": depth, "width": width, "parameters": count}
            for (depth, width), count in found.parameters.items()
        ],
        "best": [
            {"pair": pair, "depth": depth, "width": width, **asdict(best)}
            for (pair, (depth, width)), best in found.best.items()
        ],
        "gain_per_doubling": found.trend and asdict(found.trend),
        "transfer": [{"pair": pair, **asdict(one)} for pair, one in found.transfer.items()],
        "transfer_mean": found.transfer_mean and asdict(found.transfer_mean),
        "correlations": [asdict(one) for one in found.correlations],
        "cells": [_numbers(found, result) for result in found.results],
    }
    with storing(directory / STUDY):
        write_atomically(directory / STUDY, json.dumps(_finite(content), indent=1, allow_nan=False))


def _numbers(found: Findings, result: CellResult) -> dict[str, Any]:
    last = result.history[-1]
    gradients = {name: last[name] for name in ("conflict", "cosine", "magnitude") if name in last}
    return {
        **asdict(result.cell),
        "steps": result.steps,
        "parameters": result.parameters,
        "validation": result.metrics["validation"],
        "test": result.metrics["test"],
        "train": last["train"],
        "train_loss": last["loss"],
        "merit": merit(found.plan, result, "test"),
        "generalisation_gap": generalisation_gap(found.plan, result),
        "optimisation_gap": optimisation_gap(found.results, result) if result.cell.joint else None,
        **gradients,
    }


def _finite(value: Any) -> Any:
    """Numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
