"""COSMOS against torchjd's scalarization and against its total by central differences."""

import math
import re

import pytest
import torch
from torchjd import scalarization

from equipoise import TaskStats
from equipoise.methods.cosmos import COSMOS

PREFERENCE = [0.5, 0.2, 0.3]


@pytest.mark.parametrize("alignment", [0.0, 0.01, 8.0])
def test_weights_are_the_gradient_of_torchjds_scalarization(alignment: float) -> None:
    preference = torch.tensor(PREFERENCE, dtype=torch.float64)
    for seed in range(20):
        draws = torch.Generator().manual_seed(seed)
        size = 10.0 ** (seed % 7 - 3)
        losses = (size * torch.rand(3, generator=draws, dtype=torch.float64)).requires_grad_()
        (expected,) = torch.autograd.grad(scalarization.COSMOS(alignment, preference)(losses), losses)
        found = COSMOS(3, alignment=alignment, preference=PREFERENCE)(TaskStats(losses))
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


def test_weights_by_central_differences_with_the_defaults() -> None:
    def total(losses: list[float]) -> float:
        share = 1 / len(losses)
        cosine = sum(share * x for x in losses) / (math.hypot(*losses) * share * math.sqrt(len(losses)))
        return share * sum(losses) - 2.0 * cosine

    losses, h = [0.5, 2.0, 1.0, 7.0], 1e-6
    expected = [
        (
            total([x + h * (i == j) for j, x in enumerate(losses)])
            - total([x - h * (i == j) for j, x in enumerate(losses)])
        )
        / (2 * h)
        for i in range(4)
    ]
    assert COSMOS(4)(TaskStats(torch.tensor(losses))).tolist() == pytest.approx(expected, rel=1e-6)


def test_aligned_losses_feel_the_preference_alone() -> None:
    preference = torch.tensor(PREFERENCE, dtype=torch.float64)
    torch.testing.assert_close(COSMOS(3, preference=PREFERENCE)(TaskStats(7 * preference)), preference)


def test_zero_losses_and_one_task() -> None:
    assert COSMOS(2)(TaskStats(torch.zeros(2))).tolist() == [0.5, 0.5]
    assert COSMOS(1)(TaskStats(torch.tensor([3.0]))).tolist() == pytest.approx([1.0])


def test_absent_task_is_as_if_there_were_no_such_task() -> None:
    present = torch.tensor([True, False, True])
    found = COSMOS(3, preference=[1, 5, 2])(TaskStats(torch.tensor([2.0, 0.0, 1.0]), present=present))
    small = COSMOS(2, preference=[1, 2])(TaskStats(torch.tensor([2.0, 1.0])))
    assert found.tolist() == pytest.approx([small[0].item(), 0, small[1].item()])


def test_present_tasks_that_nobody_prefers_rest() -> None:
    stats = TaskStats(torch.tensor([2.0, 0.0]), present=torch.tensor([True, False]))
    assert COSMOS(2, preference=[0, 1])(stats).tolist() == [0, 0]


def test_messages() -> None:
    with pytest.raises(ValueError, match=re.escape("`alignment` should be at least 0. Found -1.")):
        COSMOS(2, alignment=-1)
    with pytest.raises(ValueError, match=re.escape("`preference` should be 2 finite numbers")):
        COSMOS(2, preference=[1.0])


def test_it_has_no_state() -> None:
    assert not COSMOS(3).state_dict()
