"""A problem with two domains that pull one weight in two directions, for tests of the search."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from equipoise.training.config import RunConfig, TrainConfig
from equipoise.training.domains import Domain, Domains, OneByOne
from equipoise.training.problem import Loaders
from equipoise.training.sampling import SampleBatches
from equipoise.training.task import Metric, Task

_NAMES = ("low", "high")


class Batch(NamedTuple):
    x: Tensor
    y: Tensor


class Tug:
    """One linear layer; both domains have the same inputs, and targets x + 1 and x - 1.

    Args:
        mixing: "together" or "sampled".
        weights: of sampled domains.
        bad: a file; while it exists, the loss of "high" is NaN.
        deadly: a file; the process that finds it removes it and kills itself.
    """

    name: ClassVar[str] = "tug"
    tasks: ClassVar[tuple[Task, ...]] = tuple(
        Task(name, (Metric(f"{name}_mse", False, ""),)) for name in _NAMES
    )
    reference: ClassVar[Mapping[str, float]] = {f"{name}_mse": 1.0 for name in _NAMES}
    method_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {
            "options": {},
            "train": {"epochs": 4, "schedule": "constant"},
            "methods": ["ls"],
            "lrs": [0.05],
            "seeds": 1,
        }
    }

    def __init__(
        self,
        mixing: str = "together",
        weights: Sequence[float] | None = None,
        bad: str = "",
        deadly: str = "",
    ) -> None:
        self.mixing, self.weights, self.bad, self.deadly = mixing, weights, bad, deadly
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(60, 3, generator=generator)

    @classmethod
    def data(cls) -> Mapping[str, Any]:
        return {"available": True}

    def model(self, seed: int) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return nn.Sequential(nn.Linear(3, 1), nn.Dropout(0.0))

    def _batches(self, name: str, first: int, last: int, seed: int) -> SampleBatches[Batch]:
        shift = 1.0 if name == "high" else -1.0
        return SampleBatches(
            lambda index: Batch(self.x[index], self.x[index].sum(1) + shift),
            torch.arange(first, last),
            size=5,
            seed=seed + _NAMES.index(name),
        )

    def loaders(self, seed: int) -> Loaders:
        weights = None if self.weights is None else dict(zip(_NAMES, self.weights, strict=True))
        domains = {name: Domain(self._batches(name, 0, 40, 2 * seed), 40, 5) for name in _NAMES}
        train = Domains(domains, seed=seed, weights=weights, together=self.mixing == "together")
        return Loaders(
            train,
            OneByOne({name: self._batches(name, 40, 50, 0) for name in _NAMES}),
            OneByOne({name: self._batches(name, 50, 60, 0) for name in _NAMES}),
        )

    def losses(self, model: nn.Module, batch: Mapping[str, Batch]) -> Mapping[str, Tensor]:
        if self.deadly and Path(self.deadly).exists():
            Path(self.deadly).unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        found = {name: (model(part.x)[:, 0] - part.y).square().mean() for name, part in batch.items()}
        if self.bad and Path(self.bad).exists() and "high" in found:
            found["high"] = found["high"] * torch.nan
        return found

    def shared(self, model: nn.Module) -> nn.Module:
        return model

    def evaluate(self, model: nn.Module, loader: Iterable[Mapping[str, Batch]]) -> dict[str, float]:
        errors: dict[str, list[Tensor]] = {name: [] for name in _NAMES}
        for batch in loader:
            for name, part in batch.items():
                errors[name].append((model(part.x)[:, 0] - part.y).square())
        return {f"{name}_mse": float(torch.cat(found).mean()) for name, found in errors.items()}

    def trivial(self, seed: int) -> dict[str, float]:
        return dict(self.reference)


def config(epochs: int = 6, **options: Any) -> RunConfig:
    """A run of this problem with equal weights."""
    train = TrainConfig(epochs=epochs, schedule="constant")
    return RunConfig(problem="tug", options=options, method="ls", lr=0.05, seed=0, train=train)


def make(options: Mapping[str, Any]) -> Any:
    """The problem of a configuration."""
    return Tug(**options)


def by_hand(train: Any, schedule: Sequence[tuple[int, Sequence[float]]], epochs: int) -> nn.Module:
    """The network that a plain loop trains on weighted sums of losses, with weights that change at some epochs."""
    tug = Tug()
    model = tug.model(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for epoch in range(epochs):
        weights = [weights for begin, weights in schedule if begin <= epoch][-1]
        for batch in train.epoch(epoch + 1):
            losses = tug.losses(model, batch)
            total = sum(2 * weight * losses[name] for name, weight in zip(_NAMES, weights, strict=True))
            assert isinstance(total, Tensor)
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
    return model.eval()
