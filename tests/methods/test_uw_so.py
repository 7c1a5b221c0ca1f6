"""UW-SO against its softmax written out."""

import math
import re

import pytest
import torch

from equipoise import TaskStats
from equipoise.methods.uw_so import UWSO


def by_hand(losses: list[float], temperature: float) -> list[float]:
    raw = [math.exp(1 / (loss * temperature)) for loss in losses]
    return [r / sum(raw) for r in raw]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 20.0])
def test_weights_are_the_softmax_of_the_inverse_losses(temperature: float) -> None:
    for losses in ([0.5, 1.0, 4.0], [2.0], [0.1, 0.1, 7.0, 3.0]):
        found = UWSO(len(losses), temperature=temperature)(TaskStats(torch.tensor(losses).double()))
        assert found.tolist() == pytest.approx(by_hand(losses, temperature))


def test_the_default_temperature_is_1() -> None:
    found = UWSO(2)(TaskStats(torch.tensor([0.5, 2.0]).double()))
    assert found.tolist() == pytest.approx(by_hand([0.5, 2.0], 1.0))


def test_limits_of_the_temperature() -> None:
    stats = TaskStats(torch.tensor([0.5, 1.0, 4.0]).double())
    assert UWSO(3, temperature=1e9)(stats).tolist() == pytest.approx([1 / 3] * 3)
    assert UWSO(3, temperature=1e-3)(stats).tolist() == pytest.approx([1, 0, 0])


def test_a_loss_near_zero_takes_all_the_weight_and_stays_finite() -> None:
    assert UWSO(2)(TaskStats(torch.tensor([1e-300, 1.0], dtype=torch.float64))).tolist() == [1, 0]


def test_the_softmax_is_over_the_present_tasks() -> None:
    present = torch.tensor([True, False, True])
    found = UWSO(3)(TaskStats(torch.tensor([0.5, 0.0, 4.0]).double(), present=present))
    first, last = by_hand([0.5, 4.0], 1.0)
    assert found.tolist() == pytest.approx([first, 0, last])


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_unfit_temperature(value: float) -> None:
    with pytest.raises(ValueError, match=re.escape(f"`temperature` should be above 0. Found {value:g}.")):
        UWSO(2, temperature=value)


def test_it_needs_positive_losses() -> None:
    assert UWSO.needs_positive_losses
