"""What the ranks of the distributed tests run, and the single process that they are compared with."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import equipoise as eq
from networks import TwoPart, network

STEPS = 13  # so that tasks are absent on one rank, on the other, and on both
Trained = tuple[dict[str, Tensor], list[Tensor]]  # parameters at the end, weights of each step
SIZE = 8  # samples of both ranks together

SPECS = [
    *sorted(eq.METHODS),
    "coba:window=5:warmup=2",
    "go4align:indicator=grad_norm",
    "lr_annealing:statistic=entries",
    "mgda:normalization=loss+",
    "relobralo:rho=0.5",
    "stch:warmup=4",
    "famo+grouped",
    "nashmtl+every:steps=3",
    "mgda+ema",
    "upgrad+clip_norm",
    "cagrad+log_losses",
]


@dataclass(frozen=True)
class Case:
    """One training run.

    Args:
        spec: the method.
        split: how many of the samples the first rank gets.
        counts: whether the Balancer is told how many samples there are.
        absent: whether the first rank lacks task 0 at every third step, and the second one task 1 at every fourth.
        ddp: options of DistributedDataParallel; None to leave the network alone.
        kind: of the network.
        memory: the mode.
    """

    spec: str
    split: int = 4
    counts: bool = False
    absent: bool = False
    ddp: dict[str, Any] | None = field(default_factory=dict)
    kind: str = "mlp"
    memory: str = "auto"


def losses_of(model: nn.Module, x: Tensor, y: Tensor) -> list[Tensor]:
    """Three losses (), above 0: means over the samples."""
    outputs = model(x)
    scales = (1.0, 3.0, 0.2)
    return [
        s * ((out - y[:, i]).square().mean() + 0.1)
        for i, (s, out) in enumerate(zip(scales, outputs, strict=True))
    ]


def blown(loss: Tensor) -> Tensor:
    """The same number with a gradient that is not finite."""
    return loss.detach() + 1e200 * (1e200 * (loss - loss.detach()))


def data(step: int) -> tuple[Tensor, Tensor]:
    """A batch (b, 6) and its targets (b, 3)."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(SIZE, 6, generator=generator, dtype=torch.float64)
    return x, torch.randn(SIZE, 3, generator=generator, dtype=torch.float64)


def lacks(case: Case, step: int, rank: int, task: int) -> bool:
    """Whether a rank has no labels of a task in a step."""
    return (
        case.absent
        and step > 0
        and ((rank, task, step % 3) == (0, 0, 0) or (rank, task, step % 4) == (1, 1, 0))
    )


def train(case: Case, model: nn.Module, rank: int | None) -> Trained:
    """The parameters after the last step, and the weights of each step; rank None for a single process."""
    torch.manual_seed(0)
    bare = model.module if isinstance(model, DistributedDataParallel) else model
    assert isinstance(bare, TwoPart)
    balancer = eq.Balancer(eq.build_method(case.spec, 3), shared=bare.encoder, memory=case.memory)
    optimizer = (
        torch.optim.SGD(
            [{"params": model.parameters()}, {"params": balancer.parameters()}], lr=0.01, momentum=0.9
        )
        if list(balancer.parameters())
        else torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    )
    weights = []
    for step in range(STEPS):
        optimizer.zero_grad()
        if balancer.method.second_batch:
            balancer.measure(**_losses(case, model, 1000 + step, rank))
        record = balancer.backward(**_losses(case, model, step, rank))
        optimizer.step()
        weights.append(record.weights)
    parameters = dict(bare.state_dict())
    parameters.update({f"learned {i}": p.detach() for i, p in enumerate(balancer.parameters())})
    return parameters, weights


def _losses(case: Case, model: nn.Module, step: int, rank: int | None) -> dict[str, Any]:
    x, y = data(step)
    if rank is not None:
        here = slice(0, case.split) if rank == 0 else slice(case.split, None)
        losses = losses_of(model, x[here], y[here])
        present = [not lacks(case, step, rank, task) for task in range(3)]
        losses = [loss if there else loss * torch.nan for loss, there in zip(losses, present, strict=True)]
        return {"losses": losses, "present": present} | (
            {"counts": [len(x[here])] * 3} if case.counts else {}
        )
    if not case.absent:
        return {"losses": losses_of(model, x, y)}
    parts = [losses_of(model, x[here], y[here]) for here in (slice(0, case.split), slice(case.split, None))]
    amounts = [case.split if case.counts else 1, SIZE - case.split if case.counts else 1]
    mixed = []
    for task in range(3):
        have = [r for r in (0, 1) if not lacks(case, step, r, task)]
        mixed.append(sum(amounts[r] * parts[r][task] for r in have) / sum(amounts[r] for r in have))
    return {"losses": mixed}


def on_rank(rank: int, cases: list[Case]) -> list[Trained]:
    """All cases, one after the other."""
    found = []
    for case in cases:
        model: nn.Module = network(case.kind)
        if case.ddp is not None:
            model = DistributedDataParallel(model, **case.ddp)
        found.append(train(case, model, rank))
        dist.barrier()
    return found


