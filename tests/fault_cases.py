"""Faults that the ranks of tests/engine/test_faults.py run into."""

from __future__ import annotations

import os
import signal
import time
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import equipoise as eq
from networks import network
from rank_cases import data, losses_of
from sharded_cases import Case, shard
from sharded_cases import network as summed

PATIENCE = 2  # seconds that a group waits for a rank


class Overflows(torch.autograd.Function):
    """The loss as it is, with a gradient that is not finite."""

    @staticmethod
    def forward(_ctx: object, loss: Tensor) -> Tensor:
        return loss.clone()

    @staticmethod
    def backward(_ctx: object, gradient: Tensor) -> Tensor:
        return gradient * torch.inf


def dies(rank: int, spec: str, how: str) -> None:
    """Trains until the second rank kills itself, between two steps or within a backward pass."""
    bare = summed("mlp") if how == "shards" else network("mlp")
    if how == "shards":
        shard(bare, Case(spec))  # type: ignore[arg-type]
    shared = list(bare.encoder.parameters())
    model: nn.Module = bare if how == "shards" else DistributedDataParallel(bare)
    balancer = eq.Balancer(eq.build_method(spec, 3), shared=shared)
    for step in range(1000):
        model.zero_grad()
        losses = losses_of(model, *data(step))
        if rank == 1 and step == 3:
            if how != "pass":
                os.kill(os.getpid(), signal.SIGKILL)
            shared[0].register_hook(lambda _: os.kill(os.getpid(), signal.SIGKILL))
        balancer.backward(losses)


def hangs(rank: int) -> tuple[str, float]:
    """What the first rank says, and how long it has waited, where the second one goes its own way."""
    group = dist.new_group(timeout=timedelta(seconds=PATIENCE))
    model = network("mlp")
    balancer = eq.Balancer(eq.build_method("mgda", 3), process_group=group)
    balancer.backward(losses_of(model, *data(0)))
    began = time.monotonic()
    if rank == 1:
        time.sleep(PATIENCE + 1)  # after which the other one has stopped waiting
        return "", 0.0
    try:
        balancer.backward(losses_of(model, *data(1)))
    except RuntimeError as error:
        return str(error), time.monotonic() - began
    return "", 0.0


def nan_on_one(rank: int, specs: list[str]) -> dict[str, Any]:
    """For each method what a rank says to a NaN loss, and to a loss whose gradient is not finite, of the other one."""
    found: dict[str, Any] = {}
    for spec in specs:
        model = network("mlp")
        shared = list(model.encoder.parameters())
        balancer = eq.Balancer(eq.build_method(spec, 3), tasks=["a", "b", "c"], shared=shared)
        balancer.backward(_named(losses_of(model, *data(0))))
        model.zero_grad()
        before = {key: str(value) for key, value in balancer.method.state_dict().items()}
        losses = losses_of(model, *data(1))
        losses[1] = losses[1] * (torch.nan if rank == 1 else 1.0)
        said = [_said(balancer, losses)]
        if balancer.method.reads > eq.Reads.LOSSES:
            losses = losses_of(model, *data(1))
            losses[1] = Overflows.apply(losses[1]) if rank == 1 else losses[1]  # type: ignore[no-untyped-call]
            said.append(_said(balancer, losses))
        after = {key: str(value) for key, value in balancer.method.state_dict().items()}
        found[spec] = said, before == after and all(p.grad is None for p in model.parameters())
    return found


def _named(losses: list[Tensor]) -> dict[str, Tensor]:
    return dict(zip("abc", losses, strict=True))


def _said(balancer: eq.Balancer, losses: list[Tensor]) -> str:
    try:
        balancer.backward(_named(losses))
    except ValueError as error:
        return str(error)
    return ""
