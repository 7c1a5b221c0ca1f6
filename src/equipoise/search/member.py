"""One member in one generation: goes on from its parent's checkpoint, with its own weights, and leaves its own."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch

from equipoise.core import MethodSpec
from equipoise.core.names import check_known
from equipoise.engine.checks import NotFiniteError
from equipoise.training.config import RunConfig
from equipoise.training.loop import Trainer
from equipoise.training.outcome import DivergedError, Hooks
from equipoise.training.problem import Problem, Reweightable
from equipoise.training.storage import storing

from .generations import Assignment, Result, point_of
from .gradients import gradient_norms
from .holdout import HeldOut
from .ranking import Rank, score_of
from .space import Point

Act = Literal["losses", "sampling"]


@dataclass(frozen=True)
class Setting:
    """All that the members of a search have in common.

    Args:
        config: of a whole run with equal weights; its method is `ls` or a method over domains that are sampled.
        act: what weights act on: the "losses" (the method becomes `constant`), or the "sampling" of domains (the
            option `weights` of the problem).
        fraction: of the training samples that members are trained on.
        rank: what members are compared by; see `ranking`.
        measured: whether members measure their gradients at the end; see `gradients`.

    Raises:
        ValueError: on another `act` or `rank`.
    """

    config: RunConfig
    act: Act
    fraction: float = 0.7
    rank: Rank = "delta_m"
    measured: bool = False

    def __post_init__(self) -> None:
        check_known("`act`", self.act, get_args(Act))
        check_known("`rank`", self.rank, get_args(Rank))

    def at(self, point: Point) -> RunConfig:
        """The configuration of a run at a point: its weights, its learning rate, the method's hyper-parameters.

        No run stops early: all have the same epochs, and one that takes over a network does not take over its patience.
        """
        settings = dict(point.settings)
        train = self.config.train.model_copy(update={"patience": None})
        changes: dict[str, Any] = {"lr": settings.pop("lr", self.config.lr), "train": train}
        spec = MethodSpec.parse(self.config.method)
        spec = MethodSpec(spec.name, {**spec.kwargs, **settings}, spec.wrappers)
        if self.act == "losses":
            # m p_i, so that uniform weights are those of `ls` and the learning rate means the same for all.
            scaled = [weight * len(point.weights) for weight in point.weights]
            spec = MethodSpec("constant", {"weights": scaled})
        else:
            changes["options"] = {**self.config.options, "weights": list(point.weights)}
        return self.config.model_copy(update={**changes, "method": spec.label})


Make = Callable[[Mapping[str, Any]], Problem]


def keeping(problem: type[Problem]) -> Make:
    """Builds a problem from its options, and keeps the last one while they are the same: reading data takes time.

    Where only the sampling weights differ and the problem is `Reweightable`, its data are kept too.
    """
    kept: list[tuple[dict[str, Any], Problem]] = []

    def make(options: Mapping[str, Any]) -> Problem:
        wanted = dict(options)
        if kept and kept[0][0] != wanted:
            others = [{k: v for k, v in one.items() if k != "weights"} for one in (wanted, kept[0][0])]
            old = kept[0][1]
            if isinstance(old, Reweightable) and others[0] == others[1] and wanted.get("weights"):
                kept[:] = [(wanted, old.reweighted(wanted["weights"]))]
        if not kept or kept[0][0] != wanted:
            kept[:] = [(wanted, problem(**options))]
        return kept[0][1]

    return make


def train_member(
    make: Make, setting: Setting, assignment: Assignment, directory: Path, hooks: Hooks | None = None
) -> Result:
    """Train one member for one generation, from wherever a kill has left it.

    Args:
        make: builds the problem from options.
        setting: of the search.
        assignment: what to do.
        directory: of the search; checkpoints lie in its folder `checkpoints`.
        hooks: what the caller wants to hear and say.

    Raises:
        InterruptedRunError: if `hooks.stop` said so; it can go on.
        StorageError: if the directory cannot be written.
        FileNotFoundError: if the checkpoint of the parent is not there.
    """
    began = time.perf_counter()
    config = setting.at(point_of(assignment))
    path = checkpoint_of(directory, assignment.generation, assignment.member)
    if assignment.parent is not None:
        _inherit(checkpoint_of(directory, assignment.generation - 1, assignment.parent), path)
    problem = cast("Problem", HeldOut(make(config.options), setting.fraction, config.seed))
    folder = directory / "members" / path.stem
    try:
        trainer = Trainer(problem, config, folder, path, hooks, adopt=True)
        metrics, _ = trainer.advance(assignment.end)
    except (DivergedError, NotFiniteError):
        return Result(assignment, None, {}, time.perf_counter() - began)
    score = score_of(setting.rank, problem, metrics)
    if setting.measured:
        metrics = metrics | gradient_norms(problem, trainer.model, torch.device(config.device), config.seed)
    return Result(assignment, score, metrics, time.perf_counter() - began)


def checkpoint_of(directory: Path, generation: int, member: int) -> Path:
    """Where a member leaves its network at the end of a generation."""
    return directory / "checkpoints" / f"generation{generation:04d}-member{member:04d}.pt"


def _inherit(parent: Path, path: Path) -> None:
    """Copy a checkpoint, whole or not at all, unless the member has one of its own already."""
    if path.exists():
        return
    if not parent.exists():
        raise FileNotFoundError(f"`{parent}` should exist, since {path.stem} goes on from it.")
    with storing(path):
        fresh = path.with_suffix(".copy")
        shutil.copyfile(parent, fresh)
        os.replace(fresh, path)
