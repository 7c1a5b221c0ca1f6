from itertools import product

import cvxpy as cp
import pytest
import torch
from torch import Tensor

from draws import KINDS, WELL_CONDITIONED, draw_gramian, seeds
from equipoise.solvers.min_norm import min_norm
from equipoise.solvers.solution import tolerance
from golden_values import golden, parse_key, vector

SIZES = (1, 2, 3, 5, 11, 24, 40, 64)


def value(gramian: Tensor, weights: Tensor) -> float:
    return float(weights @ gramian @ weights)


def least_value(gramian: Tensor) -> float:
    """The least w'Gw over the simplex, by solving on every face for its stationary point."""
    m, best = len(gramian), float(gramian.diagonal().min())
    for chosen in product([False, True], repeat=m):
        face = torch.tensor(chosen)
        if int(face.sum()) < 2:
            continue
        part = torch.linalg.lstsq(
            gramian[face][:, face], torch.ones(int(face.sum()), dtype=torch.float64)
        ).solution
        weights = torch.zeros(m, dtype=torch.float64)
        weights[face] = part / part.sum()
        if bool((weights >= -1e-12).all()):
            best = min(best, value(gramian, weights))
    return best


@pytest.mark.parametrize("entry", golden("methods.json")["gradient"], ids=lambda e: f"{e['m']}-{e['kind']}")
def test_golden_values(entry: dict) -> None:  # type: ignore[type-arg]
    jacobian, losses = vector(entry["jacobian"]), vector(entry["losses"])
    for key, expected in entry["expected"].items():
        name, options = parse_key(key)
        if name != "mgda":
            continue
        norms = jacobian.norm(dim=1)
        divisors = {"none": losses**0, "norm": norms, "loss": losses, "loss+": losses * norms}
        rows = jacobian / divisors[options["normalization"]][:, None]
        solution = min_norm(rows @ rows.T)
        assert bool(solution.converged)
        weights = entry["m"] * solution.weights
        torch.testing.assert_close(weights, vector(expected["weights"]), rtol=1e-6, atol=1e-6)
        shared, known = weights @ jacobian, vector(expected["shared_grad"])
        assert float((shared - known).norm() / known.norm()) < 1e-6


@pytest.mark.parametrize("kind", KINDS)
@seeds(12, 60)
def test_the_certificate_is_right_on_every_draw(kind: str, seeds: range) -> None:
    down = 0
    for m in SIZES:
        for seed in seeds:
            gramian = draw_gramian(kind, m, seed)
            weights, converged, gap = min_norm(gramian)
            assert float(weights.min()) >= 0.0
            assert float(weights.sum()) == pytest.approx(1.0, abs=1e-12)
            image = gramian @ weights
            scale = max(float(weights @ gramian.diagonal()), 1e-300)
            assert float(gap) == pytest.approx(
                max(0.0, float(weights @ image - image.min())) / scale, abs=1e-13
            )
            assert bool(converged) == (float(gap) <= 1e-8)
            down += not converged
    assert down <= 0.001 * len(seeds) * len(SIZES)


@pytest.mark.parametrize("kind", KINDS)
def test_no_point_on_any_face_is_shorter(kind: str) -> None:
    for seed in range(12):
        gramian = draw_gramian(kind, 1 + seed % 5, seed)
        found = value(gramian, min_norm(gramian).weights)
        assert found <= least_value(gramian) + 1e-10 * float(gramian.diagonal().min())


@pytest.mark.parametrize("kind", WELL_CONDITIONED)
def test_an_interior_point_solver_finds_nothing_shorter(kind: str) -> None:
    for m in (3, 11, 40):
        gramian = draw_gramian(kind, m, m)
        rows = torch.linalg.cholesky(gramian).T.numpy()
        simplex = cp.Variable(m, nonneg=True)
        problem = cp.Problem(cp.Minimize(cp.sum_squares(rows @ simplex)), [cp.sum(simplex) == 1])
        problem.solve(solver=cp.CLARABEL)
        found = value(gramian, min_norm(gramian).weights)
        assert found <= float(problem.value) * (1 + 1e-9)
        assert found == pytest.approx(float(problem.value), rel=1e-4)


def test_two_tasks_have_a_closed_form() -> None:
    for seed in range(50):
        gramian = draw_gramian(KINDS[seed % len(KINDS)], 2, seed)
        (a, b), (_, d) = gramian.tolist()
        curvature = a + d - 2.0 * b
        if curvature <= 1e-12 * (a + d):
            continue
        share = min(1.0, max(0.0, (d - b) / curvature))
        assert float(min_norm(gramian).weights[0]) == pytest.approx(share, abs=1e-9)


def test_scale_does_not_matter() -> None:
    for seed in range(20):
        gramian = draw_gramian("mixed", 7, seed)
        torch.testing.assert_close(min_norm(1e-12 * gramian).weights, min_norm(gramian).weights)
        torch.testing.assert_close(min_norm(1e12 * gramian).weights, min_norm(gramian).weights)


def test_degenerate_gramians_have_the_documented_answer() -> None:
    assert min_norm(torch.zeros(3, 3)).weights.tolist() == pytest.approx([1 / 3] * 3)
    gramian = torch.diag(torch.tensor([2.0, 0.0, 1.0, 0.0]))
    assert min_norm(gramian).weights.tolist() == [0.0, 0.5, 0.0, 0.5]
    assert min_norm(torch.tensor([[5.0]])).weights.tolist() == [1.0]
    for bad in (torch.nan, torch.inf):
        gramian = torch.eye(4)
        gramian[1, 2] = gramian[2, 1] = bad
        weights, converged, _ = min_norm(gramian)
        assert weights.tolist() == [0.25] * 4
        assert not converged


def test_single_precision_comes_back_and_is_judged_by_its_own_rounding() -> None:
    assert tolerance(torch.float64) == 1e-8
    for kind in KINDS:
        gramian = draw_gramian(kind, 11, 3).float()
        weights, converged, _ = min_norm(gramian)
        assert weights.dtype == torch.float32
        assert bool(converged)


def test_a_gramian_that_rounding_made_indefinite_still_gets_a_good_answer() -> None:
    generator = torch.Generator().manual_seed(0)
    for seed in range(20):
        gramian = draw_gramian("equal_rows", 12, seed)
        norms = gramian.diagonal().sqrt()
        noise = torch.randn(12, 12, generator=generator, dtype=torch.float64)
        noisy = gramian + 1e-7 * norms * norms[:, None] * (noise + noise.T)
        weights, _, gap = min_norm(noisy)
        assert float(gap) < 1e-5
        exact = min_norm(gramian).weights
        assert value(gramian, weights) <= value(gramian, exact) + 1e-5 * float(exact @ gramian.diagonal())


def test_weights_that_are_not_optimal_are_not_certified(monkeypatch: pytest.MonkeyPatch) -> None:
    gramian = draw_gramian("mixed", 5, 0)
    uniform = torch.full((5,), 0.2, dtype=torch.float64)
    monkeypatch.setattr("equipoise.solvers.min_norm._in_hull", lambda matrix, shift: uniform)
    weights, converged, gap = min_norm(gramian)
    assert weights.equal(uniform)
    assert not converged
    image = gramian @ uniform
    expected = float((uniform @ image - image.min()) / (uniform @ gramian.diagonal()))
    assert float(gap) == pytest.approx(expected, rel=1e-12)
    assert expected > 0.01
