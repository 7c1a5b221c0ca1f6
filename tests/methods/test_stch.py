"""Smooth Tchebycheff against torchjd's scalarization, and its warmed form against the authors' total."""

import re

import pytest
import torch
from torch import Tensor
from torchjd import scalarization

from equipoise import TaskStats
from equipoise.methods.stch import STCH

PREFERENCE = [0.5, 0.2, 0.3]
REFERENCE = [0.01, -0.2, 0.05]


def draw(m: int, seed: int) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return 10.0 ** (2 * torch.rand(m, generator=draws, dtype=torch.float64) - 1)


def gradient(total: Tensor, losses: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(total, losses)
    return found


@pytest.mark.parametrize("mu", [0.05, 1.0])
def test_weights_are_the_gradient_of_torchjds_scalarization(mu: float) -> None:
    preference, reference = (torch.tensor(v, dtype=torch.float64) for v in (PREFERENCE, REFERENCE))
    for seed in range(20):
        losses = draw(3, seed).requires_grad_()
        stats = TaskStats(losses)
        expected = gradient(scalarization.STCH(mu, preference, reference)(losses), losses)
        found = STCH(3, mu=mu, preference=PREFERENCE, reference=REFERENCE)(stats)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-14)
        torch.testing.assert_close(STCH(3, mu=mu)(stats), gradient(scalarization.STCH(mu)(losses), losses))
        smooth = mu * torch.logsumexp(preference * (losses - reference) / mu, 0)
        torch.testing.assert_close(found, gradient(smooth, losses), rtol=1e-9, atol=1e-14)


def test_the_default_is_mu_1_on_the_raw_losses() -> None:
    losses = draw(4, 0).requires_grad_()
    found = STCH(4)(TaskStats(losses))
    torch.testing.assert_close(found, gradient(torch.logsumexp(losses / 4, 0), losses))


def test_limits_of_mu() -> None:
    stats = TaskStats(torch.tensor([3.0, 1.0, 2.0]).double())
    assert STCH(3, mu=1e-4, preference=[1, 1, 2])(stats).tolist() == pytest.approx([0, 0, 2])
    assert STCH(3, mu=1e6, preference=[1, 1, 2])(stats).tolist() == pytest.approx(
        [1 / 3, 1 / 3, 2 / 3], rel=1e-4
    )


def test_the_largest_loss_does_not_overflow() -> None:
    assert STCH(2, mu=1e-3)(TaskStats(torch.tensor([1e9, 1.0]).double())).tolist() == [0.5, 0]


def test_absent_task_is_left_out_of_the_maximum() -> None:
    present = torch.tensor([True, False, True])
    found = STCH(3, preference=[1, 1, 1])(TaskStats(torch.tensor([1.0, 0.0, 2.0]), present=present))
    losses = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    expected = gradient(torch.logsumexp(losses, 0), losses)
    assert found.tolist() == pytest.approx([expected[0].item(), 0, expected[1].item()])


def test_the_warmed_form_by_a_plain_loop() -> None:
    """Sum of logs for 10 steps, the mean of the last 2 as nadir, then m mu logsumexp(log(L / nadir) / mu)."""
    m, mu, warmup = 3, 0.4, 10
    method = STCH(m, mu=mu, warmup=warmup)
    seen: list[Tensor] = []
    for t in range(20):
        losses = draw(m, t).requires_grad_()
        found = method(TaskStats(losses))
        if t < warmup:
            seen.append(losses.detach())
            total = losses.log().sum()
        else:
            nadir = (seen[-1] + seen[-2]) / 2
            total = m * mu * ((losses / nadir).log() / mu).exp().sum().log()
        torch.testing.assert_close(found, gradient(total, losses), rtol=1e-9, atol=0)


def test_the_warmed_form_with_a_preference() -> None:
    """In the paper's form on log(L / nadir), with m lambda for lambda so that equal shares count as 1."""
    method = STCH(3, mu=0.4, preference=PREFERENCE, warmup=1)
    nadir = draw(3, 0)
    method(TaskStats(nadir))
    losses = draw(3, 1).requires_grad_()
    share = 3 * torch.tensor(PREFERENCE, dtype=torch.float64)
    total = 3 * scalarization.STCH(0.4, share)((losses / nadir).log())
    torch.testing.assert_close(method(TaskStats(losses)), gradient(total, losses), rtol=1e-9, atol=0)


def test_the_warmed_form_with_a_task_that_comes_late() -> None:
    method = STCH(2, mu=0.5, warmup=5)
    first = torch.tensor([True, False])
    for _ in range(5):
        assert method(TaskStats(torch.tensor([4.0, 0.0]), present=first)).tolist() == [0.25, 0]
    assert method(TaskStats(torch.tensor([2.0, 0.0]), present=first)).tolist() == [0.5, 0]
    # Both at their nadir now: equal terms in the log-sum-exp, w_i L_i = m / m.
    assert method(TaskStats(torch.tensor([4.0, 0.5]))).tolist() == pytest.approx([0.25, 2.0])
    assert method(TaskStats(torch.tensor([4.0, 0.25])))[1] < 2.0


def test_the_nadir_of_five_steps_is_the_last_and_each_task_counts_its_own() -> None:
    method = STCH(2, mu=0.5, warmup=5)
    for t in range(5):
        method(TaskStats(torch.tensor([7.0 - t, 1.0 + t])))
    assert method(TaskStats(torch.tensor([3.0, 5.0]))).tolist() == pytest.approx([1 / 3, 1 / 5])
    method = STCH(2, mu=0.5, warmup=10)
    for t in range(10):
        method(TaskStats(torch.tensor([2.0 + 2 * (t == 9), 5.0]), present=torch.tensor([True, t < 9])))
    assert method(TaskStats(torch.tensor([3.0, 5.0]))).tolist() == pytest.approx([1 / 3, 1 / 5])


def test_its_state_holds_no_hyper_parameter() -> None:
    assert set(STCH(2).state_dict()) == {"total", "counts", "steps"}


def test_messages() -> None:
    with pytest.raises(ValueError, match=re.escape("`mu` should be above 0. Found 0.")):
        STCH(2, mu=0.0)
    with pytest.raises(ValueError, match=re.escape("`warmup` should be at least 0. Found -1.")):
        STCH(2, warmup=-1)
    with pytest.raises(ValueError, match=re.escape("`preference` should be 2 finite numbers")):
        STCH(2, preference=[1.0])
    with pytest.raises(ValueError, match=re.escape("`reference` should be 2 finite numbers")):
        STCH(2, reference=[1.0])
    message = "`reference` should be left out with a warm-up, which measures it. Found warmup=3 and reference=[0, 0]."
    with pytest.raises(ValueError, match=re.escape(message)):
        STCH(2, reference=[0, 0], warmup=3)
    with pytest.raises(ValueError, match="Found warmup=1 and"):
        STCH(2, reference=[0, 0], warmup=1)


def test_only_the_warmed_form_needs_positive_losses() -> None:
    assert not STCH(2).needs_positive_losses
    assert STCH(2, warmup=1).needs_positive_losses
