"""What the ranks of the tests with `fully_shard` run, and the single process that they are compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

import equipoise as eq
from networks import TwoPart, encoder
from rank_cases import SIZE, data, losses_of

STEPS = 7  # in the last one a task is absent everywhere, and the first rank lacks another
Trained = tuple[dict[str, Tensor], list[Tensor]]  # parameters at the end, weights of each step


class Summed(TwoPart):
    """A network whose outputs are no views, which `fully_shard` warns about."""

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """One output (b,) per task."""
        features = self.encoder(inputs)
        return [head(features).sum(1) for head in self.heads]


@dataclass(frozen=True)
class Case:
    """One training run.

    Args:
        spec: the method.
        split: how many of the samples the first rank gets.
        counts: whether the Balancer is told how many samples there are.
        absent: whether a rank lacks a task at some steps, whose loss is NaN then, and task 2 is absent at the last one.
        heads: the `head_weights`, or "" for the method's.
        parts: what is sharded at once: the "whole" network, or each of its "layers".
        mesh: its sizes: (2,) for shards, (2, 1) for copies, each in one shard.
        length: micro-batches in a step of the optimizer.
        kind: of the network.
        kept: whether every second step adds to the gradients of the one before.
    """

    spec: str
    split: int = 4
    counts: bool = False
    absent: bool = False
    heads: str = ""
    parts: str = "whole"
    mesh: tuple[int, ...] = (2,)
    length: int = 1
    kind: str = "mlp"
    kept: bool = False


def network(kind: str) -> Summed:
    """Always the same network of one kind."""
    torch.manual_seed(0)
    return Summed(encoder(kind), 8, 3).double()


def shard(model: Summed, case: Case) -> None:
    """Shard a network in place."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    names = ("copies", "shards")[-len(case.mesh) :]
    mesh = init_device_mesh("cpu", case.mesh, mesh_dim_names=names)
    if case.parts == "layers":
        for layer in (*model.encoder.children(), *model.heads):
            if any(True for _ in layer.parameters()):
                fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


def lacks(case: Case, step: int, rank: int, task: int) -> bool:
    """Whether a rank has no labels of a task in a step."""
    if not case.absent or step == 0:
        return False
    alone = (rank, task, step % 3) == (0, 0, 0) or (rank, task, step % 4) == (1, 1, 0)
    return alone or (task == 2 and step == STEPS - 1)


def whole(parameter: Tensor) -> Tensor:
    """All of a parameter, on every rank."""
    full: Tensor = parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter
    return full.detach()


def train(case: Case, model: Summed, rank: int | None) -> Trained:
    """The parameters after the last step, and the weights of each step; rank None for a single process."""
    torch.manual_seed(0)
    names = [name for name, _ in model.named_parameters()]
    parameters = list(model.parameters())
    options: dict[str, Any] = {"head_weights": case.heads} if case.heads else {}
    balancer = eq.Balancer(
        eq.build_method(case.spec, 3),
        shared=model.encoder.parameters(),
        accumulate=1 if rank is None else case.length,
        **options,
    )
    optimizer = torch.optim.SGD(
        [{"params": parameters}, {"params": [*balancer.parameters()]}], lr=0.01, momentum=0.9
    )
    weights = []
    for step in range(STEPS):
        if not (case.kept and step % 2):
            optimizer.zero_grad()
        parts = _parts(case, rank)
        for here in parts if rank is not None else [slice(None)]:
            if balancer.method.second_batch:
                balancer.measure(**_losses(case, model, 1000 + step, rank, here))
            record = balancer.backward(**_losses(case, model, step, rank, here))
        optimizer.step()
        weights.append(record.weights)
    found = {name: whole(p).clone() for name, p in zip(names, parameters, strict=True)}
    found.update({f"learned {i}": p.detach() for i, p in enumerate(balancer.parameters())})
    return found, weights


def _parts(case: Case, rank: int | None) -> list[slice]:
    """Which samples a rank sees in each micro-batch."""
    begin, end = (0, case.split) if rank == 0 else (case.split, SIZE)
    bounds = torch.linspace(begin, end, case.length + 1).round().int().tolist()
    return [slice(a, b) for a, b in pairwise(bounds)]


def _losses(case: Case, model: nn.Module, step: int, rank: int | None, here: slice) -> dict[str, Any]:
    x, y = data(step)
    if rank is not None:
        missing = [lacks(case, step, rank, task) for task in range(3)]
        targets = y[here].clone()
        targets[:, missing] = torch.nan
        losses = losses_of(model, x[here], targets)
        told = {"counts": [len(x[here])] * 3} if case.counts else {}
        return {"losses": losses, "present": [not gone for gone in missing]} | told
    if not case.absent:
        return {"losses": losses_of(model, x, y)}
    halves = [_parts(case, r)[0] for r in (0, 1)]
    parts = [losses_of(model, x[half], y[half]) for half in halves]
    amounts = [case.split if case.counts else 1, SIZE - case.split if case.counts else 1]
    mixed: list[Tensor] = []
    for task in range(3):
        have = [r for r in (0, 1) if not lacks(case, step, r, task)]
        total = sum(amounts[r] for r in have)
        mixed.append(
            torch.stack([amounts[r] * parts[r][task] for r in have]).sum() / total if have else parts[0][task]
        )
    present = [not (lacks(case, step, 0, task) and lacks(case, step, 1, task)) for task in range(3)]
    return {"losses": mixed, "present": present}


