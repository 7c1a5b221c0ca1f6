from functools import partial

import cvxpy as cp
import pytest
import torch
from torch import Tensor

from equipoise.solvers.kmeans import kmeans_1d
from equipoise.solvers.sdp import _capped, kmeans_sdp, sdp_groups


def draw(m: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if seed % 2:
        return torch.rand(m, generator=generator, dtype=torch.float64)
    return torch.randn(m, generator=generator, dtype=torch.float64).mul(1.5).exp()


def on_one_scale(values: Tensor) -> Tensor:
    points = values - values.mean()
    scaled: Tensor = points / points.norm()
    return scaled


def partition(labels: Tensor) -> Tensor:
    """The matrix with 1 / n inside a group of n."""
    same = (labels[:, None] == labels).double()
    return same / same.sum(1)


def optimum_by_clarabel(values: Tensor, k: int) -> float:
    points, m = on_one_scale(values).numpy(), len(values)
    matrix = cp.Variable((m, m), PSD=True)
    gain = cp.sum(cp.multiply(points[:, None] * points, matrix))
    problem = cp.Problem(cp.Maximize(gain), [matrix >= 0, cp.sum(matrix, axis=1) == 1, cp.trace(matrix) == k])
    return float(problem.solve(solver=cp.CLARABEL))


def gain(values: Tensor, matrix: Tensor) -> float:
    points = on_one_scale(values)
    return float(points @ matrix @ points)


@pytest.mark.parametrize(("m", "k"), [(3, 2), (4, 3), (6, 2), (6, 3), (11, 2), (11, 5)])
def test_optimum_is_that_of_an_interior_point_solver(m: int, k: int) -> None:
    for seed in range(2):
        values = draw(m, seed)
        found = kmeans_sdp(values, k, tolerance=1e-8, most_iterations=20_000)
        assert bool(found.converged) and float(found.gap) <= 1e-8
        assert gain(values, found.matrix) == pytest.approx(optimum_by_clarabel(values, k), abs=1e-7)


@pytest.mark.parametrize(("m", "k"), [(3, 2), (5, 4), (11, 5), (20, 3), (40, 5), (64, 16)])
def test_answer_is_feasible_and_its_gap_is_a_bound(m: int, k: int) -> None:
    """Also where it is stopped far from the optimum, which lies between its own value and that plus the gap."""
    values = draw(m, m)
    for most_iterations in (1, 30, 300):
        found = kmeans_sdp(values, k, tolerance=0.0, most_iterations=most_iterations)
        matrix = found.matrix
        assert float(matrix.min()) > -1e-12
        assert float(torch.linalg.eigvalsh(matrix).min()) > -1e-12
        torch.testing.assert_close(matrix, matrix.T, rtol=0, atol=1e-12)
        torch.testing.assert_close(matrix.sum(1), torch.ones(m, dtype=torch.float64))
        assert float(matrix.trace()) == pytest.approx(k)
        assert not bool(found.converged)
        best = gain(values, partition(kmeans_1d(values, k)))  # feasible as well
        assert gain(values, matrix) + float(found.gap) >= best - 1e-12


def test_relaxation_is_the_partition_where_groups_are_far_apart() -> None:
    truth = torch.arange(20) % 4
    values = 3.0 * truth + 0.1 * draw(20, 1)
    found = kmeans_sdp(values, 4, tolerance=1e-10, most_iterations=20_000)
    torch.testing.assert_close(found.matrix, partition(truth), rtol=0, atol=1e-4)
    labels, converged = sdp_groups(values, 4)
    assert labels.equal(truth)
    assert converged is True


def test_relaxation_is_below_kmeans_where_groups_touch() -> None:
    values = torch.arange(11, dtype=torch.float64)
    found = kmeans_sdp(values, 4, tolerance=1e-8, most_iterations=20_000)
    assert gain(values, found.matrix) > gain(values, partition(kmeans_1d(values, 4))) + 1e-3
    assert len(sdp_groups(values, 4)[0].unique()) == 4


def test_groups_have_settled_at_the_tolerance_in_use() -> None:
    for m, k in ((5, 2), (11, 3), (11, 5), (24, 4)):
        for seed in range(4):
            values = draw(m, seed).sort().values
            exact = kmeans_sdp(values, k, tolerance=1e-8, most_iterations=3000)
            assert sdp_groups(values, k)[0].equal(kmeans_1d(exact.matrix @ values, k))


def test_shift_and_scale_of_the_values_do_not_matter() -> None:
    values = draw(11, 2)
    matrix = kmeans_sdp(values, 3).matrix
    torch.testing.assert_close(kmeans_sdp(1e5 * values - 7.0, 3).matrix, matrix, rtol=1e-6, atol=1e-8)


def test_cases_with_one_feasible_point_and_without_spread() -> None:
    values = draw(4, 0)
    for k, only in ((1, torch.full((4, 4), 0.25)), (4, torch.eye(4))):
        found = kmeans_sdp(values, k)
        assert found.matrix.tolist() == only.tolist()
        assert bool(found.converged) and float(found.gap) == 0.0
    found = kmeans_sdp(torch.ones(5), 2)
    assert found.matrix.isfinite().all() and bool(found.converged)
    assert kmeans_sdp(torch.ones(1), 1).matrix.tolist() == [[1.0]]


def test_flag_is_down_when_stopped_early() -> None:
    found = kmeans_sdp(draw(11, 1), 5, tolerance=1e-8, most_iterations=10)
    assert not bool(found.converged)
    assert float(found.gap) > 1e-8


def test_groups_of_a_relaxation_stopped_early_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equipoise.solvers.sdp.kmeans_sdp", partial(kmeans_sdp, most_iterations=10))
    labels, converged = sdp_groups(draw(11, 1).sort().values, 5)
    assert converged is False
    assert labels.shape == (11,)


def test_projection_onto_capped_weights_is_that_of_a_quadratic_programme() -> None:
    generator = torch.Generator().manual_seed(0)
    for size, total in ((2, 1.0), (5, 3.0), (10, 1.0), (10, 9.0)):
        values = 3.0 * torch.randn(size, generator=generator, dtype=torch.float64)
        weights = cp.Variable(size)
        problem = cp.Problem(
            cp.Minimize(cp.sum_squares(weights - values.numpy())),
            [weights >= 0, weights <= 1, cp.sum(weights) == total],
        )
        problem.solve(solver=cp.CLARABEL)
        found = _capped(values.sort().values, total)
        assert float(found.sum()) == pytest.approx(total, rel=1e-12)
        expected = torch.from_numpy(weights.value).sort().values
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"`k` should be from 1 to the number of values, 3\. Found 4\."):
        kmeans_sdp(torch.ones(3), 4)
    with pytest.raises(ValueError, match=r"`k` should be from 1 to the number of values, 3\. Found 0\."):
        kmeans_sdp(torch.ones(3), 0)
    with pytest.raises(ValueError, match=r"`values` should be one-dimensional\. Found shape \(2, 2\)\."):
        kmeans_sdp(torch.ones(2, 2), 2)
