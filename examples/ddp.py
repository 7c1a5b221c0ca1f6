"""DistributedDataParallel: each rank has its own batches, all ranks get the same weights.

    torchrun --nproc-per-node 2 examples/ddp.py

The network is wrapped as ever. Nash-MTL reads gradients, so the balancer averages the rows over the ranks and writes
`.grad` itself; a method that reads losses only would leave the gradients to DistributedDataParallel. At the end
the weights of all ranks and a sum over the parameters of each are printed: they agree. Against the loop without
Equipoise, beside the import:

    + balancer = eq.Balancer(eq.build_method("nashmtl", 3), tasks=list(UNITS))
    -         sum(losses.values()).backward()
    +         record = balancer.backward(losses)
"""

from __future__ import annotations

import argparse

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import equipoise as eq

UNITS = {"length": 1.0, "width": 1.2, "weight": 5.0}


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh())
        self.heads = nn.ModuleDict({task: nn.Linear(32, 1) for task in UNITS})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.encoder(x)
        return {task: head(features).squeeze(-1) for task, head in self.heads.items()}


def batch(size: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
    """Inputs (size, 8) and one target (size,) per task."""
    x = torch.randn(size, 8, generator=generator)
    return x, {task: unit * (x[:, i] * x[:, i + 1]).tanh() for i, (task, unit) in enumerate(UNITS.items())}


def main(steps: int) -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1 + rank)
    model = DistributedDataParallel(Network())
    balancer = eq.Balancer(eq.build_method("nashmtl", 3), tasks=list(UNITS))  # equipoise
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    history: list[Tensor] = []
    for _ in range(steps):
        x, targets = batch(128, generator)
        outputs = model(x)
        losses = {task: nn.functional.mse_loss(outputs[task], targets[task]) for task in UNITS}
        optimizer.zero_grad()
        record = balancer.backward(losses)  # equipoise
        optimizer.step()
        history.append(record.losses)  # print
    weights = record.weights.tolist()  # print
    total = sum(parameter.double().sum().item() for parameter in model.parameters())
    said: list[tuple[list[float], float]] = [([], 0.0)] * dist.get_world_size()
    dist.all_gather_object(said, (weights, total))
    if rank == 0:
        for i, (theirs, sums) in enumerate(said):
            print(f"rank {i}: weights {theirs}, parameters {sums!r}")
        print(f"{'task':<12}{'first':>12}{'last':>12}{'weight':>12}")
        for i, (task, weight) in enumerate(zip(UNITS, weights, strict=True)):
            print(f"{task:<12}{history[0][i]:>12.4g}{history[-1][i]:>12.4g}{weight:>12.4g}")
    dist.barrier()  # no rank leaves while another one still talks to it
    dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=600)
    main(parser.parse_args().steps)
