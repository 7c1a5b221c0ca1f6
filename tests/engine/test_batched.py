"""Rows by batched passes against a backward pass per task, which is plain autograd."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import equipoise as eq
from equipoise.engine import batched, rows
from equipoise.engine.batched import Batched

Losses = list[Tensor] | Tensor
Build = Callable[[], tuple[list[nn.Parameter], list[nn.Parameter], Callable[[], Losses]]]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Notes for each backward pass whether it was batched."""
    made: list[bool] = []
    grad, vmap = torch.autograd.grad, torch.vmap

    def plain(*arguments: Any, **options: Any) -> Any:
        made.append(False)
        return grad(*arguments, **options)

    def together(*arguments: Any, **options: Any) -> Any:
        made.append(True)
        return vmap(*arguments, **options)

    monkeypatch.setattr(torch.autograd, "grad", plain)
    monkeypatch.setattr(torch, "vmap", together)
    return made


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch, passes: list[bool]) -> list[bool]:
    """Batched passes wherever they work and agree with the loop."""
    monkeypatch.setattr(rows, "Batched", lambda: Batched(devices=("cpu",), gain=0.0))
    return passes


def with_heads(encoder: nn.Module, inputs: Tensor, tasks: int, width: int = 6) -> Any:
    heads = nn.ModuleList(nn.Linear(width, 1) for _ in range(tasks)).double()
    encoder = encoder.double()
    targets = torch.randn(tasks, len(inputs), 1, dtype=torch.float64)

    def losses() -> list[Tensor]:
        features = encoder(inputs)
        return [(head(features) - t).square().mean() for head, t in zip(heads, targets, strict=True)]

    return list(encoder.parameters()), list(heads.parameters()), losses


def mlp(tasks: int = 3) -> Any:
    encoder = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 6))
    return with_heads(encoder, torch.randn(7, 4).double(), tasks)


def convolutional() -> Any:
    encoder = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 6)
    )
    return with_heads(encoder, torch.randn(5, 2, 6, 6).double(), 3)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True)

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.layer(inputs).mean(1)
        return found


def attention() -> Any:
    return with_heads(Attention(), torch.randn(5, 3, 6).double(), 3)


def one_vector() -> Any:
    """Losses that are the elements of one tensor."""
    layer, inputs = nn.Linear(4, 3).double(), torch.randn(7, 4).double()
    return list(layer.parameters()), [], lambda: layer(inputs).square().mean(0)


def two_places() -> Any:
    """Heads that read two outputs of the encoder; the third reads one."""
    first, second = nn.Linear(4, 6).double(), nn.Linear(4, 6).double()
    heads, inputs = nn.ModuleList(nn.Linear(6, 1) for _ in range(3)).double(), torch.randn(7, 4).double()

    def losses() -> list[Tensor]:
        trunk = first(inputs).tanh()
        a, b = trunk.sin(), (trunk * second(inputs)).exp()
        return [heads[0](a + b).mean(), heads[1](a * b).mean(), heads[2](b).square().mean()]

    return [*first.parameters(), *second.parameters()], list(heads.parameters()), losses


def shared_in_part() -> Any:
    """All tasks reach the last layer of the encoder, but it does not count as shared."""
    parameters, heads, losses = mlp()
    return parameters[:2], parameters[2:] + heads, losses


def chained() -> Any:
    """One loss adds to another: the graph of task 0 is a part of that of task 1."""
    parameters, heads, losses = mlp(2)

    def added() -> list[Tensor]:
        one, two = losses()
        return [one, one.exp() + two]

    return parameters, heads, added


def one_below_another() -> Any:
    """The first head reads features from which those of the other two are made."""
    layer, heads = nn.Linear(4, 6).double(), nn.ModuleList(nn.Linear(6, 1) for _ in range(3)).double()
    inputs = torch.randn(7, 4).double()

    def losses() -> list[Tensor]:
        early = layer(inputs).tanh()
        late = early.exp()
        return [heads[0](early).mean(), heads[1](late).mean(), heads[2](late).square().mean()]

    return list(layer.parameters()), list(heads.parameters()), losses


def one_task() -> Any:
    return mlp(1)


def tied() -> Any:
    """A shared weight that one head uses again."""
    parameters, heads, losses = mlp(3)

    def plus() -> list[Tensor]:
        one, two, three = losses()
        return [one + parameters[0].sin().sum(), two, three]

    return parameters, heads, plus


class Doubled(torch.autograd.Function):
    """An operation whose backward pass cannot be batched."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return 2 * value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return torch.mul(grad, torch.full_like(grad, 2.0), out=torch.empty(grad.shape, dtype=grad.dtype))


class Wrong(Doubled):
    """An operation whose backward pass gives something else where it is batched."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * (2.1 if torch._C._functorch.is_batchedtensor(grad) else 2.0)


