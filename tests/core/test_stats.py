"""What a method may see."""

from __future__ import annotations

import pytest
import torch

import equipoise as eq
from equipoise.core import LastLosses, gramian_of


def test_gramian_is_derived_from_the_jacobian() -> None:
    jacobian = torch.randn(3, 50, generator=torch.Generator().manual_seed(0)).double()
    stats = eq.TaskStats(torch.ones(3), jacobian=jacobian)
    torch.testing.assert_close(stats.gramian, jacobian @ jacobian.T)


def test_blocked_gramian_of_float32_is_exact_where_the_plain_product_is_not() -> None:
    jacobian = torch.randn(3, 200_000, generator=torch.Generator().manual_seed(0)) + 1
    exact = jacobian.double() @ jacobian.double().T
    torch.testing.assert_close(gramian_of(jacobian, block=16_384), exact, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        gramian_of(jacobian[:, :10], block=3), jacobian[:, :10].double() @ jacobian[:, :10].double().T
    )


def test_reading_what_was_not_measured() -> None:
    with pytest.raises(eq.MissingStatisticError, match="Found only the losses: set `reads`"):
        _ = eq.TaskStats(torch.ones(2)).gramian
    with pytest.raises(eq.MissingStatisticError, match="Found only the losses and the Gramian"):
        _ = eq.TaskStats(torch.ones(2), gramian=torch.eye(2)).jacobian


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"losses": torch.ones(2, 1)}, r"`losses` should have shape \('m',\). Found \(2, 1\)"),
        (
            {"losses": torch.ones(2), "gramian": torch.eye(3)},
            r"`gramian` should have shape \(2, 2\). Found \(3, 3\)",
        ),
        ({"losses": torch.ones(2), "jacobian": torch.ones(3, 4)}, r"`jacobian` should have shape \(2, 4\)"),
        (
            {"losses": torch.ones(2), "present": torch.ones(3) > 0},
            r"`present` should have shape \(2,\). Found \(3,\)",
        ),
    ],
)
def test_shapes_that_do_not_agree(kwargs: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        eq.TaskStats(**kwargs)  # type: ignore[arg-type]


def test_only_present_keeps_the_rows_of_present_tasks() -> None:
    jacobian = torch.arange(12.0).view(3, 4)
    stats = eq.TaskStats(
        torch.tensor([1.0, 2.0, 3.0]), present=torch.tensor([True, False, True]), jacobian=jacobian
    )
    seen, index = stats.only_present()
    assert index.tolist() == [0, 2]
    assert seen.losses.tolist() == [1, 3]
    assert torch.equal(seen.gramian, (jacobian[[0, 2]] @ jacobian[[0, 2]].T).double())


def test_last_losses_fill_absent_tasks() -> None:
    filled = LastLosses(3)
    some = torch.tensor([True, True, False])
    assert filled(eq.TaskStats(torch.tensor([1.0, 3.0, 0.0]), present=some)).tolist() == [1, 3, 2]
    assert filled(eq.TaskStats(torch.tensor([5.0, 6.0, 7.0]))).tolist() == [5, 6, 7]
    assert filled(eq.TaskStats(torch.tensor([2.0, 2.0, 0.0]), present=some)).tolist() == [2, 2, 7]
