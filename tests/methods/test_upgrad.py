"""UPGrad against projections of each gradient that another solver makes, and against torchjd's promise."""

from __future__ import annotations

import numpy as np
import pytest
import quadprog
import torch
from torch import Tensor

import equipoise as eq
from draws import KINDS, WELL_CONDITIONED, draw_jacobian
from equipoise.methods.upgrad import UPGrad


def weights_for(method: eq.Method, jacobian: Tensor) -> Tensor:
    return method(eq.TaskStats(torch.ones(len(jacobian)), gramian=jacobian @ jacobian.T))


def nearest_harmless(gradient: Tensor, jacobian: Tensor) -> Tensor:
    """argmin |d - gradient| with J d >= 0, over d itself, not over weights."""
    n = len(gradient)
    rows = (jacobian / jacobian.norm(dim=1, keepdim=True)).numpy()
    answer = quadprog.solve_qp(np.eye(n), gradient.numpy(), rows.T.copy(), np.zeros(len(jacobian)))[0]
    return torch.from_numpy(answer)


@pytest.mark.parametrize("kind", WELL_CONDITIONED)
def test_it_is_the_mean_of_the_projected_gradients(kind: str) -> None:
    for m in (1, 2, 3, 7):
        for seed in range(5):
            jacobian = draw_jacobian(kind, m, 12, seed)
            expected = torch.stack([nearest_harmless(g, jacobian) for g in jacobian]).mean(0)
            method = UPGrad(m)
            found = weights_for(method, jacobian) @ jacobian
            scale = float(jacobian.norm(dim=1).max())
            assert bool(method.diagnostics["converged"])
            torch.testing.assert_close(found / scale, expected / scale, rtol=1e-6, atol=1e-8)


def test_each_gradient_counts_by_its_length() -> None:
    """Scaling one row scales its projection alone: the map is linear in each row under scaling."""
    jacobian = draw_jacobian("conflict", 3, 9, 0)
    first = torch.stack([nearest_harmless(g, jacobian) for g in jacobian])
    scaled = jacobian * torch.tensor([[100.0], [1.0], [1.0]]).double()
    expected = (100 * first[0] + first[1] + first[2]) / 3
    torch.testing.assert_close(weights_for(UPGrad(3), scaled) @ scaled, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_no_task_is_harmed_even_where_gradients_depend_linearly(kind: str) -> None:
    for seed in range(10):
        jacobian = draw_jacobian(kind, 6, 3 + seed, seed)
        direction = weights_for(UPGrad(6), jacobian) @ jacobian
        assert (jacobian @ direction >= -1e-8 * jacobian.norm(dim=1) * jacobian.norm(dim=1).mean()).all()


def test_equal_weights_where_nothing_conflicts() -> None:
    jacobian = torch.eye(4).double() + 1.0
    assert weights_for(UPGrad(4), jacobian).tolist() == [0.25] * 4
    assert weights_for(UPGrad(3), torch.zeros(3, 5).double()).tolist() == pytest.approx([1 / 3] * 3)
