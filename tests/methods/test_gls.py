"""The geometric loss strategy against the geometric mean, differentiated by autograd."""

import math

import pytest
import torch
from torchjd.scalarization import GeometricMean

from equipoise import TaskStats
from equipoise.methods.gls import GLS


@pytest.mark.parametrize("m", [1, 2, 3, 11])
def test_weights_are_the_gradient_of_the_geometric_mean(m: int) -> None:
    draws = torch.Generator().manual_seed(m)
    for _ in range(20):
        losses = (10.0 ** (6 * torch.rand(m, generator=draws, dtype=torch.float64) - 3)).requires_grad_()
        for total in (losses.prod() ** (1 / m), GeometricMean()(losses)):
            (expected,) = torch.autograd.grad(total, losses)
            torch.testing.assert_close(GLS(m)(TaskStats(losses)), expected, rtol=1e-10, atol=0)


def test_a_thousand_tasks_do_not_underflow() -> None:
    weights = GLS(1000)(TaskStats(torch.full((1000,), 1e-3)))
    assert weights.tolist() == pytest.approx([1e-3] * 1000)


def test_absent_task_is_left_out_of_the_mean() -> None:
    present = torch.tensor([True, False, True])
    weights = GLS(3)(TaskStats(torch.tensor([2.0, 0.0, 8.0]), present=present))
    mean = math.sqrt(2 * 8)
    assert weights.tolist() == pytest.approx([mean / 2 / 2, 0, mean / 2 / 8])


def test_it_needs_positive_losses() -> None:
    assert GLS.needs_positive_losses
