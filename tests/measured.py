"""Steps on which the memory modes are compared with the rows that plain autograd gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from equipoise.engine.gradients import Split, Splitter
from equipoise.engine.losses import LossReader
from equipoise.engine.sources import Measured, Sources


class Step(NamedTuple):
    """The losses of all tasks, and what the engine reads off them."""

    losses: list[Tensor]
    roots: Mapping[int, GradientEdge]
    split: Split

    @property
    def sources(self) -> Sources:
        """Where the backward passes start."""
        return Sources(self.roots, len(self.losses))


class Forked(nn.Module):
    """Two branches of different length that meet, after a residual block, with a layer that is not reached."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.long = nn.Linear(6, 16), nn.Linear(16, 16)
        self.last, self.short = nn.Linear(16, 16), nn.Linear(16, 16)
        self.unused = nn.Linear(3, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        """Features (b, 16)."""
        hidden = torch.tanh(self.first(inputs))
        hidden = hidden + torch.tanh(self.long(hidden))
        features: Tensor = self.last(torch.tanh(self.long(hidden))) * self.short(hidden)
        return features


class Tied(nn.Module):
    """Two modules with the same weight, and a third use of it without a module if `loose`."""

    def __init__(self, loose: bool = False) -> None:
        super().__init__()
        self.first, self.one, self.two = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 16, bias=False)
        self.two.weight = self.one.weight
        self.loose = loose

    def forward(self, inputs: Tensor) -> Tensor:
        """Features (b, 16)."""
        hidden = self.two(torch.tanh(self.one(torch.tanh(self.first(inputs)))))
        return nn.functional.linear(hidden.sin(), self.one.weight) if self.loose else hidden


class Sequences(nn.Module):
    """Linear layers on (b, T, d), the mean of T at the end."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, width), nn.GELU(), nn.Linear(width, 16))

    def forward(self, inputs: Tensor) -> Tensor:
        """Features (b, 16)."""
        features: Tensor = self.layers(inputs.unflatten(1, (3, 2))).mean(1)
        return features


def encoder(kind: str) -> nn.Module:
    """An encoder (b, 6) -> (b, 16) of one of the `KINDS`."""
    if kind == "mlp":
        module: nn.Module = nn.Sequential(
            nn.Linear(6, 24), nn.ReLU(inplace=True), nn.Linear(24, 16), nn.Tanh()
        )
    elif kind == "convolutional":
        parts = [nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten()]
        module = nn.Sequential(*parts, nn.Linear(16, 16))
    elif kind == "transformer":
        layers = [
            nn.TransformerEncoderLayer(16, 2, 24, dropout=0.0, batch_first=True, norm_first=n)
            for n in (False, True)
        ]
        module = nn.Sequential(
            nn.Unflatten(1, (3, 2)), nn.Linear(2, 16), *layers, nn.AdaptiveAvgPool2d((1, 16))
        )
        module.append(nn.Flatten())
    elif kind == "frozen":
        module = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16))
        module[2].weight.requires_grad_(False)
        module[0].bias.requires_grad_(False)
    else:
        others: dict[str, Callable[[], nn.Module]] = {
            "forked": Forked,
            "tied": Tied,
            "loose": lambda: Tied(loose=True),
            "sequences": Sequences,
        }
        module = others[kind]()
    return module


KINDS = ("mlp", "convolutional", "transformer", "forked", "tied", "loose", "frozen", "sequences")


class Network(nn.Module):
    """An encoder and a head per task."""

    def __init__(self, encoder: nn.Module, tasks: int = 4, width: int = 16) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleList(nn.Linear(width, 1) for _ in range(tasks))

    def losses(self, inputs: Tensor) -> list[Tensor]:
        """One loss per task, of unequal scale."""
        features = self.encoder(inputs)
        return [10.0**-i * (head(features) - i).square().mean() for i, head in enumerate(self.heads)]


def network(kind: str, seed: int = 0, dtype: torch.dtype = torch.float64) -> Network:
    """A network of one kind, always the same for the same seed."""
    torch.manual_seed(seed)
    return Network(encoder(kind)).to(dtype)


def inputs(size: int = 3, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    """A batch (size, 6)."""
    return torch.randn(size, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def step_of(losses: list[Tensor], present: list[bool] | None = None) -> Step:
    """What the engine reads off the losses, the shared parameters inferred."""
    names = [f"task {i}" for i in range(len(losses))]
    roots = LossReader(None, len(losses)).read(losses, present).roots
    return Step(losses, roots, Splitter(None, names).split(roots))


def row(loss: Tensor, parameters: list[Tensor]) -> Tensor:
    """The gradient (n,) of one loss, by plain autograd."""
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    pairs = zip(found, parameters, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g.to_dense()).reshape(-1) for g, p in pairs])


def expected(step: Step) -> Tensor:
    """The Gramian (m, m) from the rows of the present tasks."""
    rows = [row(loss, step.split.shared) * (i in step.roots) for i, loss in enumerate(step.losses)]
    jacobian = torch.stack(rows).double()
    return jacobian @ jacobian.T


def assert_exact(found: Measured, step: Step, tolerance: float = 1e-12) -> None:
    """Gramian and squared norms against plain autograd; errors are relative to sqrt(G_ii G_jj)."""
    gramian = expected(step)
    scale = gramian.diagonal().sqrt().clamp(min=1e-300)
    assert found.gramian.dtype == torch.float64
    assert ((found.gramian - gramian).abs() <= tolerance * torch.outer(scale, scale)).all()
    assert torch.equal(found.gramian, found.gramian.T)
    for k, parameter in enumerate(step.split.shared):
        squares = [row(step.losses[i], [parameter]).double().square().sum() for i in step.roots]
        kept = found.squares[k, list(step.roots)]
        torch.testing.assert_close(kept, torch.stack(squares), rtol=10 * tolerance, atol=1e-290)
