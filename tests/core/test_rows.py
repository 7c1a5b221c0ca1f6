"""What methods share that keep gradients from step to step, or compare those of two batches."""

from __future__ import annotations

import pytest
import torch

import equipoise as eq
from equipoise.core import Tracked
from equipoise.core.rows import cross_gramian, tracked_like


def test_tracked_like_starts_at_zero_and_then_hands_out_the_tensor_itself() -> None:
    tracked, rows = Tracked(), torch.ones(2, 3)
    started = tracked_like(tracked, rows)
    assert torch.equal(started, torch.zeros(2, 3))
    assert tracked.value is started
    started.add_(5)
    assert tracked_like(tracked, rows) is started


def test_tracked_like_follows_dtype_and_device_of_the_gradients() -> None:
    """As after loading a state that was saved elsewhere."""
    tracked = Tracked()
    tracked.set_extra_state(torch.ones(2, 3, dtype=torch.float64))
    found = tracked_like(tracked, torch.zeros(2, 3))
    assert found.dtype == torch.float32
    assert tracked_like(tracked, torch.zeros(2, 3, device="meta")).device.type == "meta"


def test_gradients_of_other_shape_than_before_are_refused() -> None:
    tracked = Tracked()
    tracked_like(tracked, torch.zeros(3, 9))
    with pytest.raises(
        ValueError,
        match=r"shared parameters should stay the same.*Found \(3, 7\) where it was \(3, 9\): pass `shared=`",
    ):
        tracked_like(tracked, torch.zeros(3, 7))


def test_cross_gramian_of_float32_is_exact_where_the_plain_product_is_not() -> None:
    draws = torch.Generator().manual_seed(0)
    first, second = (torch.randn(m, 20_000, generator=draws) + 1 for m in (3, 3))
    other = eq.TaskStats(torch.ones(3), jacobian=second)
    found = cross_gramian(eq.TaskStats(torch.ones(3), jacobian=first, other=other))
    torch.testing.assert_close(found, first.double() @ second.double().T, rtol=1e-12, atol=0)
    assert not torch.equal(found, found.T)


@pytest.mark.parametrize(
    ("jacobian", "blocks"), [(torch.ones(2, 5), None), (torch.ones(2, 6), [2, 4]), (torch.ones(2, 6), [6])]
)
def test_batches_of_other_parameters_are_refused(jacobian: torch.Tensor, blocks: list[int] | None) -> None:
    second = eq.TaskStats(torch.ones(2), jacobian=jacobian, blocks=blocks)
    stats = eq.TaskStats(torch.ones(2), jacobian=torch.ones(2, 6), blocks=[3, 3], other=second)
    with pytest.raises(
        ValueError,
        match=r"Both batches should reach the same shared parameters. Found \d tensors.*in the first and "
        r"\d.*in the second: pass `shared=`",
    ):
        cross_gramian(stats)


def test_cross_gramian_names_what_was_not_measured() -> None:
    with pytest.raises(eq.MissingStatisticError, match="should be measured before a method reads it"):
        cross_gramian(eq.TaskStats(torch.ones(2)))
    with pytest.raises(eq.MissingStatisticError, match="A second batch should be measured"):
        cross_gramian(eq.TaskStats(torch.ones(2), jacobian=torch.ones(2, 3)))
