"""Hugging Face Accelerate (`pip install accelerate`), with micro-batches.

    accelerate launch --cpu examples/accelerate_loop.py        # or: python examples/accelerate_loop.py

Give the losses undivided: the balancer averages over the micro-batches, and over the ranks. Accelerate also
steps at the end of the loader, so let the number of batches be a multiple of that of micro-batches. `scaler` is None
unless the precision is fp16. Against the loop without Equipoise, beside the import:

    + method = eq.build_method("nashmtl", 3)
    + balancer = eq.Balancer(method, scaler=accelerator.scaler, accumulate=2)
    -             accelerator.backward(sum(losses))
    +             record = balancer.backward(losses)
"""

from __future__ import annotations

import argparse

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import equipoise as eq

UNITS = {"length": 1.0, "width": 1.2, "weight": 5.0}


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh())
        self.heads = nn.ModuleList(nn.Linear(32, 1) for _ in UNITS)

    def forward(self, x: Tensor) -> list[Tensor]:
        features = self.encoder(x)
        return [head(features).squeeze(-1) for head in self.heads]


def data(size: int) -> TensorDataset:
    """Inputs (size, 8) and targets (size, 3)."""
    x = torch.randn(size, 8, generator=torch.Generator().manual_seed(1))
    return TensorDataset(x, torch.tensor(list(UNITS.values())) * (x[:, :3] * x[:, 1:4]).tanh())


def main(epochs: int) -> None:
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    model = Network()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    loader = DataLoader(data(8192), batch_size=128, shuffle=True, drop_last=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    method = eq.build_method("nashmtl", 3)  # equipoise
    balancer = eq.Balancer(method, scaler=accelerator.scaler, accumulate=2)  # equipoise
    history: list[Tensor] = []
    for _ in range(epochs):
        for x, targets in loader:
            with accelerator.accumulate(model):
                outputs = model(x)
                losses = [
                    nn.functional.mse_loss(y, t) for y, t in zip(outputs, targets.unbind(1), strict=True)
                ]
                record = balancer.backward(losses)  # equipoise
                optimizer.step()
                optimizer.zero_grad()
                history.append(torch.stack(losses).detach())
    weights = record.weights.tolist()  # print
    accelerator.print(f"{'task':<12}{'first':>12}{'last':>12}{'weight':>12}")
    for i, (task, weight) in enumerate(zip(UNITS, weights, strict=True)):
        accelerator.print(f"{task:<12}{history[0][i]:>12.4g}{history[-1][i]:>12.4g}{weight:>12.4g}")
    accelerator.end_training()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10)
    main(parser.parse_args().epochs)
