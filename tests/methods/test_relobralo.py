"""ReLoBRaLo against its update lines in plain Python."""

import math
import re

import pytest
import torch
from torch import Tensor

from equipoise import TaskStats
from equipoise.methods.relobralo import ReLoBRaLo


def positive_losses(steps: int, m: int) -> Tensor:
    draws = torch.Generator().manual_seed(0)
    return 10.0 ** (0.6 * torch.rand(steps, m, generator=draws, dtype=torch.float64) - 1)


def balance(losses: list[float], before: list[float], temperature: float) -> list[float]:
    raw = [math.exp(loss / (temperature * old)) for loss, old in zip(losses, before, strict=True)]
    return [len(raw) * r / sum(raw) for r in raw]


@pytest.mark.parametrize(
    ("alpha", "temperature", "rho"), [(0.999, 0.1, 0.99), (0.7, 0.5, 0.5), (0.9, 1.0, 1.0), (0.5, 2.0, 0.0)]
)
def test_by_a_plain_loop(alpha: float, temperature: float, rho: float) -> None:
    m, losses = 3, positive_losses(20, 3)
    method = ReLoBRaLo(m, alpha=alpha, temperature=temperature, rho=rho, seed=4)
    draws = torch.Generator().manual_seed(4)
    weights, looked_back = [1.0] * m, 0
    for t in range(20):
        keep = float(torch.rand(1, generator=draws, dtype=torch.float64)) < rho
        row = losses[t].tolist()
        if t == 1:
            weights = balance(row, losses[0].tolist(), temperature)
        elif t > 1:
            looked_back += not keep
            history = weights if keep else balance(row, losses[0].tolist(), temperature)
            recent = balance(row, losses[t - 1].tolist(), temperature)
            weights = [alpha * h + (1 - alpha) * r for h, r in zip(history, recent, strict=True)]
        assert method(TaskStats(losses[t])).tolist() == pytest.approx(weights, rel=1e-9)
    assert looked_back == {0.99: 0, 0.5: looked_back, 1.0: 0, 0.0: 18}[rho]
    assert rho != 0.5 or 0 < looked_back < 18


def test_the_defaults_are_those_of_the_authors_tutorial() -> None:
    method = ReLoBRaLo(2)
    assert (method.alpha, method.temperature, method.rho) == (0.999, 0.1, 0.99)
    for seed, alike in ((0, True), (1, False)):
        default, seeded = ReLoBRaLo(2, rho=0.5), ReLoBRaLo(2, rho=0.5, seed=seed)
        rows = positive_losses(20, 2)
        assert all(torch.equal(default(TaskStats(row)), seeded(TaskStats(row))) for row in rows) == alike


def test_weights_sum_to_m_and_follow_slow_progress() -> None:
    method = ReLoBRaLo(2, alpha=0.5)
    for row in ([1.0, 100.0], [0.9, 50.0], [0.8, 25.0]):
        weights = method(TaskStats(torch.tensor(row)))
        assert weights.sum().item() == pytest.approx(2.0)
    assert weights[0] > weights[1]


def test_units_of_a_loss_do_not_change_the_weights() -> None:
    losses = positive_losses(20, 3)
    one, other = ReLoBRaLo(3, rho=0.6), ReLoBRaLo(3, rho=0.6)
    scale = torch.tensor([1e-4, 1.0, 1e4], dtype=torch.float64)
    for row in losses:
        torch.testing.assert_close(one(TaskStats(row)), other(TaskStats(row * scale)), rtol=1e-9, atol=0)


def test_a_loss_that_explodes_stays_finite() -> None:
    method = ReLoBRaLo(2)
    method(TaskStats(torch.tensor([1e-6, 1.0])))
    assert method(TaskStats(torch.tensor([1e6, 1.0]))).tolist() == [2, 0]


def test_absent_task_stands_still_and_a_late_one_starts_level() -> None:
    method = ReLoBRaLo(2, alpha=0.0, temperature=1.0)
    one = torch.tensor([True, False])
    method(TaskStats(torch.tensor([2.0, 0.0]), present=one))
    assert method(TaskStats(torch.tensor([2.0, 0.0]), present=one)).tolist() == pytest.approx([1.0, 0.0])
    level = method(TaskStats(torch.tensor([2.0, 70.0])))
    assert level.tolist() == pytest.approx([1.0, 1.0])
    absent = method(TaskStats(torch.tensor([1.0, 0.0]), present=one))
    assert absent.tolist() == pytest.approx([balance([1.0, 70.0], [2.0, 70.0], 1.0)[0], 0.0])
    back = method(TaskStats(torch.tensor([1.0, 35.0])))
    assert back.tolist() == pytest.approx(balance([1.0, 35.0], [1.0, 70.0], 1.0))


def test_a_late_task_is_looked_back_to_its_own_first_loss() -> None:
    method = ReLoBRaLo(2, alpha=1.0, temperature=1.0, rho=0.0)
    one = torch.tensor([True, False])
    for _ in range(3):
        method(TaskStats(torch.tensor([2.0, 0.0]), present=one))
    method(TaskStats(torch.tensor([2.0, 70.0])))
    found = method(TaskStats(torch.tensor([1.0, 35.0])))
    assert found.tolist() == pytest.approx(balance([1.0, 35.0], [2.0, 70.0], 1.0))
    assert found.tolist() == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("name", ["alpha", "rho"])
@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_unfit_shares(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=re.escape(f"`{name}` should be from 0 to 1. Found {value:g}.")):
        ReLoBRaLo(2, **{name: value})  # type: ignore[arg-type]


def test_unfit_temperature() -> None:
    with pytest.raises(ValueError, match=re.escape("`temperature` should be above 0. Found 0.")):
        ReLoBRaLo(2, temperature=0.0)


def test_it_needs_positive_losses() -> None:
    assert ReLoBRaLo.needs_positive_losses
