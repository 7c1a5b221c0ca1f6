"""What can be told of parameters that `fully_shard` (FSDP2) has sharded."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import torch.distributed as dist
from torch import Tensor


def refuse_hidden_shards(parameters: Iterable[Tensor]) -> None:
    """Refuse to write gradients to the copies of sharded parameters that live during a step: no optimizer reads them.

    Raises:
        ValueError: if there is one.
    """
    if "torch.distributed.fsdp" not in sys.modules or not (dist.is_available() and dist.is_initialized()):
        return
    registered = {parameter for module in _modules() for parameter in module.parameters()}
    for parameter in parameters:
        freed = parameter.numel() > 0 and parameter.untyped_storage().size() == 0
        if freed or parameter in registered:
            raise ValueError(
                "Where fully_shard shards the parameters, `shared` should name the shared ones. Found one of shape "
                f"{tuple(parameter.shape)} that was not given as sharded: build the Balancer after fully_shard and "
                "before the network's first forward pass, with shared=model.encoder or its parameters."
            )


def is_sharded(parameter: Tensor) -> bool:
    """Whether each rank holds a part of a parameter; told without an import that few programs need."""
    return hasattr(parameter, "to_local")


def placements(parameter: Tensor) -> list[str]:
    """How a parameter is spread over each dimension of its mesh; empty if it is whole."""
    return [type(placement).__name__ for placement in getattr(parameter, "placements", ())]


def like(parameter: Any, local: Tensor) -> Tensor:
    """A sharded tensor, spread like a parameter, with this local part."""
    from torch.distributed.tensor import DTensor  # imported late: it is slow, and few programs need it

    return DTensor.from_local(
        local,
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )


def _modules() -> Iterator[Any]:
    """All modules that `fully_shard` was called on: nothing leads from a sharded parameter or the graph to them."""
    from torch.distributed.fsdp import FSDPModule  # imported late, for the same reason

    return (thing for thing in gc.get_objects() if issubclass(type(thing), FSDPModule))


def sharded_parameters() -> list[Tensor]:
    """All sharded parameters that require gradients."""
    found: dict[Tensor, None] = {}
    for module in _modules():
        module.reshard()  # after a forward pass the outermost module shows whole copies in their place
        found.update(dict.fromkeys(p for p in module.parameters() if is_sharded(p) and p.requires_grad))
    return list(found)
