"""What the losses after a step may be without harm to FAMO."""

from __future__ import annotations

import math

import pytest
import torch

import equipoise as eq

LOSSES = torch.tensor([1.0, 2.0, 3.0]).double()


def taught(after: list[float]) -> eq.Method:
    method = eq.build_method("famo", 3, weight_decay=0.0)
    method(eq.TaskStats(LOSSES))
    method.after_step(torch.tensor(after).double())
    return method


@pytest.mark.parametrize("wrong", [math.inf, -math.inf, -0.5])
def test_a_loss_without_a_logarithm_teaches_as_little_as_an_absent_one(wrong: float) -> None:
    expected, found = taught([0.5, math.nan, 2.0]), taught([0.5, wrong, 2.0])
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, rtol=0, atol=0, equal_nan=True)
    assert bool(found(eq.TaskStats(LOSSES)).isfinite().all())


def test_a_loss_that_has_reached_zero_teaches() -> None:
    """It fell most of all, so its logit falls and the others rise, by the step size of Adam's first step."""
    xi = taught([1.0, 0.0, 3.0]).state_dict()["xi"]
    assert xi.tolist() == pytest.approx([0.025, -0.025, 0.025], rel=1e-6)
