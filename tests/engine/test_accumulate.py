"""Windows of micro-batches: methods that read gradients equal one large batch, the others keep their weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import equipoise as eq
from networks import TwoPart, network
from rank_cases import data, losses_of

STEPS = 5
ROWS = sorted(name for name, cls in eq.METHODS.items() if cls(3).reads > eq.Reads.LOSSES)
LOSSES = sorted(set(eq.METHODS) - set(ROWS))
Feed = Callable[[eq.Balancer, TwoPart, int], list[eq.StepRecord]]


def train(spec: str, length: int, feed: Feed) -> tuple[list[Tensor], list[eq.StepRecord]]:
    """The parameters after some steps, and the last record of each."""
    model = network("mlp")
    balancer = eq.Balancer(eq.build_method(spec, 3), shared=model.encoder.parameters(), accumulate=length)
    optimizer = torch.optim.SGD([*model.parameters(), *balancer.parameters()], lr=0.01)
    records = []
    for step in range(STEPS):
        optimizer.zero_grad()
        records.append(feed(balancer, model, step)[-1])
        optimizer.step()
    return [p.detach() for p in model.parameters()], records


def whole(balancer: eq.Balancer, model: TwoPart, step: int) -> list[eq.StepRecord]:
    x, y = data(step)
    if balancer.method.second_batch:
        balancer.measure(losses_of(model, *data(1000 + step)))
    return [balancer.backward(losses_of(model, x, y))]


def parts(balancer: eq.Balancer, model: TwoPart, step: int, sizes: tuple[int, ...] = (2, 2, 2, 2)) -> Any:
    x, y = data(step)
    if balancer.method.second_batch:
        balancer.measure(losses_of(model, *data(1000 + step)))
    records = []
    for here, there in zip(x.split(sizes), y.split(sizes), strict=True):
        counts = None if len(set(sizes)) == 1 else [float(len(here))] * 3
        records.append(balancer.backward(losses_of(model, here, there), counts=counts))
    return records


def uneven(balancer: eq.Balancer, model: TwoPart, step: int) -> list[eq.StepRecord]:
    found: list[eq.StepRecord] = parts(balancer, model, step, (4, 1, 3))
    return found


@pytest.mark.parametrize("spec", ROWS)
@pytest.mark.parametrize(("length", "feed"), [(4, parts), (3, uneven)], ids=["even", "uneven"])
def test_methods_of_gradients_equal_one_large_batch(spec: str, length: int, feed: Feed) -> None:
    found, records = train(spec, length, feed)
    expected, whole_records = train(spec, 1, whole)
    tolerance = 1e-8 if spec == "sdmgrad" else 1e-10
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * float(b.abs().max()))
    for mine, other in zip(records, whole_records, strict=True):
        assert mine.complete
        torch.testing.assert_close(mine.losses, other.losses)
        torch.testing.assert_close(mine.weights, other.weights, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("spec", LOSSES)
def test_methods_of_losses_keep_the_weights_of_the_first_micro_batch(spec: str) -> None:
    """Against plain autograd: the mean over micro-batches of the losses times the weights of the first one."""
    model, reference = network("mlp"), network("mlp")
    balancer = eq.Balancer(eq.build_method(spec, 3), accumulate=4)
    method = eq.build_method(spec, 3)
    for step in range(3):
        model.zero_grad()
        reference.zero_grad()
        records = parts(balancer, model, step)
        x, y = data(step)
        pieces = [losses_of(reference, a, b) for a, b in zip(x.split(2), y.split(2), strict=True)]
        other = eq.TaskStats(torch.stack(losses_of(reference, *data(1000 + step))))
        weights = method(eq.TaskStats(torch.stack(pieces[0]), other=other)).detach()
        sum(weights @ torch.stack(piece) / 4 for piece in pieces).backward()  # type: ignore[union-attr]
        for mine, plain in zip(model.parameters(), reference.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, plain.grad)
        for record in records:
            torch.testing.assert_close(record.weights, weights)


def test_a_task_absent_when_the_method_is_asked_keeps_its_last_weight() -> None:
    model = network("mlp")
    balancer = eq.Balancer(eq.build_method("constant", 3, weights=[2.0, 3.0, 4.0]), accumulate=2)
    present = [True, False, True]
    assert balancer.backward(losses_of(model, *data(0)), present=present).weights.tolist() == [2, 0, 4]
    assert balancer.backward(losses_of(model, *data(1))).weights.tolist() == [2, 1, 4]
    assert balancer.backward(losses_of(model, *data(2))).weights.tolist() == [2, 3, 4]
    assert balancer.backward(losses_of(model, *data(3)), present=present).weights.tolist() == [2, 0, 4]
    assert balancer.backward(losses_of(model, *data(4)), present=present).weights.tolist() == [2, 0, 4]
    assert balancer.backward(losses_of(model, *data(5))).weights.tolist() == [2, 3, 4]


def test_a_task_with_labels_in_some_micro_batches_has_the_mean_of_those() -> None:
    model = network("mlp")
    balancer = eq.Balancer(eq.build_method("mgda", 3), accumulate=2)
    first = balancer.backward(losses_of(model, *data(0)), present=[True, False, True])
    assert not first.complete
    assert first.weights.isnan().all()
    second = balancer.backward(losses_of(model, *data(1)), present=[True, True, False])
    a, b = (torch.stack(losses_of(model, *data(step))).detach() for step in (0, 1))
    torch.testing.assert_close(second.losses, torch.stack([(a[0] + b[0]) / 2, b[1], a[2]]))


def test_nothing_is_written_before_a_window_of_rows_ends() -> None:
    model = network("mlp")
    balancer = eq.Balancer(eq.build_method("mgda", 3), accumulate=2)
    balancer.backward(losses_of(model, *data(0)))
    assert all(p.grad is None for p in model.parameters())
    with pytest.raises(
        RuntimeError, match="between two steps of the optimizer. Found micro-batch 1 of 2 done"
    ):
        balancer.state_dict()
    balancer.backward(losses_of(model, *data(1)))
    assert all(p.grad is not None for p in model.parameters())


def test_the_shared_gradient_of_the_whole_window_is_clipped() -> None:
    """nashmtl+every between its answers: weights from before, one clip of the sum."""
    model, other = network("mlp"), network("mlp")
    window = eq.Balancer(eq.build_method("nashmtl+every:steps=2", 3), accumulate=4, shared=model.encoder)
    one = eq.Balancer(eq.build_method("nashmtl+every:steps=2", 3), shared=other.encoder)
    for step in range(2):
        model.zero_grad()
        other.zero_grad()
        parts(window, model, step)
        whole(one, other, step)
        for mine, plain in zip(model.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, plain.grad)


def test_bad_windows_are_refused() -> None:
    with pytest.raises(ValueError, match="`accumulate` should be at least 1. Found 0"):
        eq.Balancer(eq.build_method("ls", 3), accumulate=0)
    balancer = eq.Balancer(eq.build_method("ls", 3), tasks=["a", "b", "c"])
    model = network("mlp")
    with pytest.raises(ValueError, match="`counts` should be 3 numbers of at least 0, one per task. Found"):
        balancer.backward(dict(zip("abc", losses_of(model, *data(0)), strict=True)), counts=[1, 2])
    with pytest.raises(ValueError, match="`counts` should be 3 numbers of at least 0"):
        balancer.backward(dict(zip("abc", losses_of(model, *data(0)), strict=True)), counts={"a": -1})
