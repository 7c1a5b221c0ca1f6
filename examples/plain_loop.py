"""A plain PyTorch loop: one network, three losses in different units.

Against the loop without Equipoise, beside the import:

    + balancer = eq.Balancer(eq.build_method("go4align", 3, groups=2), tasks=list(UNITS))
    -         sum(losses.values()).backward()
    +         record = balancer.backward(losses)
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn

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
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    model = Network()
    balancer = eq.Balancer(eq.build_method("go4align", 3, groups=2), tasks=list(UNITS))  # equipoise
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    history: list[dict[str, float]] = []
    for _ in range(steps):
        x, targets = batch(256, generator)
        outputs = model(x)
        losses = {task: nn.functional.mse_loss(outputs[task], targets[task]) for task in UNITS}
        optimizer.zero_grad()
        record = balancer.backward(losses)  # equipoise
        optimizer.step()
        history.append({task: loss.item() for task, loss in losses.items()})
    weights = record.weights.tolist()  # print
    print(f"{'task':<12}{'first':>12}{'last':>12}{'weight':>12}")
    for task, weight in zip(UNITS, weights, strict=True):
        print(f"{task:<12}{history[0][task]:>12.4g}{history[-1][task]:>12.4g}{weight:>12.4g}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=600)
    main(parser.parse_args().steps)
