"""Synthetic tasks in planted groups: which tasks belong together, and how well each can be done, are known."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from equipoise.models.mlp import MLP
from equipoise.training.problem import Description, Loaders
from equipoise.training.sampling import SampleBatches
from equipoise.training.task import Metric, Task

from .synthetic_presets import PRESETS

_HIDDEN = 8  # units of the function that a group shares
_KEPT = 4  # worlds that are kept for the runs of other methods
TASKS, GROUPS = 12, 3


class Batch(NamedTuple):
    """b samples: inputs (b, d), targets (b, m), and the variances (m,) of these, which metrics are relative to."""

    x: Tensor
    y: Tensor
    variance: Tensor


class World(NamedTuple):
    """All samples of one seed: inputs (n, d), targets (n, m), and the variances (m,) of the targets."""

    x: Tensor
    y: Tensor
    variance: Tensor


class Synthetic:
    """m regression tasks in k planted groups that share a function and a scale, with known best errors.

    With inputs x ~ N(0, I), task t of group g has the target

        y_t = s_t (sqrt(1 - own) u_g(x) + sqrt(own) v_t(x) + label_noise e),    e ~ N(0, 1),

    where u_g is a random two-layer function that the group shares, v_t a random linear function of the task, and both,
    as their sum, have mean 0 and variance 1 over the training part. The scale of the loss is

        s_t^2 = spread^(g / (k - 1)) exp(noise z_t),    z_t ~ N(0, 1),

    so that with noise = 0 tasks of one group have alike losses and those of neighbouring groups differ by the factor
    spread^(1 / (k - 1)); noise = ln(spread) / (k - 1) makes the groups overlap. The loss is the squared error of y_t as
    it is. Groups are blocks of neighbouring tasks. Functions, scales and samples are drawn anew for every seed.

    Metric: the squared error in percent of the variance of the targets, s_t^2 (1 + label_noise^2): about 100 for the
    best constant. The known reference is 100 label_noise^2 / (1 + label_noise^2), the error of the function that made
    the targets, which no network is below but by chance.

    Args:
        tasks: m, at least 2.
        groups: k, from 1 to m.
        samples: of the training part.
        held: samples of the validation part, and of the test part.
        inputs: d.
        spread: of the scales of the losses, from the first group to the last; at least 1.
        noise: standard deviation of the logarithm of a task's scale around its group's.
        own: share of a task's signal that is its own, from 0 to 1.
        label_noise: standard deviation of the noise of a target, relative to its signal; above 0.
        width: of the network's layers.
        depth: layers below the heads.
        batch_size: samples of a training step.

    Raises:
        ValueError: if an option is out of its range.
    """

    name: ClassVar[str] = "synthetic"
    tasks: tuple[Task, ...] = ()  # those of an instance follow from its options; see `describe`
    reference: Mapping[str, float] = {}
    method_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {"go4align": {"groups": GROUPS}}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS

    def __init__(
        self,
        *,
        tasks: int = TASKS,
        groups: int = GROUPS,
        samples: int = 2000,
        held: int = 1000,
        inputs: int = 16,
        spread: float = 100.0,
        noise: float = 0.2,
        own: float = 0.2,
        label_noise: float = 0.3,
        width: int = 64,
        depth: int = 2,
        batch_size: int = 64,
    ) -> None:
        _check(tasks, groups, label_noise)
        _at_least({"samples": samples, "held": held, "inputs": inputs, "batch_size": batch_size}, 1)
        _at_least({"spread": spread}, 1)
        _at_least({"noise": noise}, 0)
        if not 0 <= own <= 1:
            raise ValueError(f"`own` should be from 0 to 1. Found {own}.")
        self.tasks, self.reference = tasks_of(tasks, groups), _floor(tasks, groups, label_noise)
        self.groups = groups_of(tasks, groups)
        self._parts = (samples, held, held)
        self._signal = {"spread": spread, "noise": noise, "own": own, "label_noise": label_noise}
        self._inputs, self._batch_size = inputs, batch_size
        self._shape = (inputs, tasks, width, depth)
        self.model(0)  # says at once what is wrong with its sizes
        self.world = lru_cache(_KEPT)(self._world)

    @classmethod
    def data(cls) -> Mapping[str, Any]:
        """Drawn, so always there."""
        return {"available": True, "source": "drawn from the seed of each run"}

    @classmethod
    def describe(cls, options: Mapping[str, Any]) -> Description:
        """The tasks that these options give.

        Raises:
            ValueError: on numbers of tasks or groups, or a noise of labels, that are out of range.
        """
        tasks, groups = options.get("tasks", TASKS), options.get("groups", GROUPS)
        label_noise = options.get("label_noise", 0.3)
        _check(tasks, groups, label_noise)
        return Description(tasks_of(tasks, groups), _floor(tasks, groups, label_noise))

    @classmethod
    def known_groups(cls, options: Mapping[str, Any]) -> tuple[int, ...]:
        """The planted group of each task, from 0."""
        return groups_of(options.get("tasks", TASKS), options.get("groups", GROUPS))

    def model(self, seed: int) -> MLP:
        """The network, with one linear layer for the heads of all tasks."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return MLP(*self._shape)

    def loaders(self, seed: int) -> Loaders:
        """The samples of this seed, in three parts."""
        world = self.world(seed)
        train, validation, test = torch.arange(sum(self._parts)).split(self._parts)

        def read(index: Tensor) -> Batch:
            return Batch(world.x[index], world.y[index], world.variance)

        return Loaders(
            SampleBatches(read, train, size=self._batch_size, seed=seed),
            SampleBatches(read, validation, size=2048),
            SampleBatches(read, test, size=2048),
        )

    def losses(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """The mean squared error of each task."""
        errors = (model(batch.x) - batch.y).square().mean(dim=0)
        return dict(zip((task.name for task in self.tasks), errors.unbind(), strict=True))

    def shared(self, model: nn.Module) -> nn.Module:
        """The encoder."""
        assert isinstance(model, MLP)
        return model.encoder

    def evaluate(self, model: nn.Module, loader: Iterable[Batch]) -> dict[str, float]:
        """The error of each task, in percent of the variance of its targets."""
        sums, count = torch.zeros(len(self.tasks), dtype=torch.float64), 0
        for batch in loader:
            errors = (model(batch.x) - batch.y).detach().double().square() / batch.variance.double()
            sums += errors.sum(dim=0).cpu()
            count += len(batch.x)
        return self._metrics(sums / count)

    def trivial(self, seed: int) -> dict[str, float]:
        """The test errors of guessing the means of the training targets."""
        world = self.world(seed)
        train, _, test = world.y.double().split(self._parts)
        return self._metrics((test - train.mean(0)).square().mean(0) / world.variance.double())

    def _metrics(self, errors: Tensor) -> dict[str, float]:
        names = [task.metrics[0].name for task in self.tasks]
        return dict(zip(names, (100 * errors).tolist(), strict=True))

    def _world(self, seed: int) -> World:
        stream = torch.Generator().manual_seed(seed * 1_000_003 + 17)
        m, noise = len(self.tasks), self._signal["label_noise"]
        x = _normal(stream, sum(self._parts), self._inputs)
        signal = self._signals(x, stream)
        scale = self._scales(stream)
        y = scale.sqrt() * (signal + noise * _normal(stream, len(x), m))
        return World(x.float(), y.float(), (scale * (1 + noise**2)).float())

    def _signals(self, x: Tensor, stream: torch.Generator) -> Tensor:
        """Signals (n, m) of mean 0 and variance 1 over the training part."""
        k, own = max(self.groups) + 1, self._signal["own"]
        inner = _normal(stream, k, self._inputs, _HIDDEN) * 2 / math.sqrt(self._inputs)
        shared = torch.einsum("kns,ks->nk", torch.tanh(x @ inner), _normal(stream, k, _HIDDEN))
        linear = x @ _normal(stream, self._inputs, len(self.tasks))
        mixed = (1 - own) ** 0.5 * self._scaled(shared)[:, list(self.groups)] + own**0.5 * self._scaled(
            linear
        )
        return self._scaled(mixed)

    def _scaled(self, values: Tensor) -> Tensor:
        train = values[: self._parts[0]]
        return (values - train.mean(0)) / train.std(0, correction=0).clamp(min=1e-12)

    def _scales(self, stream: torch.Generator) -> Tensor:
        """The scales s_t^2 of the losses (m,)."""
        places = torch.tensor(self.groups, dtype=torch.float64) / max(max(self.groups), 1)
        blur = self._signal["noise"] * _normal(stream, len(self.groups))
        return (places * math.log(self._signal["spread"]) + blur).exp()


def groups_of(tasks: int, groups: int) -> tuple[int, ...]:
    """The group of each task: blocks of neighbours, of sizes that differ by one at most."""
    return tuple(task * groups // tasks for task in range(tasks))


def tasks_of(tasks: int, groups: int) -> tuple[Task, ...]:
    """The tasks by name, such as "g1t01": group and number, from 1."""
    digits = len(str(tasks))
    names = [f"g{group + 1}t{task + 1:0{digits}}" for task, group in enumerate(groups_of(tasks, groups))]
    return tuple(Task(name, (Metric(f"{name} error", higher_is_better=False, unit="%"),)) for name in names)


def _floor(tasks: int, groups: int, label_noise: float) -> dict[str, float]:
    best = 100 * label_noise**2 / (1 + label_noise**2)
    return {task.metrics[0].name: best for task in tasks_of(tasks, groups)}


def _normal(stream: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=stream, dtype=torch.float64)


def _check(tasks: int, groups: int, label_noise: float) -> None:
    _at_least({"tasks": tasks}, 2)
    if not 1 <= groups <= tasks:
        raise ValueError(f"`groups` should be from 1 to the number of tasks, {tasks}. Found {groups}.")
    if not label_noise > 0:
        raise ValueError(f"`label_noise` should be above 0. Found {label_noise}.")


def _at_least(options: Mapping[str, float], least: float) -> None:
    for name, value in options.items():
        if not value >= least:
            raise ValueError(f"`{name}` should be at least {least}. Found {value}.")
