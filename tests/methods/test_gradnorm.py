"""GradNorm against the paper's algorithm written out in plain Python."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import equipoise as eq
from draws import draw_jacobian
from equipoise.methods.gradnorm import GradNorm


def losses_at(step: int, m: int) -> list[float]:
    return [2.0 + i + math.sin(1.3 * step + i) for i in range(m)]


def reference(steps: int, m: int, alpha: float, lr: float, present_at: list[list[bool]]) -> list[list[float]]:
    """Eqs. 1-2 and Algorithm 1, with Adam for the update of the weights."""
    weights, first = [1.0] * m, [math.nan] * m
    mean, square, count = [0.0] * m, [0.0] * m, [0] * m
    answers = []
    for t in range(steps):
        here = [i for i in range(m) if present_at[t][i]]
        losses = losses_at(t, m)
        norms = [math.sqrt(float(row @ row)) for row in draw_jacobian("scaled", m, 9, t)]
        first = [losses[i] if i in here and math.isnan(first[i]) else first[i] for i in range(m)]
        answers.append([weights[i] if i in here else 0.0 for i in range(m)])
        weighted = {i: weights[i] * norms[i] for i in here}
        average = sum(weighted.values()) / len(here)
        ratio = {i: losses[i] / first[i] for i in here}
        rate = {i: ratio[i] / (sum(ratio.values()) / len(here)) for i in here}
        before = sum(weights[i] for i in here)
        for i in here:
            excess = weighted[i] - average * rate[i] ** alpha
            gradient = norms[i] * (excess > 0) - norms[i] * (excess < 0)
            count[i] += 1
            mean[i] = 0.9 * mean[i] + 0.1 * gradient
            square[i] = 0.999 * square[i] + 0.001 * gradient**2
            corrected = math.sqrt(square[i] / (1 - 0.999 ** count[i])) + 1e-8
            weights[i] = max(1e-8, weights[i] - lr * mean[i] / (1 - 0.9 ** count[i]) / corrected)
        after = sum(weights[i] for i in here)
        for i in here:
            weights[i] *= before / after
    return answers


@pytest.mark.parametrize(("alpha", "lr"), [(1.5, 0.025), (0.0, 0.3)])
@pytest.mark.parametrize("absent", [False, True])
def test_60_steps_by_a_plain_loop(alpha: float, lr: float, absent: bool) -> None:
    m, steps = 3, 60
    present = [[True, not absent or t % 3 > 0, not absent or t > 4] for t in range(steps)]
    method = GradNorm(m, alpha=alpha, lr=lr)
    for t, expected in enumerate(reference(steps, m, alpha, lr, present)):
        jacobian = draw_jacobian("scaled", m, 9, t)
        here = torch.tensor(present[t])
        losses = torch.tensor(losses_at(t, m), dtype=torch.float64)
        stats = eq.TaskStats(losses, gramian=jacobian @ jacobian.T, present=here)
        assert method(stats).tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert method.state_dict()["weights"].sum().item() == pytest.approx(m)


def test_norms_become_alike_where_losses_fall_alike() -> None:
    jacobian = torch.diag(torch.tensor([1.0, 2.0, 4.0])).double()
    method = GradNorm(3, lr=0.01)
    weighted = torch.empty(0)
    for _ in range(2000):
        weighted = method(eq.TaskStats(torch.ones(3), gramian=jacobian @ jacobian.T)) * jacobian.diagonal()
    assert weighted.max() / weighted.min() < 1.1


def test_the_slow_task_gets_the_longer_gradient() -> None:
    method, gramian = GradNorm(2), torch.eye(2).double()
    for step in range(50):
        losses = torch.tensor([1.0, 1.0 / (1 + step)])
        weights: Tensor = method(eq.TaskStats(losses, gramian=gramian))
    assert weights[0] > weights[1] > 0
    assert weights.sum().item() == pytest.approx(2.0)


def test_hyper_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match=r"`alpha` should be at least 0\. Found -1\."):
        GradNorm(2, alpha=-1.0)
    with pytest.raises(ValueError, match=r"`lr` should be at least 0\. Found -1\."):
        GradNorm(2, lr=-1.0)
