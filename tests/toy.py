"""A small problem with two regression tasks, for tests of the loop, the runner and the command line."""

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from multiprocessing import parent_process
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from equipoise.training.domains import Domain, Domains
from equipoise.training.labels import labelled_losses
from equipoise.training.pictures import Picture
from equipoise.training.problem import Description, Loaders, Preview
from equipoise.training.task import Metric, Task

Batch = tuple[Tensor, dict[str, Tensor]]


class ToyBatches:
    """Batches in an order that depends on the seed and the epoch only."""

    def __init__(self, x: Tensor, y: Tensor, batch_size: int, seed: int) -> None:
        self.x, self.y, self.batch_size, self.seed = x, y, batch_size, seed

    def __len__(self) -> int:
        return len(self.x) // self.batch_size

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        order = torch.randperm(
            len(self.x), generator=torch.Generator().manual_seed(1000 * self.seed + number)
        )
        for i in range(start, len(self)):
            chosen = order[i * self.batch_size : (i + 1) * self.batch_size]
            yield self.x[chosen], {"a": self.y[chosen, 0], "b": self.y[chosen, 1]}


class Toy:
    """Two targets of four numbers.

    Args:
        size: training samples.
        sleep: seconds per step, for tests that stop a run from outside.
        bad: a file; while it exists, the losses of `bad_task` are NaN.
        deadly: a file; the process that finds it removes it and kills itself.
    """

    name: ClassVar[str] = "toy"
    tasks: ClassVar[tuple[Task, ...]] = (
        Task("a", (Metric("a_mae", higher_is_better=False, unit="m"),)),
        Task("b", (Metric("b_r2", higher_is_better=True, unit=""), Metric("b_mae", False, "kg"))),
    )
    reference: ClassVar[Mapping[str, float]] = {"a_mae": 0.5, "b_r2": 0.5, "b_mae": 0.5}
    method_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {"go4align": {"groups": 2}}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {
            "options": {"size": 32},
            "train": {"epochs": 3},
            "methods": ["ls", "uw"],
            "lrs": [1e-2],
            "seeds": 1,
        }
    }

    def __init__(self, size: int = 32, sleep: float = 0.0, bad: str = "", deadly: str = "") -> None:
        self.size, self.sleep, self.bad, self.deadly = size, sleep, bad, deadly
        self.test_reads = 0

    @classmethod
    def data(cls) -> Mapping[str, Any]:
        return {"available": True, "licence": "none needed"}

    def model(self, seed: int) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.1), nn.Tanh(), nn.Linear(8, 2))

    def loaders(self, seed: int) -> Loaders:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(self.size + 32, 4, generator=generator)
        y = torch.stack([x.sum(dim=1), x[:, 0] * x[:, 1]], dim=1)
        n = self.size
        held_out = [(x[n + i : n + i + 16], y[n + i : n + i + 16]) for i in (0, 16)]
        self.mean = y[:n].mean(dim=0)
        return Loaders(ToyBatches(x[:n], y[:n], 4, seed), [held_out[0]], self._counted(held_out[1]))

    def _counted(self, batch: tuple[Tensor, Tensor]) -> Iterable[tuple[Tensor, Tensor]]:
        toy = self

        class Counted:
            def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
                toy.test_reads += 1
                return iter([batch])

        return Counted()

    def losses(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        time.sleep(self.sleep)
        if self.deadly and Path(self.deadly).exists():
            Path(self.deadly).unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        x, y = batch
        out = model(x)
        found = {"b": (out[:, 1] - y["b"]).square().mean(), "a": (out[:, 0] - y["a"]).square().mean()}
        if self.bad and Path(self.bad).exists():
            found["b"] = found["b"] * torch.nan
        return found

    def shared(self, model: nn.Module) -> nn.Module | None:
        return None

    def evaluate(self, model: nn.Module, loader: Iterable[Any]) -> dict[str, float]:
        (x, y) = next(iter(loader))
        return self._metrics(model(x), y)

    def trivial(self, seed: int) -> dict[str, float]:
        (x, y) = next(iter(self.loaders(seed).test))
        self.test_reads -= 1
        return self._metrics(self.mean.expand(len(x), 2), y)

    def _metrics(self, out: Tensor, y: Tensor) -> dict[str, float]:
        mae = (out - y).abs().mean(dim=0).tolist()
        r2 = 1 - float((out[:, 1] - y[:, 1]).square().sum() / (y[:, 1] - y[:, 1].mean()).square().sum())
        return {"a_mae": mae[0], "b_r2": r2, "b_mae": mae[1]}


def square(output: Tensor, target: Tensor) -> Tensor:
    """The squared error of each sample."""
    return (output - target).square()


class Partial(Toy):
    """Every label is missing with probability `missing`; batches of two, so that some have none at all.

    Args:
        size: training samples.
        missing: of the labels of task b, and of task a unless `whole`.
        whole: whether every sample has the label of task a.
        batch_size: samples of a batch.
        dropout: whether the network has any.
    """

    def __init__(
        self,
        size: int = 32,
        missing: float = 0.6,
        whole: bool = False,
        batch_size: int = 2,
        dropout: bool = True,
    ) -> None:
        super().__init__(size)
        self.missing, self.whole, self.batch_size, self.dropout = missing, whole, batch_size, dropout

    def model(self, seed: int) -> nn.Module:
        model = super().model(seed)
        if not self.dropout:
            model.get_submodule("1").p = 0.0  # type: ignore[assignment]
        return model

    def shared(self, model: nn.Module) -> nn.Module:
        return model

    def loaders(self, seed: int) -> Loaders:
        loaders = super().loaders(seed)
        assert isinstance(loaders.train, ToyBatches)
        y = loaders.train.y.clone()
        gone = torch.rand(y.shape, generator=torch.Generator().manual_seed(seed + 100)) < self.missing
        gone[:, 0] &= not self.whole
        y[gone] = torch.nan
        return replace(loaders, train=ToyBatches(loaders.train.x, y, self.batch_size, seed))

    def losses(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        x, y = batch
        out = model(x)
        return labelled_losses({"a": out[:, 0], "b": out[:, 1]}, y, square)


class Mixed(Toy):
    """A domain for each task, of unequal sizes; `together` has a batch of both in each step."""

    def __init__(self, size: int = 32, together: bool = False) -> None:
        super().__init__(size)
        self.together = together

    def shared(self, model: nn.Module) -> nn.Module:
        return model

    def loaders(self, seed: int) -> Loaders:
        loaders = super().loaders(seed)
        assert isinstance(loaders.train, ToyBatches)
        x, y, cut = loaders.train.x, loaders.train.y, self.size // 3
        parts = {
            "a": Domain(ToyBatches(x[:cut], y[:cut], 4, seed), cut, 4),
            "b": Domain(ToyBatches(x[cut:], y[cut:], 2, seed), self.size - cut, 2),
        }
        return replace(loaders, train=Domains(parts, seed=seed, together=self.together))

    def losses(self, model: nn.Module, batch: Mapping[str, Batch]) -> Mapping[str, Tensor]:  # type: ignore[override]
        return {name: square(model(x)[:, "ab".index(name)], y[name]).mean() for name, (x, y) in batch.items()}


class Fragile(Dataset[tuple[Tensor, ...]]):
    """Samples one of which cannot be read while a file exists."""

    def __init__(self, data: TensorDataset, bad: int, fault: str) -> None:
        self.data, self.bad, self.fault = data, bad, fault

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        if index == self.bad and self.fault and Path(self.fault).exists():
            raise OSError(f"sample {index} cannot be read")
        x, y = self.data[index]
        return x, y


class WorkerBatches(ToyBatches):
    """The same batches, read by a worker process."""

    def __init__(self, batches: ToyBatches, bad: int, fault: str) -> None:
        super().__init__(batches.x, batches.y, batches.batch_size, batches.seed)
        self.data = Fragile(TensorDataset(self.x, self.y), bad, fault)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(1000 * self.seed + number)
        order = torch.randperm(len(self.x), generator=generator).tolist()
        size = self.batch_size
        batches = [order[i * size : (i + 1) * size] for i in range(start, len(self))]
        for x, y in DataLoader(self.data, batch_sampler=batches, num_workers=1, generator=generator):
            yield x, {"a": y[:, 0], "b": y[:, 1]}


class Worker(Toy):
    """Reads its batches by a worker process, which fails at a sample while the file `fault` exists."""

    def __init__(self, size: int = 32, bad_sample: int = 17, fault: str = "") -> None:
        super().__init__(size)
        self.bad_sample, self.fault = bad_sample, fault

    def loaders(self, seed: int) -> Loaders:
        loaders = super().loaders(seed)
        assert isinstance(loaders.train, ToyBatches)
        return replace(loaders, train=WorkerBatches(loaders.train, self.bad_sample, self.fault))


class Lethal(Toy):
    """Kills every process that trains on it."""

    def losses(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        os.kill(os.getpid(), signal.SIGKILL)
        return super().losses(model, batch)


class Unready(Toy):
    """Can be set up in the first process only."""

    def __init__(self, size: int = 32) -> None:
        if parent_process() is not None:
            raise RuntimeError("no memory")
        super().__init__(size)


class OwnTasks(Toy):
    """As many tasks as there are targets, like a table of the user's; the data are those of `Toy`.

    Args:
        csv: a name.
        targets: the tasks.
        skip_bad: changes nothing.
    """

    name: ClassVar[str] = "own"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {"train": {"epochs": 1}, "methods": ["ls"], "lrs": [1e-2], "seeds": 1, "baselines": "none"}
    }

    def __init__(self, csv: str = "", targets: Sequence[str] = (), skip_bad: bool = False) -> None:
        super().__init__()
        found = self.describe({"targets": targets})
        self.csv = csv
        self.tasks, self.reference = found.tasks, found.reference  # type: ignore[misc]

    @classmethod
    def describe(cls, options: Mapping[str, Any]) -> Description:
        if not options["targets"]:
            raise ValueError("`targets` should name a column. Found none.")
        metrics = {
            name: Metric(f"{name} mae", higher_is_better=False, unit="") for name in options["targets"]
        }
        tasks = tuple(Task(name, (metric,)) for name, metric in metrics.items())
        return Description(tasks, {metric.name: 1.0 for metric in metrics.values()})

    @classmethod
    def check(cls, folder: str, progress: Callable[[int, int], None] | None = None) -> Mapping[str, Any]:
        assert progress is not None
        progress(3, 3)
        problems = [f"{folder}: 1 file is missing"] if folder == "half" else []
        return {"available": not problems, "problems": problems, "files": 3}

    @classmethod
    def install(cls) -> str:
        return "Nothing was missing."

    def preview(self) -> Preview:
        rows = tuple((f"x{i}", "real") for i in range(30))
        return Preview(("column", "kind"), rows, (f"{self.csv} was split by chance.",))

    def model(self, seed: int) -> nn.Module:
        return nn.Linear(4, len(self.tasks))

    def losses(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        x, y = batch
        return {
            task.name: square(out, y["a"]).mean()
            for task, out in zip(self.tasks, model(x).unbind(1), strict=True)
        }

    def evaluate(self, model: nn.Module, loader: Iterable[Any]) -> dict[str, float]:
        (x, y) = next(iter(loader))
        return {f"{task.name} mae": float((model(x)[:, 0] - y[:, 0]).abs().mean()) for task in self.tasks}

    def trivial(self, seed: int) -> dict[str, float]:
        return {f"{task.name} mae": 1.0 for task in self.tasks}


class Drawn(Toy):
    """Shows a picture of one pixel, bright where the model is in evaluation."""

    def pictures(self, model: nn.Module, device: torch.device) -> Sequence[Picture]:
        assert not torch.is_grad_enabled()
        shown = torch.full((1, 1, 1), float(not model.training))
        return [
            Picture("input", "colour", torch.zeros(1, 3, 1, 1)),
            Picture("a", "scalar", shown, shown + 1, unit="m"),
            Picture("b", "classes", torch.zeros(1, 1, 1, dtype=torch.int64), shown.long(), ("land", "sea")),
        ]


class NoValidation(Toy):
    """A protocol without a validation part: the test part stands in for it."""

    def loaders(self, seed: int) -> Loaders:
        loaders = super().loaders(seed)
        return replace(loaders, validation=loaders.test)
