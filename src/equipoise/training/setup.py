"""From a configuration to the pieces of a run: tasks, random streams, batches on the device."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from equipoise.build import METHODS, WRAPPERS, hyper_parameters
from equipoise.core import MethodSpec
from equipoise.core.names import check_known

from .config import RunConfig
from .schedule import Schedule


def task_of(spec: MethodSpec, tasks: Sequence[str]) -> str | None:
    """The one task that a single-task run trains, None for every other method.

    Args:
        spec: of the method; `stl:task=NAME` and `stl:task=POSITION` train one task.
        tasks: the task names in order.

    Raises:
        ValueError: on a task that is not there; the nearest name is given.
    """
    if spec.name != "stl":
        return None
    task = spec.kwargs.get("task", 0)
    if isinstance(task, int) and 0 <= task < len(tasks):
        return tasks[task]
    check_known("`task`, a name or a position,", str(task), tasks)
    return str(task)


def stream_seed(seed: int, stream: str) -> int:
    """An independent seed for each purpose, so that no two streams of a run share their numbers."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{stream}".encode()).digest()[:7])


def with_streams(spec: MethodSpec, seed: int) -> MethodSpec:
    """The same method with its random streams, if it has any and they are not set, started at `seed`."""

    def seeded(cls: Any, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"seed": seed, **kwargs} if "seed" in hyper_parameters(cls) else kwargs

    if spec.name not in METHODS or any(name not in WRAPPERS for name, _ in spec.wrappers):
        return spec  # `build_method` says what is wrong
    wrappers = tuple((name, seeded(WRAPPERS[name], kwargs)) for name, kwargs in spec.wrappers)
    return MethodSpec(spec.name, seeded(METHODS[spec.name], spec.kwargs), wrappers)


def optimizer_of(
    model: Sequence[Tensor], learned: Sequence[Tensor], config: RunConfig, per_epoch: int, steps: int
) -> tuple[torch.optim.Optimizer, Schedule]:
    """Adam, AdamW or SGD and its schedule, with a group of their own for the weights that the method learns.

    SGD: v <- momentum v + g + weight_decay p, p <- p - lr v (the form of `torch.optim.SGD`, without dampening).

    Reference: Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019,
    https://arxiv.org/abs/1711.05101, algorithm 2, with the learning rate in place of its schedule multiplier, as in
    `torch.optim.AdamW`.

    Args:
        model: the parameters of the model, all of which decay.
        learned: the weights that the method learns, which do not decay.
        config: of the run.
        per_epoch: steps of an epoch.
        steps: of the whole run.

    Raises:
        ValueError: as `Schedule`.
    """
    train = config.train
    groups: list[dict[str, Any]] = [
        {"params": list(model), "lr": config.lr, "weight_decay": train.weight_decay}
    ]
    if learned:
        groups.append({"params": list(learned), "lr": train.method_lr, "weight_decay": 0.0})
    if train.optimizer == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(groups, momentum=train.momentum)
    else:
        optimizer = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[train.optimizer](groups)
    return optimizer, Schedule(optimizer, train, per_epoch=per_epoch, steps=steps)


def moved(batch: Any, device: torch.device) -> Any:
    """A batch of tensors in tuples, lists and dicts, on a device."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {key: moved(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(moved(value, device) for value in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(moved(value, device) for value in batch)
    return batch


def all_moved(batches: Iterable[Any], device: torch.device) -> Iterator[Any]:
    """Batches, each put on a device when its turn comes."""
    return (moved(batch, device) for batch in batches)
