"""Penalty-based boundary intersection against torchjd's, and against distances measured in the plane."""

import math
import re

import pytest
import torch
from torchjd import scalarization

from equipoise import TaskStats
from equipoise.methods.pbi import PBI

PREFERENCE = [0.5, 0.2, 0.3]
REFERENCE = [0.01, -0.2, 0.05]


@pytest.mark.parametrize("theta", [0.0, 0.7, 5.0])
def test_weights_are_the_gradient_of_torchjds_scalarization(theta: float) -> None:
    preference, reference = (torch.tensor(v, dtype=torch.float64) for v in (PREFERENCE, REFERENCE))
    for seed in range(20):
        draws = torch.Generator().manual_seed(seed)
        losses = (4 * torch.rand(3, generator=draws, dtype=torch.float64)).requires_grad_()
        (expected,) = torch.autograd.grad(scalarization.PBI(theta, preference, reference)(losses), losses)
        found = PBI(3, theta=theta, preference=PREFERENCE, reference=REFERENCE)(TaskStats(losses))
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)


def test_the_default_is_theta_5_and_equal_shares() -> None:
    losses = torch.tensor([1.0, 3.0], dtype=torch.float64)
    assert PBI(2)(TaskStats(losses)).tolist() == pytest.approx(
        [(1 - 5) / math.sqrt(2), (1 + 5) / math.sqrt(2)]
    )


def test_weights_times_the_excess_are_along_plus_theta_across() -> None:
    """d1 and d2 by the angle between the excess and the preference, as in the figure of the paper."""
    losses, preference, reference = [3.0, 1.0], [1.0, 2.0], [0.5, 0.25]
    excess = [loss - z for loss, z in zip(losses, reference, strict=True)]
    length = math.hypot(*excess)
    angle = math.atan2(excess[1], excess[0]) - math.atan2(preference[1], preference[0])
    weights = PBI(2, theta=0.7, preference=preference, reference=reference)(TaskStats(torch.tensor(losses)))
    found = sum(w * e for w, e in zip(weights.tolist(), excess, strict=True))
    assert found == pytest.approx(length * math.cos(angle) + 0.7 * length * abs(math.sin(angle)))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_on_the_ray_only_the_way_along_it_counts(scale: float) -> None:
    preference = torch.tensor([0.3, 0.7, 0.1], dtype=torch.float64)
    weights = PBI(3, preference=preference.tolist())(TaskStats(scale * preference / 3))
    torch.testing.assert_close(weights, preference / preference.norm())


def test_one_task_and_no_excess() -> None:
    assert PBI(1)(TaskStats(torch.tensor([3.0]))).tolist() == [1]
    assert PBI(2)(TaskStats(torch.zeros(2))).tolist() == pytest.approx([math.sqrt(0.5)] * 2)


def test_absent_task_is_as_if_there_were_no_such_task() -> None:
    present = torch.tensor([True, False, True])
    found = PBI(3, preference=[1, 5, 2], reference=[0, 9, 0.5])(
        TaskStats(torch.tensor([2.0, 0.0, 1.0]), present=present)
    )
    small = PBI(2, preference=[1, 2], reference=[0, 0.5])(TaskStats(torch.tensor([2.0, 1.0])))
    assert found.tolist() == pytest.approx([small[0].item(), 0, small[1].item()])


def test_present_tasks_that_nobody_prefers_are_off_every_ray() -> None:
    stats = TaskStats(torch.tensor([3.0, 4.0, 0.0]), present=torch.tensor([True, True, False]))
    assert PBI(3, preference=[0, 0, 1])(stats).tolist() == pytest.approx([3.0, 4.0, 0.0])


def test_messages() -> None:
    with pytest.raises(ValueError, match=re.escape("`theta` should be at least 0. Found -1.")):
        PBI(2, theta=-1)
    with pytest.raises(ValueError, match=re.escape("`preference` should be 2 finite numbers")):
        PBI(2, preference=[-1.0, 2.0])
    with pytest.raises(ValueError, match=re.escape("`reference` should be 2 finite numbers")):
        PBI(2, reference=[1.0])


def test_it_has_no_state() -> None:
    assert not PBI(3).state_dict()
