"""LDC-MTL against its total, written out and trained with plain autograd."""

import math
import re

import pytest
import torch
from torch import Tensor

from equipoise import Balancer, TaskStats
from equipoise.methods.ldc_mtl import LDCMTL

SCALES = ("initial", "log", "none")


def losses_at(shared: Tensor) -> Tensor:
    targets = torch.tensor([[1.0, 0.0], [0.0, 3.0], [-2.0, 1.0], [0.5, 0.5]], dtype=torch.float64)
    scales = torch.tensor([1.0, 5.0, 0.1, 2.0], dtype=torch.float64)
    return scales * (((shared - targets) ** 2).sum(1) + 0.3)


def total_of(losses: Tensor, initial: Tensor, logits: Tensor, discrepancy: float, loss_scale: str) -> Tensor:
    """The authors' total for one step, task by task."""
    m = len(losses)
    values = [losses[i] if loss_scale == "none" else losses[i] / initial[i] for i in range(m)]
    if loss_scale == "log":
        values = [value.log() for value in values]
    shares = [1 / (1 + torch.exp(-torch.clamp(logits[i], min=0))) for i in range(m)]
    norm = sum(share.item() for share in shares)
    total = losses.new_zeros(())
    for i in range(m):
        total = total + shares[i] * values[i] / norm
    for i in range(m - 1):
        total = total + discrepancy * (shares[i] * values[i] - shares[i + 1] * values[i + 1]).abs()
    return total


@pytest.mark.parametrize("loss_scale", SCALES)
def test_twenty_steps_of_training_by_the_total(loss_scale: str) -> None:
    method = LDCMTL(4, discrepancy=0.07, loss_scale=loss_scale)
    logits = torch.full((4,), 0.6, dtype=torch.float64, requires_grad=True)
    mine, other = (torch.zeros(2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    balancer = Balancer(method)
    ours = torch.optim.SGD([mine, *method.parameters()], lr=0.05)
    theirs = torch.optim.SGD([other, logits], lr=0.05)
    initial = losses_at(other).detach()
    for _ in range(20):
        ours.zero_grad()
        theirs.zero_grad()
        balancer.backward(losses_at(mine))
        total_of(losses_at(other), initial, logits, 0.07, loss_scale).backward()
        torch.testing.assert_close(method.logits.grad, logits.grad, rtol=1e-9, atol=1e-12)
        ours.step()
        theirs.step()
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(method.logits, logits, rtol=1e-9, atol=1e-12)
    assert (logits - 0.6).abs().min() > 1e-4
    assert (losses_at(other) - initial).abs().min() > 1e-3


def test_the_defaults_are_lambda_0_05_on_the_initial_losses() -> None:
    losses = torch.tensor([1.0, 5.0, 2.0], dtype=torch.float64)
    method, spelled = LDCMTL(3), LDCMTL(3, discrepancy=0.05, loss_scale="initial")
    for row in (losses, losses * torch.tensor([0.5, 0.9, 0.7])):
        assert torch.equal(method(TaskStats(row)), spelled(TaskStats(row)))


@pytest.mark.parametrize("loss_scale", ["initial", "none"])
def test_the_weights_are_the_whole_total_where_the_losses_enter_linearly(loss_scale: str) -> None:
    method = LDCMTL(4, discrepancy=0.3, loss_scale=loss_scale)
    initial = torch.tensor([2.0, 1.0, 8.0, 1.0], dtype=torch.float64)
    method(TaskStats(initial))
    losses = torch.tensor([1.0, 0.9, 2.0, 0.3], dtype=torch.float64)
    total = method(TaskStats(losses)) @ losses
    expected = total_of(losses, initial, torch.full((4,), 0.6).double(), 0.3, loss_scale)
    assert total.item() == pytest.approx(expected.item())
    assert method.penalty().item() == pytest.approx(0.0, abs=1e-15)


def test_first_losses_tie_whatever_their_units() -> None:
    """Rounding in l_i = L_i / L_i(0) would decide the sign of a discrepancy that is 0."""
    draws = torch.Generator().manual_seed(0)
    for loss_scale in ("initial", "log"):
        for _ in range(20):
            losses = 10.0 ** (6 * torch.rand(5, generator=draws, dtype=torch.float64) - 3)
            shares = LDCMTL(5, discrepancy=1.0, loss_scale=loss_scale)(TaskStats(losses)) * losses
            assert shares.tolist() == pytest.approx([0.2] * 5)


def test_one_task_is_trained_on_its_share_of_the_initial_loss() -> None:
    method = LDCMTL(1)
    assert method(TaskStats(torch.tensor([4.0]))).tolist() == pytest.approx([0.25])
    assert method(TaskStats(torch.tensor([2.0]))).tolist() == pytest.approx([0.25])


def test_absent_task_has_no_weight_and_no_neighbours() -> None:
    method = LDCMTL(3, discrepancy=0.2)
    method(TaskStats(torch.tensor([1.0, 1.0, 1.0])))
    stats = TaskStats(torch.tensor([0.5, 0.0, 0.9]), present=torch.tensor([True, False, True]))
    weights = method(stats)
    assert weights.tolist() == pytest.approx([1 / 3, 0, 1 / 3])
    (weights @ stats.losses + method.penalty()).backward()
    assert method.logits.grad is not None
    assert method.logits.grad[1] == 0


def test_a_late_task_is_measured_by_its_own_first_loss() -> None:
    method = LDCMTL(2, discrepancy=0.0)
    method(TaskStats(torch.tensor([4.0, 0.0]), present=torch.tensor([True, False])))
    assert method(TaskStats(torch.tensor([2.0, 8.0]))).tolist() == pytest.approx([0.5 / 4, 0.5 / 8])
    assert method(TaskStats(torch.tensor([2.0, 1.0]))).tolist() == pytest.approx([0.5 / 4, 0.5 / 8])


def test_the_share_that_trails_is_pushed_and_the_one_ahead_held_back() -> None:
    method = LDCMTL(2, discrepancy=0.05)
    method(TaskStats(torch.tensor([1.0, 1.0])))
    weights = method(TaskStats(torch.tensor([0.9, 0.2])))
    share = 1 / (1 + math.exp(-0.6))
    assert weights.tolist() == pytest.approx([0.5 + 0.05 * share, 0.5 - 0.05 * share])


def test_messages() -> None:
    with pytest.raises(ValueError, match=re.escape("`discrepancy` should be at least 0. Found -1.")):
        LDCMTL(2, discrepancy=-1)
    with pytest.raises(
        ValueError, match=re.escape("`loss_scale` should be one of initial, log, none. Found 'std'.")
    ):
        LDCMTL(2, loss_scale="std")


def test_only_the_raw_losses_may_be_anything() -> None:
    assert [LDCMTL(2, loss_scale=s).needs_positive_losses for s in SCALES] == [True, True, False]
