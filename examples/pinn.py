"""A physics-informed network: the heat equation, with one loss for each condition.

u_t = k u_xx on 0 <= x, t <= 1 with u(x, 0) = sin(pi x) and u(0, t) = u(1, t) = 0, which is solved by
exp(-k pi^2 t) sin(pi x); the last line is the relative distance from that. The second derivatives in the
residual make its gradients far larger than the others. UPGrad steps along a gradient that conflicts with none of
them. Against the loop without Equipoise, beside the import:

    + balancer = eq.Balancer(eq.build_method("upgrad", 3), tasks=TASKS)
    -         sum(losses.values()).backward()
    +         record = balancer.backward(losses)
"""

from __future__ import annotations

import argparse
import math

import torch
from torch import Tensor, nn

import equipoise as eq

DIFFUSIVITY = 0.1
TASKS = ["residual", "boundary", "initial"]


def derivative(y: Tensor, x: Tensor) -> Tensor:
    """dy / dx per sample, itself differentiable."""
    (answer,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    return answer


def conditions(model: nn.Module, size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """The mean squared violation of each condition at `size` random points."""
    x, t = (torch.rand(size, 1, generator=generator).requires_grad_() for _ in range(2))
    u = model(torch.cat([x, t], 1))
    residual = derivative(u, t) - DIFFUSIVITY * derivative(derivative(u, x), x)
    side = torch.randint(0, 2, (size, 1), generator=generator).float()
    boundary = model(torch.cat([side, t.detach()], 1))
    start = model(torch.cat([x.detach(), torch.zeros_like(x)], 1)) - torch.sin(math.pi * x.detach())
    terms = zip(TASKS, (residual, boundary, start), strict=True)
    return {task: term.square().mean() for task, term in terms}


@torch.no_grad()
def error(model: nn.Module) -> float:
    """The relative distance of the network from the solution on a grid."""
    points = torch.cartesian_prod(torch.linspace(0, 1, 41), torch.linspace(0, 1, 41))
    x, t = points.unbind(1)
    truth = torch.exp(-DIFFUSIVITY * math.pi**2 * t) * torch.sin(math.pi * x)
    return float((model(points).squeeze(1) - truth).norm() / truth.norm())


def main(steps: int) -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
    balancer = eq.Balancer(eq.build_method("upgrad", 3), tasks=TASKS)  # equipoise
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    history: list[dict[str, float]] = []
    for _ in range(steps):
        losses = conditions(model, 256, generator)
        optimizer.zero_grad()
        record = balancer.backward(losses)  # equipoise
        optimizer.step()
        history.append({task: loss.item() for task, loss in losses.items()})
    weights = record.weights.tolist()  # print
    print(f"{'task':<12}{'first':>12}{'last':>12}{'weight':>12}")
    for task, weight in zip(TASKS, weights, strict=True):
        print(f"{task:<12}{history[0][task]:>12.4g}{history[-1][task]:>12.4g}{weight:>12.4g}")
    print(f"relative error {error(model):.4f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    main(parser.parse_args().steps)