def on_rank(rank: int, cases: list[Case]) -> list[Trained]:
    """All cases, one after the other."""
    found = []
    for case in cases:
        model = network(case.kind)
        shard(model, case)
        try:
            found.append(train(case, model, rank))
        except Exception as error:
            raise RuntimeError(str(case)) from error
        dist.barrier()
    return found


def alone(case: Case) -> Trained:
    """The same with both ranks' samples in one process."""
    return train(case, network(case.kind), None)


def said_by(make: Callable[[], eq.Balancer], losses: list[Tensor], **more: Any) -> str:
    """The message of the error that a step ends with."""
    try:
        make().backward(losses, **more)
    except ValueError as error:
        return str(error)
    return ""


def complaints(rank: int) -> dict[str, Any]:
    """What a rank says of what cannot work."""
    from torch.distributed.fsdp import fully_shard

    x, y = data(0)
    x, y = (x[:4], y[:4]) if rank == 0 else (x[4:], y[4:])
    found: dict[str, Any] = {}
    model = network("mlp")
    shard(model, Case("", parts="layers"))
    shared, everything = list(model.encoder.parameters()), list(model.parameters())
    mgda = partial(eq.build_method, "mgda", 3)
    for spec in ("graddrop", "modo"):
        method = eq.build_method(spec, 3)
        found[spec] = said_by(lambda m=method: eq.Balancer(m, shared=shared), [])  # type: ignore[misc]
    losses = losses_of(model, x, y)
    found["hidden"] = said_by(lambda: eq.Balancer(mgda()), losses)
    loss_only = eq.Balancer(eq.build_method("ls", 3))
    found["hidden counts"] = said_by(lambda: loss_only, losses, counts=[4, 4, 4])
    present = [True, True, rank == 0]
    missing = losses[:2] + ([losses[2]] if rank == 0 else [])
    named = eq.Balancer(mgda(), tasks=["a", "b", "c"], shared=shared)
    found["first step"] = said_by(lambda: named, dict(zip("abc", missing, strict=False)))  # type: ignore[arg-type]
    balancer = eq.Balancer(mgda(), tasks=["a", "b", "c"], shared=shared)
    marks = [torch.full_like(p, rank + 1.0) for p in everything]
    balancer.backward(dict(zip("abc", losses, strict=True)))
    for parameter, mark in zip(everything, marks, strict=True):
        parameter.grad = mark
    losses = losses_of(model, x, y)
    found["later"] = said_by(lambda: balancer, dict(zip("abc", losses[: 2 + (rank == 0)], strict=False)))  # type: ignore[arg-type]
    losses[1] = losses[1] * torch.nan
    found["nan"] = said_by(lambda: balancer, dict(zip("abc", losses, strict=True)), present=present)  # type: ignore[arg-type]
    try:
        balancer.measure(dict(zip("abc", losses_of(model, x, y), strict=True)))
    except ValueError as error:
        found["measure"] = str(error)
    found["untouched"] = all(p.grad is mark for p, mark in zip(everything, marks, strict=True))
    half = network("mlp")
    fully_shard(half.encoder)
    outer = list(half.encoder.parameters())
    found["half"] = said_by(lambda: eq.Balancer(mgda(), shared=outer), losses_of(half, x, y))
    found["half untouched"] = all(p.grad is None for p in (*outer, *half.heads.parameters()))
    both = [*outer, *half.heads.parameters()]
    found["mixed"] = said_by(lambda: eq.Balancer(mgda(), shared=both), [])
    return found


def passes(rank: int) -> dict[str, dict[str, int]]:
    """How many collectives of each kind a forward pass and a step take, for a network sharded at once."""
    from torch.profiler import ProfilerActivity, profile

    del rank
    kinds = {
        "losses": "c10d::allgather_",
        "parameters": "c10d::_allgather_base_",
        "gradients": "c10d::_reduce_scatter_base_",
        "gramian": "c10d::allreduce_",
    }
    found = {}
    for spec in ("ls", "mgda"):
        model = network("mlp")
        shard(model, Case(spec))
        balancer = eq.Balancer(eq.build_method(spec, 3), shared=model.encoder.parameters())
        balancer.backward(losses_of(model, *data(0)))
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            balancer.backward(losses_of(model, *data(1)))
        counts = {event.key: event.count for event in seen.key_averages()}
        found[spec] = {kind: counts.get(name, 0) for kind, name in kinds.items()}
    return found
