"""From a configuration to the pieces of a run: tasks, random streams, batches on the device."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from equipoise.build import METHODS, WRAPPERS, hyper_parameters
from equipoise.core import MethodSpec


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
    if task in tasks:
        return str(task)
    near = difflib.get_close_matches(str(task), tasks, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"`task` should be one of {', '.join(tasks)} or a position. Found {task!r}.{hint}")


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
