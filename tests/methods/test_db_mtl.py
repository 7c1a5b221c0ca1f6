"""DB-MTL against its update written out in plain Python."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import equipoise as eq
from draws import draw_jacobian
from equipoise.methods.db_mtl import DBMTL

STEPS, M, N = 20, 3, 7


def losses_at(step: int) -> Tensor:
    draws = torch.Generator().manual_seed(100 + step)
    return 10.0 ** (2 * torch.rand(M, generator=draws, dtype=torch.float64) - 1)


def present_at(step: int) -> list[bool]:
    return [True, step % 3 != 1, step >= 4]


def literal_step(
    average: list[list[float]], rows: list[list[float]], losses: list[float], present: list[bool], beta: float
) -> list[float]:
    """One update of the paper; `average` is moved in place."""
    for i in range(M):
        if present[i]:
            for k in range(N):
                average[i][k] = beta * average[i][k] + (1 - beta) * rows[i][k] / losses[i]
    norms = [math.sqrt(sum(x * x for x in row)) for row in average]
    largest = max(norm for norm, here in zip(norms, present, strict=True) if here)
    used = [i for i in range(M) if present[i]]
    return [sum(largest * average[i][k] / norms[i] for i in used) for k in range(N)]


@pytest.mark.parametrize("beta", [0.0, 0.4, 0.9])
@pytest.mark.parametrize("masked", [False, True])
def test_twenty_steps_by_a_plain_loop(beta: float, masked: bool) -> None:
    method = DBMTL(M, beta=beta)
    average = [[0.0] * N for _ in range(M)]
    for step in range(STEPS):
        jacobian, losses = draw_jacobian("scaled", M, N, step), losses_at(step)
        present = present_at(step) if masked else [True] * M
        mask = torch.tensor(present) if masked else None
        seen = jacobian if mask is None else jacobian * mask[:, None]
        found = method(eq.TaskStats(losses, present=mask, jacobian=seen))
        expected = literal_step(average, jacobian.tolist(), losses.tolist(), present, beta)
        assert found.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_without_average_it_is_the_sum_of_log_loss_gradients_made_equally_long() -> None:
    """Autograd of log L through a parameter that the losses share."""
    jacobian, losses = draw_jacobian("scaled", M, N, 3), losses_at(0)
    shared = torch.zeros(N, dtype=torch.float64, requires_grad=True)
    rows = [torch.autograd.grad((losses[i] + jacobian[i] @ shared).log(), shared)[0] for i in range(M)]
    largest = max(row.norm() for row in rows)
    expected = torch.stack([row / row.norm() * largest for row in rows]).sum(0)
    method = DBMTL(M, beta=0.0)
    torch.testing.assert_close(method(eq.TaskStats(losses, jacobian=jacobian)), expected)
    assert method.average.value is None


def test_rescaled_losses_change_nothing() -> None:
    scales = torch.tensor([1e-3, 7.0, 1e4], dtype=torch.float64)
    method, other = DBMTL(M), DBMTL(M)
    for step in range(5):
        jacobian, losses = draw_jacobian("mixed", M, N, step), losses_at(step)
        found = method(eq.TaskStats(losses, jacobian=jacobian))
        again = other(eq.TaskStats(losses * scales, jacobian=jacobian * scales[:, None]))
        torch.testing.assert_close(again, found, rtol=1e-9, atol=1e-12)


def test_zero_gradients_and_one_task() -> None:
    jacobian = draw_jacobian("zero_row", M, N, 1)
    found = DBMTL(M, beta=0.0)(eq.TaskStats(torch.ones(M), jacobian=jacobian))
    alive = [jacobian[0], jacobian[2]]
    largest = max(row.norm() for row in alive)
    torch.testing.assert_close(found, torch.stack([row / row.norm() * largest for row in alive]).sum(0))
    assert DBMTL(M)(eq.TaskStats(torch.ones(M), jacobian=torch.zeros(M, N))).tolist() == [0.0] * N
    one = DBMTL(1, beta=0.0)(eq.TaskStats(torch.tensor([4.0]), jacobian=jacobian[:1]))
    torch.testing.assert_close(one, jacobian[0] / 4)


def test_absent_task_keeps_its_average() -> None:
    method = DBMTL(M)
    method(eq.TaskStats(losses_at(0), jacobian=draw_jacobian("random", M, N, 0)))
    assert method.average.value is not None
    before = method.average.value.clone()
    present = torch.tensor([True, False, True])
    rows = draw_jacobian("random", M, N, 1) * present[:, None]
    method(eq.TaskStats(losses_at(1) * present, present=present, jacobian=rows))
    after = method.average.value
    assert torch.equal(after[1], before[1])
    assert not torch.equal(after[0], before[0])


def test_the_answer_has_the_precision_of_the_gradients_and_the_state_is_no_view_of_them() -> None:
    jacobian = draw_jacobian("random", M, N, 0).float()
    method = DBMTL(M)
    first = method(eq.TaskStats(losses_at(0), jacobian=jacobian))
    assert first.dtype == torch.float32
    assert method.average.value is not None
    kept = method.average.value.clone()
    jacobian.fill_(99.0)
    assert torch.equal(method.average.value, kept)


def test_beta_out_of_its_range() -> None:
    for beta in (-0.1, 1.0):
        with pytest.raises(ValueError, match=rf"`beta` should be at least 0 and below 1. Found {beta:g}\."):
            DBMTL(M, beta=beta)
    with pytest.raises(ValueError, match="`n_tasks` should be at least 1. Found 0"):
        DBMTL(0)


def test_losses_must_be_positive() -> None:
    shared = torch.ones(2, dtype=torch.float64, requires_grad=True)
    losses = [shared.sum(), shared.sum() * 0]
    with pytest.raises(
        ValueError, match=r"Every loss should be finite and above 0 for DBMTL. Found task 1: 0"
    ):
        eq.Balancer(DBMTL(2), shared=[shared]).backward(losses)
