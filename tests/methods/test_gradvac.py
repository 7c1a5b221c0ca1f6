"""GradVac against the paper's algorithm on the gradients themselves, torchjd for two tasks, and PCGrad."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchjd.aggregation import GradVacWeighting

import equipoise as eq
from draws import WELL_CONDITIONED, draw_jacobian
from equipoise.methods.gradvac import GradVac
from equipoise.methods.pcgrad import project_conflicts
from equipoise.solvers.vaccinate import vaccinate


def literal(jacobian: Tensor, targets: Tensor, orders: Tensor, beta: float) -> Tensor:
    """Algorithm 1 of the paper for one component; `targets` is changed in place."""
    total = torch.zeros_like(jacobian[0])
    for i, order in enumerate(orders.tolist()):
        turned = jacobian[i].clone()
        for j in order:
            if j == i:
                continue
            other = jacobian[j]
            cosine = float(turned @ other / (turned.norm() * other.norm()))
            target = float(targets[i, j])
            if cosine < target:
                across, aimed = (1 - cosine**2) ** 0.5, (1 - target**2) ** 0.5
                turned = (
                    turned
                    + turned.norm() * (target * across - cosine * aimed) / (other.norm() * aimed) * other
                )
            targets[i, j] = (1 - beta) * target + beta * cosine
        total += turned
    return total


@pytest.mark.parametrize("kind", WELL_CONDITIONED)
@pytest.mark.parametrize("beta", [0.01, 0.5])
def test_20_steps_of_the_literal_algorithm(kind: str, beta: float) -> None:
    for m in (2, 3, 7):
        ours, theirs = torch.zeros(m, m).double(), torch.zeros(m, m).double()
        draws = torch.Generator().manual_seed(m)
        for step in range(20):
            jacobian = draw_jacobian(kind, m, 12, step)
            orders = torch.stack([torch.randperm(m, generator=draws) for _ in range(m)])
            weights, ours = vaccinate(jacobian @ jacobian.T, ours, orders, beta)
            expected = literal(jacobian, theirs, orders, beta)
            torch.testing.assert_close(weights @ jacobian, expected, rtol=1e-7, atol=1e-8)
            torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


def test_a_turned_gradient_has_the_cosine_that_was_wanted() -> None:
    jacobian = draw_jacobian("random", 2, 8, 0)
    targets = torch.tensor([[0.0, 0.9], [-1.0, 0.0]]).double()
    orders = torch.tensor([[1, 0], [0, 1]])
    weights, _ = vaccinate(jacobian @ jacobian.T, targets, orders, 0.0)
    turned = (weights - torch.tensor([0.0, 1.0])) @ jacobian
    assert torch.cosine_similarity(turned, jacobian[1], dim=0).item() == pytest.approx(0.9)


def test_torchjd_agrees_for_two_tasks_where_the_order_does_not_matter() -> None:
    ours, theirs = GradVac(2, beta=0.3), GradVacWeighting(beta=0.3, eps=0.0)
    for step in range(20):
        jacobian = draw_jacobian("mixed" if step % 2 else "conflict", 2, 8, step)
        weights = ours(eq.TaskStats(torch.ones(2), gramian=jacobian @ jacobian.T))
        torch.testing.assert_close(weights, theirs(jacobian @ jacobian.T), rtol=1e-8, atol=1e-10)


def test_without_memory_it_is_pcgrad() -> None:
    jacobian = draw_jacobian("conflict", 6, 12, 1)
    orders = torch.arange(6).expand(6, 6)
    weights, targets = vaccinate(jacobian @ jacobian.T, torch.zeros(6, 6).double(), orders, 0.0)
    torch.testing.assert_close(weights, project_conflicts(jacobian @ jacobian.T, orders))
    assert not targets.any()


def test_each_step_draws_its_own_orders() -> None:
    jacobian = draw_jacobian("conflict", 5, 6, 0)
    stats = eq.TaskStats(torch.ones(5), gramian=jacobian @ jacobian.T)
    fresh = [GradVac(5, beta=0.0, seed=seed)(stats) for seed in range(5)]
    assert any(not torch.equal(fresh[0], other) for other in fresh[1:])
    method = GradVac(5, beta=0.0)
    draws = torch.Generator().manual_seed(0)
    for _ in range(3):
        orders = torch.rand(25, generator=draws, dtype=torch.float64).view(5, 5).argsort(dim=1)
        expected, _ = vaccinate(stats.gramian, torch.zeros(5, 5).double(), orders, 0.0)
        assert torch.equal(method(stats), expected)


def test_absent_and_zero_gradients_keep_their_targets() -> None:
    method = GradVac(3, beta=0.5)
    jacobian = draw_jacobian("mixed", 3, 9, 0)
    method(eq.TaskStats(torch.ones(3), gramian=jacobian @ jacobian.T))
    before = method.targets.clone()
    assert before[0, 1] != 0
    present = torch.tensor([True, False, True])
    method(eq.TaskStats(torch.ones(3), gramian=jacobian @ jacobian.T, present=present))
    assert torch.equal(method.targets[1], before[1])
    assert torch.equal(method.targets[:, 1], before[:, 1])
    assert method.targets[0, 2] != before[0, 2]
    jacobian[0] = 0.0
    before = method.targets.clone()
    weights = method(eq.TaskStats(torch.ones(3), gramian=jacobian @ jacobian.T))
    assert weights[0] == 1.0
    assert torch.equal(method.targets[0], before[0])
    assert torch.equal(method.targets[:, 0], before[:, 0])


def test_equal_gradients_for_a_long_time_then_others_stay_finite() -> None:
    method = GradVac(2, beta=1.0)
    same, other = torch.ones(2, 4).double(), draw_jacobian("random", 2, 4, 0)
    for jacobian in (same, same, other):
        weights = method(eq.TaskStats(torch.ones(2), gramian=jacobian @ jacobian.T))
        assert weights.isfinite().all()
    assert weights.abs().max() < 1e5


def test_hyper_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match=r"`beta` should be from 0 to 1\. Found 2\."):
        GradVac(2, beta=2.0)
