"""What the runs of a directory cost: passes, units, parameters, time; and what single-task networks cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from equipoise.core import MethodSpec

from .knobs import KNOBS, TRAIN_KNOBS
from .matched import units
from .records import Record
from .runs import base_label
from .summary import Summary


@dataclass(frozen=True)
class Cost:
    """What one network, or one for each task, takes to train.

    Args:
        name: label of a method, or "m single-task networks".
        parameters: of all its networks.
        forwards: in each step of each network, mean over the runs; None where they were not counted.
        backwards: likewise, through the shared parameters.
        epochs: of a run, mean over the runs.
        units: passes of all its networks in units of a forward pass, mean over the seeds; None likewise.
        seconds: of the steps of all its networks, mean over the seeds.
    """

    name: str
    parameters: int
    forwards: float | None
    backwards: float | None
    epochs: float
    units: float | None
    seconds: float


def costs(summary: Summary) -> list[Cost]:
    """One entry for each method, in the order of the summary, and one for the single-task networks together."""
    found = [_of(row.method, [row.runs]) for row in summary.methods]
    single = [runs for runs in summary.baseline_runs.values() if runs]
    if summary.plan.tasks and len(single) == len(summary.plan.tasks):
        found.append(_of(f"{len(single)} single-task networks", single))
    return found


def per_step(runs: Sequence[Record], passes: Literal["forwards", "backwards"]) -> float | None:
    """Passes in each step, mean over runs; None where one of them did not count."""
    counts = [(getattr(run, passes), run.steps) for run in runs]
    if not counts or any(count is None or not steps for count, steps in counts):
        return None
    return fmean(count / steps for count, steps in counts)


def setting_text(run: Record) -> str:
    """What was tuned of a run, in words: the learning rate, and with a budget all that its trial has."""
    words = [f"lr {run.lr:g}"]
    if run.trial is None:
        return words[0]
    train = run.config["train"]
    words.append(f"weight decay {train['weight_decay']:g}")
    trained = MethodSpec.parse(run.config["method"])
    written = MethodSpec.parse(base_label(run.method))
    of_training = sorted(TRAIN_KNOBS & KNOBS.get(trained.name, {}).keys())
    words += [f"{name.replace('_', ' ')} {train[name]:g}" for name in of_training]
    words += [f"{k} {v}" for k, v in trained.kwargs.items() if written.kwargs.get(k) != v]
    return ", ".join(words)


def _of(name: str, networks: Sequence[Sequence[Record]]) -> Cost:
    every = [run for runs in networks for run in runs]
    counted = [[units(run) for run in runs] for runs in networks]
    known = [[count for count in counts if count is not None] for counts in counted]
    whole = all(len(a) == len(b) for a, b in zip(known, counted, strict=True))
    return Cost(
        name=name,
        parameters=sum(runs[0].parameters for runs in networks),
        forwards=per_step(every, "forwards"),
        backwards=per_step(every, "backwards"),
        epochs=fmean(run.epochs for run in every),
        units=sum(map(fmean, known)) if whole else None,
        seconds=sum(fmean(run.seconds for run in runs) for runs in networks),
    )
