import cvxpy as cp
import pytest
import torch
from torch import Tensor

from draws import KINDS, STATIONARY, WELL_CONDITIONED, draw_gramian, draw_jacobian, seeds
from equipoise.solvers.cagrad import cagrad
from golden_values import golden, parse_key, vector

SIZES = (1, 2, 3, 5, 11, 24, 40, 64)


def upper(gramian: Tensor, c: float, simplex: Tensor) -> float:
    """What the minimised function of the paper is at simplex weights."""
    centre = gramian.mean(0)
    return float(
        simplex @ centre + c * centre.mean().sqrt() * (simplex @ gramian @ simplex).clamp(min=0).sqrt()
    )


def direction(gramian: Tensor, c: float, weights: Tensor) -> Tensor:
    """The weights of d itself, without the scale m / (1 + c^2) of the answer."""
    return weights * (1 + c * c) / len(gramian)


@pytest.mark.parametrize("entry", golden("methods.json")["gradient"], ids=lambda e: f"{e['m']}-{e['kind']}")
def test_golden_values(entry: dict) -> None:  # type: ignore[type-arg]
    jacobian = vector(entry["jacobian"])
    seen = 0
    for key, expected in entry["expected"].items():
        name, options = parse_key(key)
        if name != "cagrad":
            continue
        solution = cagrad(jacobian @ jacobian.T, options["c"])
        assert bool(solution.converged)
        # The golden values are certified to a gap of 1e-8, which leaves them up to 6e-6 off in the weights and
        # 2e-6 in the gradient; where they differ, ours must be the lower.
        known_simplex = vector(expected["simplex_weights"])
        torch.testing.assert_close(solution.simplex_weights, known_simplex, rtol=0.0, atol=1e-5)
        shared, known = solution.weights @ jacobian, vector(expected["shared_grad"])
        assert float((shared - known).norm() / known.norm()) < 3e-6
        known_simplex = known_simplex.clamp(min=0.0) / known_simplex.clamp(min=0.0).sum()
        gramian, c = jacobian @ jacobian.T, options["c"]
        rounding = 1e-12 * abs(upper(gramian, c, known_simplex))
        assert upper(gramian, c, solution.simplex_weights) <= upper(gramian, c, known_simplex) + rounding
        seen += 1
    assert seen == 3


@pytest.mark.parametrize("c", [0.05, 0.4, 0.9])
@pytest.mark.parametrize("kind", KINDS)
@seeds(4, 16)
def test_the_certificate_is_right_on_every_draw(kind: str, c: float, seeds: range) -> None:
    down = 0
    for m in SIZES:
        for seed in seeds:
            gramian = draw_gramian(kind, m, seed)
            weights, simplex, converged, gap = cagrad(gramian, c)
            assert float(simplex.min()) >= 0.0
            assert float(simplex.sum()) == pytest.approx(1.0, abs=1e-12)
            change = direction(gramian, c, weights) - 1 / m
            length = float(gramian.mean().clamp(min=0).sqrt())
            assert float((change @ gramian @ change).clamp(min=0).sqrt()) <= c * length * (1 + 1e-6) + 1e-12
            lower = float((gramian @ direction(gramian, c, weights)).min())
            typical = float(torch.maximum(simplex @ gramian.diagonal(), gramian.diagonal().min()).sqrt())
            if bool(converged):
                assert upper(gramian, c, simplex) - lower <= 1e-7 * (1 + c) * length * max(typical, length)
            assert bool(converged) == (float(gap) <= 1e-8)
            down += not converged
    assert down <= 0.001 * len(seeds) * len(SIZES)


@pytest.mark.parametrize("kind", WELL_CONDITIONED)
def test_an_interior_point_solver_finds_nothing_lower(kind: str) -> None:
    for m, c in ((3, 0.4), (11, 0.8), (40, 0.2)):
        gramian = draw_gramian(kind, m, m)
        scaled = gramian / gramian.diagonal().mean()
        rows = torch.linalg.cholesky(scaled).T.numpy()
        centre = scaled.mean(0)
        variable = cp.Variable(m, nonneg=True)
        radius = c * float(centre.mean().sqrt())
        cost = centre.numpy() @ variable + radius * cp.norm(rows @ variable)
        problem = cp.Problem(cp.Minimize(cost), [cp.sum(variable) == 1])
        problem.solve(solver=cp.CLARABEL)
        found = upper(scaled, c, cagrad(gramian, c).simplex_weights)
        assert found <= float(problem.value) + 1e-8 * radius
        assert found == pytest.approx(float(problem.value), rel=1e-4)


