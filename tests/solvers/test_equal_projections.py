"""Equal projections, against their definition on the gradients."""

from __future__ import annotations

import pytest
import torch

from draws import WELL_CONDITIONED, draw_jacobian
from equipoise.solvers.equal_projections import equal_projections


@pytest.mark.parametrize("kind", WELL_CONDITIONED)
@pytest.mark.parametrize("m", [1, 2, 3, 11])
def test_the_projections_on_all_unit_gradients_are_equal(kind: str, m: int) -> None:
    for seed in range(10):
        rows = draw_jacobian(kind, m, 4 * m + 8, seed)
        weights, converged = equal_projections(rows @ rows.T)
        assert bool(converged)
        assert float(weights.sum()) == pytest.approx(1.0)
        projections = (rows / rows.norm(dim=1, keepdim=True)) @ (weights @ rows)
        torch.testing.assert_close(projections, projections[0].expand(m), rtol=1e-6, atol=1e-9)


def test_a_zero_gradient_takes_no_part() -> None:
    rows = draw_jacobian("random", 3, 9, 0)
    expected, _ = equal_projections(rows @ rows.T)
    wide = torch.cat([rows[:1], torch.zeros(1, 9, dtype=torch.float64), rows[1:]])
    found, converged = equal_projections(wide @ wide.T)
    assert bool(converged)
    torch.testing.assert_close(found, torch.stack([expected[0], torch.tensor(0.0).double(), *expected[1:]]))


@pytest.mark.parametrize(
    "rows",
    [
        torch.tensor([[1.0, 0.0], [2.0, 0.0]]),  # linearly dependent
        torch.tensor([[1.0, 0.0], [-1.0, 1e-9]]),  # nearly so
        torch.zeros(2, 2),
    ],
)
def test_where_there_is_no_answer_the_weights_are_equal_and_the_flag_is_down(rows: torch.Tensor) -> None:
    weights, converged = equal_projections((rows @ rows.T).double())
    assert not bool(converged)
    assert weights.tolist() == [0.5, 0.5]


def test_the_tolerance_counts_squared_pivots_of_the_cosines() -> None:
    """Two unit gradients at an angle whose sine is the last pivot."""
    for sine, converged in ((2e-6, True), (0.5e-6, False)):
        rows = torch.tensor([[1.0, 0.0], [(1 - sine**2) ** 0.5, sine]], dtype=torch.float64)
        assert float(torch.linalg.cholesky(rows @ rows.T)[1, 1]) == pytest.approx(sine, rel=1e-3)
        for lengths in ([[1.0], [1.0]], [[1e-4], [1e4]], [[1e4], [1e-4]]):
            long = torch.tensor(lengths, dtype=torch.float64) * rows
            assert bool(equal_projections(long @ long.T, tolerance=1e-12)[1]) == converged


def test_coefficients_that_cancel_are_no_answer() -> None:
    """b / n = (1, -1) in units of its size: the sum is a rounding."""
    cosine = 0.5
    norms = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64)
    cosines = torch.tensor([[1.0, cosine, 0.0], [cosine, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    weights, converged = equal_projections(norms[:, None] * cosines * norms)
    plain = torch.linalg.solve(cosines, torch.ones(3, dtype=torch.float64)) / norms
    assert bool(converged)
    torch.testing.assert_close(weights, plain / plain.sum())
    share = float(plain.sum().abs() / plain.abs().sum())
    for scale in (1e-8, 1.0, 1e8):
        gramian = scale * norms[:, None] * cosines * norms
        assert not bool(equal_projections(gramian, tolerance=share + 1e-9)[1])
        assert bool(equal_projections(gramian, tolerance=0.01)[1])