class Applied(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.function.apply(inputs)
        return found


def not_batchable() -> Any:
    encoder = nn.Sequential(nn.Linear(4, 5), Applied(Doubled), nn.Linear(5, 6))
    return with_heads(encoder, torch.randn(7, 4).double(), 3)


def wrong_if_batched() -> Any:
    encoder = nn.Sequential(nn.Linear(4, 5), Applied(Wrong), nn.Linear(5, 6))
    return with_heads(encoder, torch.randn(7, 4).double(), 3)


def step(
    build: Build, passes: list[bool], present: Tensor | None = None
) -> tuple[list[Tensor], list[Tensor], int]:
    """The gradients that a second step leaves, those of plain autograd, and the batched passes of that step.

    CAGrad leaves heads alone, so that theirs are those of the sum of the losses.
    """
    torch.manual_seed(0)
    shared, heads, losses = build()
    n_tasks = len(losses())
    balancer = eq.Balancer(eq.build_method("cagrad", n_tasks), shared=shared)
    for _ in range(2):
        for parameter in (*shared, *heads):
            parameter.grad = None
        passes.clear()
        record = balancer.backward(losses(), present=present)
    made = sum(passes)
    there = torch.ones(n_tasks) if present is None else present.double()
    values = torch.stack(list(losses()))
    ours: list[Tensor] = []
    expected: list[Tensor] = []
    for parameters, weights in ((shared, record.weights), (heads, there.double())):
        for parameter in parameters:
            ours.append(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
            expected += torch.autograd.grad(weights @ values, parameter, retain_graph=True)
    return ours, expected, made


@pytest.mark.parametrize(
    "build",
    [mlp, convolutional, attention, one_vector, two_places, shared_in_part],
    ids=lambda build: build.__name__,
)
def test_batched_passes_give_the_gradients_of_plain_autograd(build: Build, forced: list[bool]) -> None:
    ours, expected, made = step(build, forced)
    assert made > 0
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "build", [chained, one_below_another, tied, one_task], ids=lambda build: build.__name__
)
def test_the_loop_stays_without_a_trial_where_batching_would_be_wrong(
    build: Build, forced: list[bool], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="equipoise"):
        ours, expected, made = step(build, forced)
    assert made == 0 and not caplog.text
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)


def test_more_tasks_than_fit_into_a_pass(forced: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batched, "CHUNK", 2)
    ours, expected, made = step(lambda: mlp(5), forced)
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)
    assert made == 3  # for two, two and one task


def test_an_absent_task_takes_the_loop(forced: list[bool]) -> None:
    ours, expected, made = step(mlp, forced, torch.tensor([True, False, True]))
    assert made == 0
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)


def test_deterministic_runs_and_a_cpu_take_the_loop(
    passes: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert step(mlp, passes)[2] == 0
    monkeypatch.setattr(rows, "Batched", lambda: Batched(devices=("cpu",), gain=0.0))
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    assert step(mlp, passes)[2] == 0


@pytest.mark.parametrize(("seconds", "chosen"), [((1.3, 1.0, 5.0, 2.0), True), ((5.0, 1.0, 1.1, 1.0), False)])
def test_the_quicker_way_is_kept_and_said(
    seconds: tuple[float, ...],
    chosen: bool,
    passes: list[bool],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = iter(seconds)  # in turn of the loop and of batched passes, and for one network only
    monkeypatch.setattr(batched, "_seconds", lambda gradients, device: next(clock))
    monkeypatch.setattr(rows, "Batched", lambda: Batched(devices=("cpu",)))
    with caplog.at_level(logging.INFO, logger="equipoise"):
        ours, expected, made = step(mlp, passes)
    assert made == chosen
    assert ("batched over the tasks (" if chosen else "task by task (") in caplog.text
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("build", "reason"), [(not_batchable, "cannot be batched"), (wrong_if_batched, "they differ")]
)
def test_why_the_loop_stays_is_said(
    build: Build, reason: str, forced: list[bool], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="equipoise"):
        ours, expected, made = step(build, forced)
    assert made == 0 and caplog.text.count(reason) == 1
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)


def test_graphs_that_keep_changing_are_not_timed_for_ever(forced: list[bool]) -> None:
    shared, _, losses = mlp()
    balancer = eq.Balancer(eq.build_method("cagrad", 3), shared=shared)
    made = []
    for depth in range(6):
        values = list(losses())
        for _ in range(depth):
            values[0] = values[0].sin()
        forced.clear()
        balancer.backward(values)
        made.append(len(forced))
    assert made[3] > made[4] == made[5] == 3


def test_the_graph_is_freed(forced: list[bool]) -> None:
    shared, _, losses = mlp()
    balancer = eq.Balancer(eq.build_method("cagrad", 3), shared=shared)
    values = losses()
    balancer.backward(values)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(values[0], shared)
