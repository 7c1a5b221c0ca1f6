"""UW-O: the weights at which uncertainty weighting would come to rest."""

import pytest
import torch

from equipoise import TaskStats
from equipoise.methods import SI, UW
from equipoise.methods.uw_o import UWO

LOSSES = torch.tensor([0.2, 3.0, 50.0], dtype=torch.float64)


def test_weights_are_one_over_the_losses() -> None:
    assert UWO(3)(TaskStats(LOSSES)).tolist() == pytest.approx([1 / 0.2, 1 / 3, 1 / 50])


def test_it_is_si_by_another_derivation() -> None:
    assert torch.equal(UWO(3)(TaskStats(LOSSES)), SI(3)(TaskStats(LOSSES)))
    present = torch.tensor([True, False, True])
    stats = TaskStats(torch.tensor([0.2, 0.0, 50.0]), present=present)
    assert torch.equal(UWO(3)(stats), SI(3)(stats))
    assert UWO(3)(stats)[1] == 0


def test_uw_learns_half_of_these_weights() -> None:
    """UW's total 0.5 (exp(-s) L + s), run to its minimum in s, ends at half of UW-O: its constant factor."""
    uw = UW(3)
    optimizer = torch.optim.LBFGS(uw.parameters(), max_iter=200, tolerance_grad=1e-12, tolerance_change=0)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        total = uw(TaskStats(LOSSES)) @ LOSSES + uw.penalty()
        torch.autograd.backward(total)
        return total

    optimizer.step(closure)
    torch.testing.assert_close(
        2 * uw(TaskStats(LOSSES)).detach(), UWO(3)(TaskStats(LOSSES)), rtol=1e-6, atol=0
    )


def test_it_needs_positive_losses() -> None:
    assert UWO.needs_positive_losses
