from itertools import product

import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from draws import DEGENERATE, KINDS, STATIONARY, WELL_CONDITIONED, draw_gramian, draw_jacobian, seeds
from equipoise.solvers import fairness
from equipoise.solvers.fairness import nash
from equipoise.solvers.min_norm import min_norm
from golden_values import golden, parse_key, vector

SIZES = (1, 2, 3, 5, 11, 24, 40, 64)


def residual(gramian: Tensor, weights: Tensor, alpha: float) -> float:
    """How far the tasks that have a gradient are from G a = a^(-1 / alpha)."""
    moving = gramian.diagonal() > 0
    part, chosen = weights[moving], gramian[moving][:, moving]
    return float((1 - part ** (1 / alpha) * (chosen @ part)).abs().max()) if len(part) else 0.0


@pytest.mark.parametrize("entry", golden("methods.json")["gradient"], ids=lambda e: f"{e['m']}-{e['kind']}")
def test_golden_values(entry: dict) -> None:  # type: ignore[type-arg]
    jacobian = vector(entry["jacobian"])
    seen = 0
    for key, expected in entry["expected"].items():
        name, options = parse_key(key)
        if name not in ("nashmtl", "fairgrad") or options.get("max_norm") == 1:
            continue
        solution = nash(jacobian @ jacobian.T, options.get("alpha", 1.0))
        assert bool(solution.converged)
        torch.testing.assert_close(solution.weights, vector(expected["weights"]), rtol=1e-6, atol=0.0)
        shared, known = solution.weights @ jacobian, vector(expected["shared_grad"])
        assert float((shared - known).norm() / known.norm()) < 1e-6
        seen += 1
    assert seen == 3


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("kind", KINDS)
@seeds(4, 20)
def test_the_certificate_is_right_on_every_draw(kind: str, alpha: float, seeds: range) -> None:
    down = 0
    for m in SIZES:
        for seed in seeds:
            gramian = draw_gramian(kind, m, seed)
            weights, converged, gap = nash(gramian, alpha)
            assert bool(weights.isfinite().all())
            assert bool((weights > 0).equal(gramian.diagonal() > 0))
            assert bool(converged) == (float(gap) <= 1e-8)
            if bool(converged):
                assert residual(gramian, weights, alpha) <= 2e-8
            down += not converged
    if kind in WELL_CONDITIONED:
        assert down <= 0.001 * len(seeds) * len(SIZES)


@pytest.mark.parametrize("kind", DEGENERATE)
def test_the_flag_is_down_only_where_no_solution_can_be_told(kind: str) -> None:
    for m in (2, 3, 11):
        for seed in range(20):
            gramian = draw_gramian(kind, m, seed)
            moving = gramian.diagonal() > 0
            gramian = gramian[moving][:, moving]
            shortest = min_norm(gramian).weights
            relative = float(shortest @ gramian @ shortest) / float(shortest @ gramian.diagonal())
            if not nash(gramian).converged:
                assert relative < 1e-6, "the gradients have a common descent direction"
            elif kind in STATIONARY and kind != "zero_row":
                pytest.fail("a Pareto-stationary point has no bargaining solution")


def test_another_optimiser_agrees() -> None:
    for alpha, seed in ((1.0, 0), (1.0, 1), (2.0, 2), (0.5, 3), (4.0, 4)):
        gramian = draw_gramian("mixed", 4, seed)
        matrix, power = gramian.numpy(), 1 / alpha

        def gradient(logs, matrix=matrix, power=power):  # type: ignore[no-untyped-def]
            a = torch.tensor(logs).exp().numpy()
            return a * (matrix @ a) - a ** (1 - power)

        def cost(logs, matrix=matrix, power=power):  # type: ignore[no-untyped-def]
            a = torch.tensor(logs).exp().numpy()
            barrier = logs.sum() if power == 1 else (a ** (1 - power)).sum() / (1 - power)
            return a @ matrix @ a / 2 - barrier

        start = -0.5 * gramian.diagonal().log().numpy()
        other = minimize(cost, start, jac=gradient, method="BFGS", options={"gtol": 1e-10, "maxiter": 5000})
        torch.testing.assert_close(
            nash(gramian, alpha).weights, torch.tensor(other.x).exp(), rtol=1e-5, atol=0.0
        )


