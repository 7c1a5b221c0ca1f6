"""Small networks and losses on which the engine is compared with plain autograd."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TwoPart(nn.Module):
    """An encoder and one head per task; subclasses choose the encoder."""

    def __init__(self, encoder: nn.Module, width: int, tasks: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleList(nn.Linear(width, 1) for _ in range(tasks))

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """One output (b,) per task."""
        features = self.encoder(inputs)
        return [head(features)[:, 0] for head in self.heads]


def count_passes(model: TwoPart, seen: list[int]) -> None:
    """Append to `seen` whenever a backward pass goes through the encoder."""

    def watch(_module: nn.Module, _inputs: object, features: Tensor) -> None:
        features.grad_fn.register_hook(lambda *_: seen.append(1))  # type: ignore[union-attr]

    model.encoder.register_forward_hook(watch)


class UsedTwice(nn.Module):
    """An encoder that runs the same layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.again = nn.Linear(8, 8)

    def forward(self, inputs: Tensor) -> Tensor:
        """Features (b, 8)."""
        hidden = torch.tanh(self.first(inputs))
        return torch.tanh(self.again(torch.tanh(self.again(hidden))))


def encoder(kind: str) -> nn.Module:
    """An encoder (b, 6) -> (b, 8) of one of the `ENCODERS`, in float64."""
    if kind == "mlp":
        module: nn.Module = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh())
    elif kind == "conv":
        module = nn.Sequential(
            nn.Unflatten(1, (1, 6)),
            nn.Conv1d(1, 4, 3),
            nn.BatchNorm1d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16, 8),
        )
    elif kind == "conv no norm":
        module = nn.Sequential(
            nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 8)
        )
    elif kind == "attention":
        layer = nn.TransformerEncoderLayer(2, 1, 8, dropout=0.0, batch_first=True)
        module = nn.Sequential(nn.Unflatten(1, (3, 2)), layer, nn.Flatten(), nn.Linear(6, 8))
    elif kind == "used twice":
        module = UsedTwice()
    elif kind == "partly frozen":
        module = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8))
        for parameter in module[0].parameters():
            parameter.requires_grad_(False)
    else:
        raise ValueError(kind)
    return module


ENCODERS = ("mlp", "conv", "attention", "used twice", "partly frozen")


def network(kind: str, tasks: int = 3, seed: int = 0) -> TwoPart:
    """A network of one kind, always the same for the same seed."""
    torch.manual_seed(seed)
    return TwoPart(encoder(kind), 8, tasks).double()


def batch(tasks: int = 3, size: int = 12, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Inputs (b, 6) and targets (tasks, b)."""
    draws = torch.Generator().manual_seed(seed)
    inputs = torch.randn(size, 6, generator=draws, dtype=torch.float64)
    return inputs, torch.randn(tasks, size, generator=draws, dtype=torch.float64)


def losses_of(model: TwoPart, data: tuple[Tensor, Tensor]) -> list[Tensor]:
    """Mean squared errors of very unequal scale, one per task."""
    inputs, targets = data
    return [
        10.0 ** (1 - i) * (output - target).square().mean() + 0.1
        for i, (output, target) in enumerate(zip(model(inputs), targets, strict=True))
    ]


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """The gradients by parameter name; zero where there is none."""
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.detach().clone()
        for name, p in model.named_parameters()
        if p.requires_grad
    }
