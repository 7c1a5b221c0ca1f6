"""IMTL-L against torchjd's, and against the optimum of its scales."""

import math

import pytest
import torch
from torch import Tensor
from torchjd import scalarization

from equipoise import Balancer, TaskStats
from equipoise.methods.imtl_l import IMTLL


def losses_at(shared: Tensor) -> Tensor:
    targets = torch.tensor([[1.0, 0.0], [0.0, 3.0], [-2.0, 1.0]], dtype=torch.float64)
    scales = torch.tensor([1.0, 20.0, 0.1], dtype=torch.float64)
    return scales * (((shared - targets) ** 2).sum(1) + 0.3)


def test_twenty_steps_of_training_equal_torchjd() -> None:
    ours, theirs = IMTLL(3), scalarization.IMTLL(3).double()
    mine, other = (torch.zeros(2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    balancer = Balancer(ours)
    steps = [torch.optim.SGD([w, *m.parameters()], lr=0.02) for w, m in ((mine, ours), (other, theirs))]
    for _ in range(20):
        for step in steps:
            step.zero_grad()
        balancer.backward(losses_at(mine))
        theirs(losses_at(other)).backward()
        for step in steps:
            step.step()
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(ours.log_scales, theirs.log_scale, rtol=1e-12, atol=1e-12)
    assert ours.log_scales.abs().min() > 1e-3


def test_by_a_plain_loop() -> None:
    """The scales follow s <- s - lr (exp(s) L - 1) and end where every exp(s) L is 1."""
    losses, lr = [0.5, 2.0, 7.0], 0.05
    method = IMTLL(3)
    optimizer = torch.optim.SGD(method.parameters(), lr=lr)
    s = [0.0, 0.0, 0.0]
    stats = TaskStats(torch.tensor(losses).double())
    for _ in range(600):
        weights = method(stats)
        assert weights.tolist() == pytest.approx([math.exp(x) for x in s])
        assert method.penalty().item() == pytest.approx(-sum(s))
        optimizer.zero_grad()
        (weights @ stats.losses + method.penalty()).backward()
        optimizer.step()
        s = [x - lr * (math.exp(x) * loss - 1) for x, loss in zip(s, losses, strict=True)]
    assert (method(stats) * stats.losses).tolist() == pytest.approx([1.0] * 3, rel=1e-5)


def test_it_starts_as_the_plain_sum() -> None:
    assert IMTLL(3)(TaskStats(torch.ones(3))).tolist() == [1, 1, 1]


def test_absent_task_has_no_weight_and_its_scale_rests() -> None:
    method = IMTLL(2)
    stats = TaskStats(torch.tensor([2.0, 0.0]).double(), present=torch.tensor([True, False]))
    weights = method(stats)
    assert method.penalty().item() == 0
    (weights @ stats.losses + method.penalty()).backward()
    assert weights.tolist() == [1, 0]
    assert method.log_scales.grad is not None
    assert method.log_scales.grad.tolist() == [1, 0]