def alone(case: Case) -> Trained:
    """The same with both ranks' samples in one process."""
    return train(case, network(case.kind), None)


def said_by(balancer: eq.Balancer, losses: list[Tensor], **more: Any) -> str:
    """The message of the error that a step ends with."""
    try:
        balancer.backward(losses, **more)
    except ValueError as error:
        return str(error)
    return ""


def complaints(rank: int) -> dict[str, Any]:
    """What a rank says of mistakes that only show when the ranks meet."""
    x, y = data(0)
    model = network("mlp")
    shared = list(model.encoder.parameters())
    found: dict[str, Any] = {}
    found["seeds"] = said_by(eq.Balancer(eq.build_method("rlw", 3, seed=rank)), losses_of(model, x, y))
    other = network("mlp" if rank == 0 else "conv no norm")
    found["networks"] = said_by(eq.Balancer(eq.build_method("mgda", 3)), losses_of(other, x, y))
    named = eq.Balancer(eq.build_method("mgda", 3), tasks=["a", "b", "c"], shared=shared)
    given = dict(zip("abc", losses_of(model, x, y), strict=True))
    given.pop("b")
    found["first step"] = said_by(named, given)  # type: ignore[arg-type]
    present = [True, rank == 0, True]
    found["lacking"] = said_by(eq.Balancer(eq.build_method("ls", 3)), losses_of(model, x, y), present=present)
    losses = losses_of(model, x, y)
    losses[1] = losses[1] * (torch.nan if rank == 1 else 1.0)
    found["nan"] = said_by(eq.Balancer(eq.build_method("ls", 3)), losses)
    found["untouched"] = all(p.grad is None for p in model.parameters())
    return found


def dies(rank: int) -> None:
    """Trains until the second rank kills itself within a step."""
    model = network("mlp")
    balancer = eq.Balancer(eq.build_method("mgda", 3))
    for step in range(1000):
        if rank == 1 and step == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        model.zero_grad()
        balancer.backward(losses_of(model, *data(step)))


def some_steps(
    spec: str, first: int, last: int, state: dict[str, Any] | None
) -> tuple[list[Tensor], dict[str, Any]]:
    """The parameters after the steps from `first` to `last`, and the state to go on from."""
    model = network("mlp")
    balancer = eq.Balancer(eq.build_method(spec, 3), shared=model.encoder.parameters())
    optimizer = torch.optim.Adam([*model.parameters(), *balancer.parameters()], lr=0.01)
    if state is not None:
        model.load_state_dict(state["model"])
        balancer.load_state_dict(state["balancer"])
        optimizer.load_state_dict(state["optimizer"])
    for step in range(first, last):
        optimizer.zero_grad()
        if balancer.method.second_batch:
            balancer.measure(losses_of(model, *data(1000 + step)))
        balancer.backward(losses_of(model, *data(step)), present=[True, step % 3 != 1, True])
        optimizer.step()
        if step % 2:
            balancer.after_step(losses_of(model, *data(step)))
    state = {
        "model": model.state_dict(),
        "balancer": balancer.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    return [p.detach() for p in model.parameters()], state


def resumed(_rank: int, folder: str) -> dict[str, list[Tensor]]:
    """The parameters of every method five steps after its saved state."""
    states = [torch.load(Path(folder) / f"{i}.pt", weights_only=True) for i in range(len(SPECS))]
    return {spec: some_steps(spec, 5, 10, state)[0] for spec, state in zip(SPECS, states, strict=True)}


def complaints_of_modes(rank: int) -> str:
    """What a rank says where the second one leaves out the loss of a task that the first one has."""
    model = network("mlp")
    balancer = eq.Balancer(
        eq.build_method("mgda", 3), tasks=["a", "b", "c"], shared=model.encoder, memory="layerwise"
    )
    names = dict(zip("abc", losses_of(model, *data(0)), strict=True))
    balancer.backward(names)
    names = dict(zip("abc", losses_of(model, *data(1)), strict=True))
    if rank == 1:
        names.pop("b")
    return said_by(balancer, names)  # type: ignore[arg-type]


class LeftOut(nn.Module):
    """Two residual layers, of which one may be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.skip = False

    def forward(self, inputs: Tensor) -> Tensor:
        """Features (b, 8)."""
        hidden = torch.tanh(self.first(inputs))
        hidden = hidden if self.skip else hidden + torch.tanh(self.second(hidden))
        return hidden + torch.tanh(self.last(hidden))


def layers_left_out(rank: int) -> dict[str, str]:
    """What a rank says, by memory mode, where the second one leaves out a layer in the second step."""
    found = {}
    for memory in ("rows", "sketch", "layerwise", "factored"):
        torch.manual_seed(0)
        model = TwoPart(LeftOut(), 8, 3).double()
        balancer = eq.Balancer(eq.build_method("mgda", 3), shared=model.encoder, memory=memory)
        balancer.backward(losses_of(model, *data(0)))
        assert isinstance(model.encoder, LeftOut)
        model.encoder.skip = rank == 1
        found[memory] = said_by(balancer, losses_of(model, *data(1)))
    return found
