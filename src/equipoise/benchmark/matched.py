"""Rows at matched compute: the methods that cost more than `ls`, trained for as long as `ls` pays for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from equipoise.build import build_method
from equipoise.core import Method, MethodSpec, Reads
from equipoise.training.config import TrainConfig

from .records import Plan, Record
from .runs import COMPUTE, Run, base_label

FORWARD, BACKWARD = 1, 2
"""What a pass costs, in units of a forward pass; a backward pass multiplies with weights twice, for two gradients."""
_PARTS_OF_A_PASS = ("features", "last_layer")  # memory modes whose gradients do not go through the network
_NOT_COMPARED = ("epochs", "warmup_epochs", "step_epochs")
SHORTENED = tuple(f"train.{name}" for name in _NOT_COMPARED)
"""Settings in which a row at matched compute differs from its plan."""


def units(record: Record) -> float | None:
    """The passes of a run in units of a forward pass; None where they were not counted."""
    if record.forwards is None or record.backwards is None:
        return None
    return FORWARD * record.forwards + BACKWARD * record.backwards


def matched(plan: Plan, run: Run, method: Record, unit: Record) -> Run:
    """A run with as many epochs as the units of `ls` pay for, or one that says why there is none.

    With U units in E epochs of the chosen run of the method, and U', E' of that of `ls`, a plan of T epochs gives
    floor(T (U' / E') / (U / E)). Warm-up and the epochs of the "step" schedule are shortened in the same proportion.

    Args:
        plan: of the run.
        run: with the setting of the method.
        method: the record of that setting on the first seed.
        unit: that of `ls`.
    """
    spent, paid = units(method), units(unit)
    if not spent or not paid:
        return replace(run, refused=f"The passes of {base_label(run.method)} and ls were not counted.")
    train = TrainConfig(**{**plan.config["train"], **run.train})
    epochs = int(train.epochs * paid * method.epochs // (spent * unit.epochs))
    if epochs < 1:
        return replace(run, refused=_too_few(base_label(run.method), train.epochs, paid, spent))
    return replace(run, train={**run.train, **shortened(train, epochs)})


def shortened(train: TrainConfig, epochs: int) -> dict[str, Any]:
    """What changes where a run has fewer epochs."""
    return {
        "epochs": epochs,
        "warmup_epochs": train.warmup_epochs * epochs // train.epochs,
        "step_epochs": max(1, train.step_epochs * epochs // train.epochs),
    }


def with_compute(methods: Iterable[str], train: TrainConfig, n_tasks: int) -> list[str]:
    """The labels of a plan with a row at the compute of `ls` after each method that is expected to cost more.

    Raises:
        ValueError: if that leaves a method less than an epoch, or a run has no whole epochs.
    """
    if train.max_steps is not None:
        raise ValueError(
            f"`max_steps` should be left out with --match compute, which shortens epochs. Found {train.max_steps}."
        )
    unit = expected("ls", train, n_tasks)
    labels = []
    for label in methods:
        cost = expected(label, train, n_tasks)
        labels += [label, *([label + COMPUTE] if cost > unit else [])]
        if train.epochs * unit < cost:
            raise ValueError(_too_few(label, train.epochs, unit, cost))
    return labels


def expected(label: str, train: TrainConfig, n_tasks: int, *, separate: bool = False) -> float:
    """What a batch of the training part is expected to cost, in units of a forward pass; runs count what it did cost.

    Args:
        label: of the method.
        train: how it is trained.
        n_tasks: the number of tasks m.
        separate: whether each task has samples of its own, of which a single-task run takes 1 / m of all on average.
    """
    spec = MethodSpec.parse(base_label(label))
    if spec.name == "stl":
        return (FORWARD + BACKWARD) / (n_tasks if separate else 1)
    method = build_method(spec, n_tasks)
    rows = n_tasks if method.reads > Reads.LOSSES else 1
    leaner = method.reads == Reads.GRAMIAN and train.memory not in ("auto", "rows", "rows_bf16", "rows_cpu")
    if leaner:
        rows = 1 + (0 if train.memory in _PARTS_OF_A_PASS else n_tasks)
    every = next((options.get("steps", 10) for name, options in spec.wrappers if name == "every"), 1)
    backwards = train.accumulate * (rows + every - 1) / every
    forwards, drawn = train.accumulate, train.accumulate + (method.second_batch == "train")
    forwards += bool(method.second_batch) + train.accumulate * (train.after_step and method.listens)
    backwards += _of_second(method, n_tasks)
    return (FORWARD * forwards + BACKWARD * backwards) / drawn


def _of_second(method: Method, n_tasks: int) -> int:
    """Backward passes for the second batch of a method."""
    return n_tasks if method.second_batch and method.reads > Reads.LOSSES else 0


def _too_few(label: str, epochs: int, paid: float, spent: float) -> str:
    needed = -(-spent // paid)
    return (
        f"The compute of `ls` should pay for at least an epoch of {label}. Found that {epochs} epoch(s) of ls pay for "
        f"{epochs * paid / spent:.2g} of {label}: give --epochs {needed:.0f} or more, or leave {label} out."
    )
