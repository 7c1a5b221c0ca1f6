"""DualProj against the projection of the mean gradient that another solver makes."""

from __future__ import annotations

import numpy as np
import pytest
import quadprog
import torch
from torch import Tensor

import equipoise as eq
from draws import WELL_CONDITIONED, draw_jacobian
from equipoise.methods.dualproj import DualProj


def weights_for(method: eq.Method, jacobian: Tensor) -> Tensor:
    return method(eq.TaskStats(torch.ones(len(jacobian)), gramian=jacobian @ jacobian.T))


@pytest.mark.parametrize("kind", WELL_CONDITIONED)
def test_it_is_the_nearest_harmless_direction_to_the_mean(kind: str) -> None:
    for m in (1, 2, 3, 7):
        for seed in range(5):
            jacobian = draw_jacobian(kind, m, 12, seed)
            rows = (jacobian / jacobian.norm(dim=1, keepdim=True)).numpy()
            expected = quadprog.solve_qp(np.eye(12), jacobian.mean(0).numpy(), rows.T.copy(), np.zeros(m))[0]
            method = DualProj(m)
            found = weights_for(method, jacobian) @ jacobian
            scale = float(jacobian.norm(dim=1).max())
            assert bool(method.diagnostics["converged"])
            torch.testing.assert_close(
                found / scale, torch.from_numpy(expected) / scale, rtol=1e-6, atol=1e-8
            )


def test_equal_weights_where_the_mean_conflicts_with_nothing() -> None:
    jacobian = draw_jacobian("mixed", 4, 30, 0)
    assert (jacobian @ jacobian.mean(0) > 0).all()
    assert weights_for(DualProj(4), jacobian).tolist() == [0.25] * 4


def test_two_opposite_gradients_leave_the_parameters_where_they_are() -> None:
    jacobian = torch.tensor([[1.0, 0.0], [-3.0, 0.0]]).double()
    weights = weights_for(DualProj(2), jacobian)
    assert weights.tolist() == pytest.approx([1.5, 0.5])
