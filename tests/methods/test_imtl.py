"""IMTL: the equal projections of its gradient part, and the scales that its loss part learns in a training loop."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import equipoise as eq
from draws import WELL_CONDITIONED, draw_jacobian
from equipoise.methods.imtl import IMTL
from equipoise.wrappers import EMA


def stats_of(jacobian: Tensor, losses: Tensor, present: Tensor | None = None) -> eq.TaskStats:
    return eq.TaskStats(losses, gramian=jacobian @ jacobian.T, present=present)


def with_scales(m: int, log_scales: list[float]) -> IMTL:
    method = IMTL(m)
    method.load_state_dict({"log_scales": torch.tensor(log_scales, dtype=torch.float64)})
    return method


@pytest.mark.parametrize("kind", WELL_CONDITIONED)
def test_projections_are_equal_and_the_scaled_weights_sum_to_1(kind: str) -> None:
    jacobian, log_scales = draw_jacobian(kind, 4, 30, 2), [0.5, -1.0, 2.0, 0.0]
    method = with_scales(4, log_scales)
    weights = method(stats_of(jacobian, torch.ones(4))).detach()
    assert bool(method.diagnostics["converged"])
    assert sum(w * math.exp(-s) for w, s in zip(weights.tolist(), log_scales, strict=True)) == pytest.approx(
        1.0
    )
    projections = (weights @ jacobian) @ (jacobian / jacobian.norm(dim=1, keepdim=True)).T
    assert projections.tolist() == pytest.approx([projections[0].item()] * 4, rel=1e-6)


def test_scales_change_the_length_alone() -> None:
    jacobian = draw_jacobian("random", 3, 20, 0)
    gradient_part = eq.build_method("imtl_g", 3)(stats_of(jacobian, torch.ones(3)))
    torch.testing.assert_close(
        with_scales(3, [0.0] * 3)(stats_of(jacobian, torch.ones(3))).detach(), gradient_part
    )
    scaled = with_scales(3, [1.0, -2.0, 0.3])(stats_of(jacobian, torch.ones(3))).detach()
    ratio = scaled / gradient_part
    assert ratio.tolist() == pytest.approx([ratio[0].item()] * 3)
    assert abs(ratio[0].item() - 1.0) > 0.1


@pytest.mark.parametrize("with_absent", [False, True])
def test_scales_learn_as_in_a_plain_loop(with_absent: bool) -> None:
    """Gradient descent on sum of e^s L - s over the tasks that are there, 20 steps."""
    m, lr = 3, 0.1
    jacobian = draw_jacobian("mixed", m, 9, 0)
    shared = torch.zeros(9, dtype=torch.float64, requires_grad=True)
    heads = [torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in range(m)]
    method = IMTL(m)
    balancer = eq.Balancer(method, shared=[shared])
    optimizer = torch.optim.SGD(balancer.parameters(), lr=lr)
    expected = [0.0] * m
    for step in range(20):
        values = [0.5 + step % 3, 2.0, 0.1 * (step + 1)]
        present = [True, not with_absent or step % 2 == 0, True]
        shared.grad = None
        for head in heads:
            head.grad = None
        losses = [jacobian[i] @ shared + heads[i] + values[i] for i in range(m)]
        optimizer.zero_grad()
        record = balancer.backward(losses, present=present)
        weights = record.weights
        assert shared.grad is not None
        torch.testing.assert_close(shared.grad, weights @ jacobian)
        assert [0.0 if head.grad is None else head.grad.item() for head in heads] == [
            float(p) for p in present
        ]
        optimizer.step()
        expected = [
            s - lr * (math.exp(s) * value - 1) * p
            for s, value, p in zip(expected, values, present, strict=True)
        ]
        assert method.log_scales.tolist() == pytest.approx(expected)


def test_equal_weights_of_the_scaled_losses_where_gradients_depend_linearly() -> None:
    method = with_scales(2, [1.0, 0.0])
    weights = method(stats_of(torch.ones(2, 4).double(), torch.ones(2)))
    assert weights.tolist() == pytest.approx([math.e / 2, 0.5])
    assert not bool(method.diagnostics["converged"])


def test_penalty_is_that_of_the_present_tasks() -> None:
    method = with_scales(2, [1.0, 3.0])
    jacobian = draw_jacobian("random", 2, 5, 0)
    method(stats_of(jacobian, torch.ones(2), torch.tensor([True, False])))
    assert method.penalty().item() == -1.0


def test_tolerance_is_checked_and_wrappers_that_cut_the_graph_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`tolerance` should be at least 0\. Found -1\."):
        IMTL(2, tolerance=-1.0)
    with pytest.raises(ValueError, match="Found log_scales in IMTL"):
        EMA(IMTL(2))
