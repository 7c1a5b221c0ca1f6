"""FairGrad against its equation, its limits, and the utility that it maximises."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import equipoise as eq
from draws import WELL_CONDITIONED, draw_jacobian
from equipoise.methods.fairgrad import FairGrad


def weights_for(method: eq.Method, jacobian: Tensor) -> Tensor:
    return method(eq.TaskStats(torch.ones(len(jacobian)), gramian=jacobian @ jacobian.T))


@pytest.mark.parametrize("kind", WELL_CONDITIONED)
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 5.0])
def test_progress_is_a_power_of_the_weight(kind: str, alpha: float) -> None:
    for m in (1, 2, 5):
        method, jacobian = FairGrad(m, alpha=alpha), draw_jacobian(kind, m, 30, m)
        weights = weights_for(method, jacobian)
        assert bool(method.diagnostics["converged"])
        torch.testing.assert_close(
            jacobian @ (weights @ jacobian), weights ** (-1 / alpha), rtol=1e-7, atol=0.0
        )


def test_no_direction_of_the_same_length_has_more_utility() -> None:
    """The utility of Eq. 1, sum of (g_i'd)^(1 - alpha) / (1 - alpha), over directions around the answer."""
    draws = torch.Generator().manual_seed(0)
    for alpha in (0.5, 2.0, 5.0):
        jacobian = draw_jacobian("conflict", 4, 6, 1)
        found = weights_for(FairGrad(4, alpha=alpha), jacobian) @ jacobian

        def utility(directions: Tensor, rows: Tensor = jacobian, alpha: float = alpha) -> Tensor:
            progress = directions @ rows.T
            total = (progress.clamp(min=0) ** (1 - alpha) / (1 - alpha)).sum(-1)
            return torch.where((progress > 0).all(-1), total, -torch.inf)

        for spread in (1e-3, 1e-2, 1e-1):
            noise = torch.randn(20_000, 6, generator=draws, dtype=torch.float64)
            around = found + spread * found.norm() * noise
            around = around * found.norm() / around.norm(dim=1, keepdim=True)
            assert utility(around).max() <= utility(found)


def test_limits_of_fairness() -> None:
    jacobian = draw_jacobian("mixed", 4, 20, 3)
    jacobian = jacobian / jacobian.norm(dim=1).mean()
    nash = weights_for(eq.build_method("nashmtl", 4), jacobian)
    torch.testing.assert_close(weights_for(FairGrad(4, alpha=1.0), jacobian), nash)
    torch.testing.assert_close(
        weights_for(FairGrad(4, alpha=0.01), jacobian), torch.ones(4).double(), rtol=0.05, atol=0.0
    )
    independent = draw_jacobian("random", 3, 40, 0)
    progress = independent @ (weights_for(FairGrad(3, alpha=200.0), independent) @ independent)
    assert (progress.max() / progress.min()).item() == pytest.approx(1.0, abs=0.05)


def test_previous_weights_are_kept_where_there_is_no_solution() -> None:
    method, jacobian = FairGrad(4, alpha=2.0), draw_jacobian("random", 4, 20, 1)
    weights = weights_for(method, jacobian)
    stationary = torch.cat([jacobian[:3], -jacobian[:3].sum(0, keepdim=True)])
    torch.testing.assert_close(weights_for(method, stationary), weights)
    assert not bool(method.diagnostics["converged"])
    assert weights_for(FairGrad(4), stationary).tolist() == [1.0] * 4


def test_hyper_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match=r"`alpha` should be above 0\. Found 0\."):
        FairGrad(2, alpha=0.0)
    with pytest.raises(ValueError, match=r"`max_norm` should be at least 0\. Found -1\."):
        FairGrad(2, max_norm=-1.0)
    assert FairGrad(2, max_norm=1.0).max_norm == 1.0
