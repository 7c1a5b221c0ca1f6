"""Two small problems whose networks have a depth and a width: three domains, and one input with three tasks."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from equipoise.training.domains import Domain, Domains, OneByOne
from equipoise.training.problem import Description, Loaders
from equipoise.training.sampling import SampleBatches
from equipoise.training.task import Metric, Task

NAMES = ("north", "south", "west")
_SIZES = (80, 60, 40)


class Batch(NamedTuple):
    x: Tensor
    y: Tensor


def accuracy_tasks(names: Sequence[str]) -> tuple[Task, ...]:
    return tuple(Task(name, (Metric(f"{name} accuracy", higher_is_better=True, unit="%"),)) for name in names)


def network(depth: int, width: int, outputs: int, seed: int) -> nn.Module:
    """With everything that a look at it could disturb: statistics of batches, and dropout."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = [nn.Linear(4, width)]
        for _ in range(depth):
            layers += [nn.BatchNorm1d(width), nn.Tanh(), nn.Dropout(0.2), nn.Linear(width, width)]
        return nn.Sequential(*layers, nn.Linear(width, outputs))


class Winds:
    """Two classes in each of three domains; "south" has the labels of "north" the other way round.

    Args:
        sleep: seconds of each training step.
        bad: a file; while it exists, networks of width 3 have a loss that is NaN.
        deadly: a file; the process that finds it removes it and kills itself.
    """

    name: ClassVar[str] = "winds"
    tasks: tuple[Task, ...] = accuracy_tasks(NAMES)
    reference: Mapping[str, float] = {f"{name} accuracy": 100.0 for name in NAMES}
    method_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {
            "options": {"samples": 40},
            "train": {"epochs": 3, "optimizer": "adamw", "schedule": "cosine", "warmup_epochs": 1},
            "methods": ["ls"],
            "lrs": [0.01],
            "seeds": 1,
        },
        "uneven": {
            "options": {},
            "train": {"epochs": 3},
            "methods": ["ls"],
            "lrs": [0.01],
            "seeds": 1,
        },
    }

    def __init__(
        self,
        domains: Sequence[str] = NAMES,
        mixing: str = "together",
        weights: Sequence[float] | None = None,
        samples: int | None = None,
        depth: int = 1,
        width: int = 4,
        sleep: float = 0.0,
        bad: str = "",
        deadly: str = "",
    ) -> None:
        self.names, self.mixing, self.weights, self.samples = list(domains), mixing, weights, samples
        self.depth, self.width, self.sleep, self.bad, self.deadly = depth, width, sleep, bad, deadly
        described = self.describe({"domains": domains})
        self.tasks, self.reference = described.tasks, described.reference

    @classmethod
    def describe(cls, options: Mapping[str, Any]) -> Description:
        names = options.get("domains", NAMES)
        return Description(accuracy_tasks(names), {f"{name} accuracy": 100.0 for name in names})

    @classmethod
    def data(cls) -> Mapping[str, Any]:
        return {"available": True}

    def model(self, seed: int) -> nn.Module:
        return network(self.depth, self.width, 2, seed)

    def _batches(self, name: str, part: int, seed: int) -> SampleBatches[Batch]:
        k = NAMES.index(name)
        x = torch.randn(3, _SIZES[k], 4, generator=torch.Generator().manual_seed(k))[part]
        y = ((x[:, 0] + 0.3 * k * x[:, 1] > 0) ^ (name == "south")).long()
        return SampleBatches(lambda i: Batch(x[i], y[i]), torch.arange(_SIZES[k]), size=5, seed=seed + k)

    def loaders(self, seed: int) -> Loaders:
        domains = {
            name: Domain(self._batches(name, 0, 10 * seed), _SIZES[NAMES.index(name)], 5)
            for name in self.names
        }
        weights = None if self.weights is None else dict(zip(self.names, self.weights, strict=True))
        together = self.mixing == "together"
        train = Domains(domains, seed=seed, weights=weights, together=together, samples=self.samples)
        rest = (OneByOne({name: self._batches(name, part, 0) for name in self.names}) for part in (1, 2))
        return Loaders(train, *rest)

    def losses(self, model: nn.Module, batch: Mapping[str, Batch]) -> Mapping[str, Tensor]:
        time.sleep(self.sleep)
        if self.deadly and Path(self.deadly).exists():
            Path(self.deadly).unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        found = {name: functional.cross_entropy(model(part.x), part.y) for name, part in batch.items()}
        if self.bad and Path(self.bad).exists() and self.width == 3:
            found = {name: loss * torch.nan for name, loss in found.items()}
        return found

    def shared(self, model: nn.Module) -> nn.Module:
        return model

    def evaluate(self, model: nn.Module, loader: Iterable[Mapping[str, Batch]]) -> dict[str, float]:
        right: dict[str, list[Tensor]] = {name: [] for name in self.names}
        for batch in loader:
            for name, part in batch.items():
                right[name].append(model(part.x).argmax(1) == part.y)
        return {
            f"{name} accuracy": 100 * float(torch.cat(r).double().mean()) for name, r in right.items() if r
        }

    def trivial(self, seed: int) -> dict[str, float]:
        return {f"{name} accuracy": 50.0 for name in self.names}


class Tides:
    """Three numbers that are predicted from four; no domains, no depth."""

    name: ClassVar[str] = "tides"
    tasks: ClassVar[tuple[Task, ...]] = tuple(
        Task(name, (Metric(f"{name} error", higher_is_better=False, unit="m"),))
        for name in ("high", "low", "mean")
    )
    reference: ClassVar[Mapping[str, float]] = {"high error": 0.5, "low error": 2.0, "mean error": 1.0}
    method_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {"options": {}, "train": {"epochs": 2}, "methods": ["ls"], "lrs": [0.01], "seeds": 1}
    }

    def __init__(self, width: int = 4) -> None:
        self.width = width

    @classmethod
    def data(cls) -> Mapping[str, Any]:
        return {"available": True}

    def model(self, seed: int) -> nn.Module:
        body, head = network(1, self.width, self.width, seed), nn.Linear(self.width, 3)
        return nn.Sequential(body, head)

    def _batches(self, part: int, seed: int = 0) -> SampleBatches[Batch]:
        x = torch.randn(3, 40, 4, generator=torch.Generator().manual_seed(7))[part]
        y = torch.stack([x.sum(1), x[:, 0] - x[:, 1], x.mean(1)], 1)
        return SampleBatches(lambda i: Batch(x[i], y[i]), torch.arange(40), size=10, seed=seed)

    def loaders(self, seed: int) -> Loaders:
        return Loaders(self._batches(0, seed), self._batches(1), self._batches(2))

    def losses(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        error = (model(batch.x) - batch.y).square().mean(0)
        return {task.name: error[k] for k, task in enumerate(self.tasks)}

    def shared(self, model: nn.Module) -> nn.Module:
        assert isinstance(model, nn.Sequential)
        return model[0]

    def evaluate(self, model: nn.Module, loader: Iterable[Batch]) -> dict[str, float]:
        errors = torch.cat([(model(batch.x) - batch.y).abs() for batch in loader]).mean(0)
        return {f"{task.name} error": float(errors[k]) for k, task in enumerate(self.tasks)}

    def trivial(self, seed: int) -> dict[str, float]:
        return dict(self.reference)
