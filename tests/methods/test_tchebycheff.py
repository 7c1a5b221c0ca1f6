"""Weighted Tchebycheff against autograd of the maximum, the smooth form and its definition as a norm."""

import re

import pytest
import torch
from torchjd import scalarization

from equipoise import TaskStats
from equipoise.methods.tchebycheff import Tchebycheff

PREFERENCE = [0.5, 0.2, 0.3]
REFERENCE = [0.5, -1.0, 0.1]


def test_weights_are_the_gradient_of_the_maximum() -> None:
    draws = torch.Generator().manual_seed(0)
    chosen = set()
    preference, reference = (torch.tensor(v, dtype=torch.float64) for v in (PREFERENCE, REFERENCE))
    for _ in range(60):
        losses = (torch.randn(3, generator=draws, dtype=torch.float64) * 2).requires_grad_()
        (expected,) = torch.autograd.grad((preference * (losses - reference)).max(), losses)
        found = Tchebycheff(3, preference=PREFERENCE, reference=REFERENCE)(TaskStats(losses))
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
        (smooth,) = torch.autograd.grad(scalarization.STCH(1e-7, preference, reference)(losses), losses)
        torch.testing.assert_close(found, smooth, rtol=1e-6, atol=1e-9)
        chosen.add(int(found.argmax()))
    assert chosen == {0, 1, 2}


def test_weights_times_the_excess_are_the_maximum() -> None:
    losses = torch.tensor([1.0, 4.0, 2.0]).double()
    weights = Tchebycheff(3, preference=[1, 1, 3], reference=[0, 1, 0.5])(TaskStats(losses))
    assert weights.tolist() == [0, 0, 3]
    assert weights @ (losses - torch.tensor([0, 1, 0.5])) == max(1 * 1.0, 1 * 3.0, 3 * 1.5)


def test_equal_preferences_train_the_worst_task() -> None:
    assert Tchebycheff(4)(TaskStats(torch.tensor([1.0, 9.0, 2.0, 3.0]))).tolist() == [0, 0.25, 0, 0]


def test_tasks_at_the_maximum_share_it() -> None:
    """A mean of the gradients of the active pieces, which is a subgradient and follows the order of the tasks."""
    found = Tchebycheff(3, preference=[1, 2, 1])(TaskStats(torch.tensor([4.0, 2.0, 1.0])))
    assert found.tolist() == pytest.approx([0.5, 1.0, 0.0])
    assert Tchebycheff(2)(TaskStats(torch.zeros(2))).tolist() == [0.25, 0.25]


def test_absent_task_is_left_out_of_the_maximum() -> None:
    present = torch.tensor([True, False, True])
    found = Tchebycheff(3)(TaskStats(torch.tensor([-3.0, 0.0, -2.0]), present=present))
    assert found.tolist() == pytest.approx([0, 0, 1 / 3])


def test_messages() -> None:
    with pytest.raises(ValueError, match=re.escape("`preference` should be 2 finite numbers")):
        Tchebycheff(2, preference=[0.0, 0.0])
    with pytest.raises(ValueError, match=re.escape("`reference` should be 2 finite numbers")):
        Tchebycheff(2, reference=[1.0])


def test_it_has_no_state() -> None:
    assert not Tchebycheff(3).state_dict()