@pytest.mark.parametrize("kind", WELL_CONDITIONED)
def test_weights_are_those_of_the_formula(kind: str) -> None:
    for m in (2, 5, 11):
        gramian = draw_gramian(kind, m, 3)
        weights, simplex, _, _ = cagrad(gramian, 0.4)
        length = gramian.mean().sqrt()
        norm = (simplex @ gramian @ simplex).sqrt()
        expected = (1 / m + 0.4 * length * simplex / norm) * m / 1.16
        torch.testing.assert_close(weights, expected, rtol=1e-9, atol=1e-9)


def test_no_direction_in_the_ball_serves_the_worst_off_task_better() -> None:
    generator = torch.Generator().manual_seed(0)
    for seed in range(20):
        jacobian = draw_jacobian("conflict", 3, 4, seed)
        weights = cagrad(jacobian @ jacobian.T, 0.5).weights * 1.25 / 3
        best = float((jacobian @ (weights @ jacobian)).min())
        centre = jacobian.mean(0)
        steps = torch.randn(5000, 4, generator=generator, dtype=torch.float64)
        steps = 0.5 * centre.norm() * steps / steps.norm(dim=1, keepdim=True)
        assert float(((centre + steps) @ jacobian.T).min(1).values.max()) <= best + 1e-9


@pytest.mark.parametrize("kind", STATIONARY)
def test_at_a_stationary_point_the_direction_stays_in_the_ball(kind: str) -> None:
    for seed in range(20):
        jacobian = draw_jacobian(kind, 5, 12, seed)
        solution = cagrad(jacobian @ jacobian.T, 0.4)
        assert bool(solution.converged)
        shared = solution.weights @ jacobian * 1.16 / 5
        centre = jacobian.mean(0)
        assert float((shared - centre).norm()) <= 0.4 * float(centre.norm()) * (1 + 1e-6)
        assert float((jacobian @ shared).min()) <= 1e-6 * float(centre.norm())


def test_degenerate_input_has_the_documented_answer() -> None:
    gramian = draw_gramian("random", 4, 0)
    assert cagrad(gramian, 0.0).weights.tolist() == [1.0] * 4
    assert cagrad(torch.zeros(3, 3), 0.5).weights.tolist() == pytest.approx([0.8] * 3)
    assert bool(cagrad(torch.zeros(3, 3), 0.5).converged)
    assert cagrad(torch.tensor([[4.0]]), 0.5).weights.tolist() == pytest.approx([1.2])
    opposite = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    assert bool(cagrad(opposite, 0.5).converged)
    weights, _, converged, _ = cagrad(torch.full((2, 2), torch.nan), 0.5)
    assert not converged
    assert bool(weights.isfinite().all())


def test_a_direction_that_is_not_the_best_is_not_certified(monkeypatch: pytest.MonkeyPatch) -> None:
    gramian = draw_gramian("mixed", 5, 0)
    change, uniform = torch.zeros(5, dtype=torch.float64), torch.full((5,), 0.2, dtype=torch.float64)
    monkeypatch.setattr("equipoise.solvers.cagrad._best_change", lambda *args: (change, uniform))
    solution = cagrad(gramian, 0.5)
    assert not solution.converged
    scale = 1.5 * gramian.mean().sqrt() * gramian.diagonal().mean().sqrt()
    expected = (upper(gramian, 0.5, uniform) - float(gramian.mean(0).min())) / float(scale)
    assert float(solution.gap) == pytest.approx(expected, rel=1e-12)


def test_scale_does_not_matter_and_single_precision_comes_back() -> None:
    gramian = draw_gramian("mixed", 7, 1)
    expected = cagrad(gramian, 0.4).weights
    for factor in (1e-12, 1e12):
        torch.testing.assert_close(cagrad(factor * gramian, 0.4).weights, expected)
    single = cagrad(gramian.float(), 0.4)
    assert single.weights.dtype == single.simplex_weights.dtype == torch.float32
    torch.testing.assert_close(single.weights.double(), expected, rtol=1e-4, atol=1e-4)


def test_a_negative_radius_is_named() -> None:
    with pytest.raises(ValueError, match=r"`c` should be at least 0\. Found -0\.1\."):
        cagrad(torch.eye(2), -0.1)