def test_one_and_two_tasks_have_a_closed_form() -> None:
    for alpha in (0.5, 1.0, 3.0):
        weights = nash(torch.tensor([[7.0]], dtype=torch.float64), alpha).weights
        assert float(weights) == pytest.approx(7.0 ** (-alpha / (1 + alpha)))
    for seed in range(20):
        jacobian = draw_jacobian("scaled", 2, 9, seed)
        norms = jacobian.norm(dim=1)
        cosine = jacobian[0] @ jacobian[1] / norms.prod()
        torch.testing.assert_close(nash(jacobian @ jacobian.T).weights, 1 / (norms * (1 + cosine).sqrt()))


def test_scaling_a_gradient_scales_its_weight_back() -> None:
    for seed in range(20):
        gramian = draw_gramian("mixed", 6, seed)
        factors = 10.0 ** torch.linspace(-3, 3, 6, dtype=torch.float64)
        scaled = gramian * factors * factors[:, None]
        torch.testing.assert_close(nash(scaled).weights * factors, nash(gramian).weights, rtol=1e-7, atol=0.0)


def test_the_start_changes_the_way_but_not_the_answer() -> None:
    gramian = draw_gramian("conflict", 8, 0)
    expected = nash(gramian).weights
    for start in (
        expected,
        torch.full((8,), 1e4),
        torch.full((8,), -1.0),
        torch.zeros(8),
        expected * torch.nan,
    ):
        solution = nash(gramian, start=start)
        assert bool(solution.converged)
        torch.testing.assert_close(solution.weights, expected, rtol=1e-8, atol=0.0)


def test_a_task_without_gradient_takes_no_part() -> None:
    gramian = draw_gramian("random", 5, 1)
    alone = gramian.clone()
    alone[2] = alone[:, 2] = 0.0
    keep = torch.tensor([0, 1, 3, 4])
    weights, converged, _ = nash(alone)
    assert bool(converged)
    assert float(weights[2]) == 0.0
    torch.testing.assert_close(weights[keep], nash(gramian[keep][:, keep]).weights)
    torch.testing.assert_close(nash(alone, start=torch.arange(5.0)).weights, weights)
    weights, converged, _ = nash(torch.zeros(3, 3))
    assert weights.tolist() == [0.0] * 3
    assert not converged


@pytest.mark.parametrize("kind", WELL_CONDITIONED)
def test_fairness_far_from_one_converges_too(kind: str) -> None:
    # With alpha = 0.3 the four decades of `scaled` become nine in the equation, too many to cancel in float64.
    alphas = (6.0,) if kind == "scaled" else (0.3, 6.0)
    for m in SIZES:
        for seed, alpha in product(range(10), alphas):
            assert bool(nash(draw_gramian(kind, m, seed), alpha).converged)


def test_an_iterate_that_is_not_the_solution_is_not_certified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fairness, "MAX_STEPS", 2)
    gramian = draw_gramian("conflict", 8, 0)
    weights, converged, gap = nash(gramian)
    assert not converged
    assert float(gap) == pytest.approx(residual(gramian, weights, 1.0), rel=1e-6)
    assert float(gap) > 1e-6


def test_a_gramian_that_is_not_finite_puts_the_flag_down() -> None:
    for bad in (torch.nan, torch.inf):
        gramian = torch.eye(3)
        gramian[0, 1] = gramian[1, 0] = bad
        for matrix in (gramian, torch.full((3, 3), bad)):
            weights, converged, _ = nash(matrix)
            assert not converged
            assert bool(weights.isfinite().all())


def test_single_precision_comes_back() -> None:
    gramian = draw_gramian("mixed", 5, 0)
    weights, converged, _ = nash(gramian.float())
    assert weights.dtype == torch.float32
    assert bool(converged)
    torch.testing.assert_close(weights.double(), nash(gramian).weights, rtol=1e-4, atol=0.0)


def test_fairness_that_is_not_positive_is_named() -> None:
    with pytest.raises(ValueError, match=r"`alpha` should be above 0\. Found 0\."):
        nash(torch.eye(2), 0.0)
