import cvxpy as cp
import pytest
import quadprog
import torch
from torch import Tensor

from draws import KINDS, WELL_CONDITIONED, draw_gramian, draw_jacobian, seeds
from equipoise.solvers import dual_cone
from equipoise.solvers.dual_cone import project_on_dual_cone
from golden_values import golden, vector

DRAWS = {1: 20, 2: 40, 3: 40, 5: 40, 11: 40, 24: 20, 40: 5, 64: 2}  # tasks -> Gramians of each kind


def one_by_one(m: int) -> Tensor:
    """The targets of UPGrad: each gradient by itself, as a share of the mean."""
    return torch.eye(m, dtype=torch.float64) / m


def optimality(gramian: Tensor, targets: Tensor, weights: Tensor) -> tuple[float, float]:
    """The largest conflict, and the largest product that ought to be zero, both relative, row by row."""
    norms = gramian.diagonal().sqrt()
    conflict = product = 0.0
    for u, v in zip(targets, weights, strict=True):
        size = float(u.abs() @ norms)
        if size == 0.0:
            continue
        image = gramian @ v
        moving = norms > 0
        conflict = max(conflict, float((-image[moving] / norms[moving]).max()) / size)
        product = max(product, abs(float((v - u) @ image)) / size**2)
    return conflict, product


@pytest.mark.parametrize("kind", KINDS)
@seeds(8, 40)
def test_the_certificate_is_right_on_every_draw(kind: str, seeds: range) -> None:
    down = drawn = 0
    for m, count in DRAWS.items():
        for seed in range(seeds.start, min(seeds.stop, count)):
            drawn += 1
            gramian = draw_gramian(kind, m, seed)
            targets = torch.cat([one_by_one(m), torch.full((1, m), 1.0 / m, dtype=torch.float64)])
            weights, converged, gap = project_on_dual_cone(gramian, targets)
            assert bool((weights >= targets).all())
            assert bool(converged) == (float(gap) <= 1e-8)
            down += not converged
            if bool(converged):
                conflict, product = optimality(gramian, targets, weights)
                assert max(conflict, product) <= 2e-8
    # With two gradients that cancel but for 1e-3, the weights reach 1e4 and their square meets float64's rounding.
    assert down <= (max(1, 0.01 * drawn) if kind == "near_opposite" else 0)


@pytest.mark.parametrize("entry", golden("methods.json")["gradient"], ids=lambda e: f"{e['m']}-{e['kind']}")
def test_golden_values(entry: dict) -> None:  # type: ignore[type-arg]
    jacobian, m = vector(entry["jacobian"]), entry["m"]
    each = project_on_dual_cone(jacobian @ jacobian.T, one_by_one(m)).weights.sum(0)
    mean = project_on_dual_cone(jacobian @ jacobian.T, torch.full((m,), 1.0 / m)).weights
    for name, weights in (("upgrad", each), ("dualproj", mean)):
        known = entry["expected"][name]
        torch.testing.assert_close(weights, vector(known["weights"]), rtol=1e-6, atol=1e-6)
        shared = vector(known["shared_grad"])
        assert float((weights @ jacobian - shared).norm() / shared.norm()) < 1e-6


@pytest.mark.parametrize("kind", WELL_CONDITIONED)
def test_a_dual_active_set_solver_agrees(kind: str) -> None:
    for m in (1, 2, 3, 11, 40):
        for seed in range(6):
            gramian = draw_gramian(kind, m, seed)
            norms = gramian.diagonal().sqrt()
            weights = project_on_dual_cone(gramian, one_by_one(m)).weights
            cosines = (gramian / norms / norms[:, None]).numpy()
            for u, v in zip(one_by_one(m), weights, strict=True):
                other = quadprog.solve_qp(
                    cosines, 0 * norms.numpy(), torch.eye(m).double().numpy(), (u * norms).numpy()
                )
                scale = float((u * norms).sum())
                torch.testing.assert_close(
                    v * norms / scale, torch.from_numpy(other[0]) / scale, rtol=1e-6, atol=1e-7
                )


def test_an_interior_point_solver_finds_nothing_shorter() -> None:
    for kind in WELL_CONDITIONED:
        for m in (3, 11):
            gramian = draw_gramian(kind, m, m)
            mean = torch.full((m,), 1.0 / m, dtype=torch.float64)
            found = project_on_dual_cone(gramian, mean).weights
            rows = torch.linalg.cholesky(gramian).T.numpy()
            unknown = cp.Variable(m)
            problem = cp.Problem(cp.Minimize(cp.sum_squares(rows @ unknown)), [unknown >= mean.numpy()])
            problem.solve(solver=cp.CLARABEL)
            squared = float(found @ gramian @ found)
            assert squared <= float(problem.value) * (1 + 1e-9)
            assert squared == pytest.approx(float(problem.value), rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_splits_into_two_orthogonal_parts(kind: str) -> None:
    """Moreau: d0 = d - c with c a combination of the gradients with weights >= 0, J d >= 0 and d'c = 0."""
    for seed in range(10):
        jacobian = draw_jacobian(kind, 6, 4 + seed, seed)
        start = torch.randn(6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        weights = project_on_dual_cone(jacobian @ jacobian.T, start).weights
        direction, change = weights @ jacobian, (weights - start) @ jacobian
        norms = jacobian.norm(dim=1)
        size = float(start.abs() @ norms)
        assert bool((weights >= start).all())
        assert bool((jacobian @ direction >= -1e-8 * size * norms).all())
        assert abs(float(direction @ change)) <= 1e-8 * size**2
        start_squared = float((start @ jacobian).square().sum())
        assert float(direction.square().sum() + change.square().sum()) == pytest.approx(
            start_squared, abs=1e-7 * size**2
        )


def test_two_tasks_have_a_closed_form() -> None:
    for seed in range(20):
        gramian = draw_gramian("conflict" if seed % 2 else "scaled", 2, seed)
        (a, b), (_, d) = gramian.tolist()
        expected = [[1.0, max(0.0, -b / d)], [max(0.0, -b / a), 1.0]]
        torch.testing.assert_close(
            project_on_dual_cone(gramian, torch.eye(2)).weights,
            torch.tensor(expected, dtype=torch.float64),
            rtol=1e-9,
            atol=0.0,
        )


def test_gradients_without_conflict_are_left_exactly_as_they_are() -> None:
    gramian = torch.ones(4, 4).double() + torch.eye(4)
    targets = torch.tensor([[0.0, 2.0, 1.0, 0.5], [1.0, 0.0, 0.0, 0.0]]).double()
    weights, converged, gap = project_on_dual_cone(gramian, targets)
    assert torch.equal(weights, targets)
    assert bool(converged)
    assert float(gap) == 0.0


def test_several_targets_are_solved_as_each_by_itself() -> None:
    for kind in KINDS:
        jacobian = draw_jacobian(kind, 7, 20, 5)
        gramian, targets = jacobian @ jacobian.T, one_by_one(7)
        together = project_on_dual_cone(gramian, targets).weights
        alone = torch.stack([project_on_dual_cone(gramian, u).weights for u in targets])
        scale = jacobian.norm(dim=1).max()
        torch.testing.assert_close(
            together @ jacobian / scale, alone @ jacobian / scale, rtol=1e-6, atol=1e-8
        )


def test_scale_does_not_matter() -> None:
    for seed in range(10):
        gramian = draw_gramian("random", 7, seed)
        expected = project_on_dual_cone(gramian, one_by_one(7)).weights
        for factor in (1e-12, 1e12):
            torch.testing.assert_close(
                project_on_dual_cone(factor * gramian, one_by_one(7)).weights, expected
            )
        torch.testing.assert_close(project_on_dual_cone(gramian, 1e9 * one_by_one(7)).weights, 1e9 * expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("missing", ["SMALL", "MAX_EXCHANGES", "REFINEMENTS"])
def test_each_part_of_the_method_is_a_short_cut_only(
    kind: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without plain Python tensors do it all; without block exchanges active sets; refinement undoes a small ridge."""
    for m in (2, 5, 11):
        jacobian = draw_jacobian(kind, m, 4 * m + 8, m)
        gramian, scale = jacobian @ jacobian.T, jacobian.norm(dim=1).max()
        expected = project_on_dual_cone(gramian, one_by_one(m))
        with monkeypatch.context() as patch:
            patch.setattr(dual_cone, missing, 0)
            found = project_on_dual_cone(gramian, one_by_one(m))
        assert bool(found.converged)
        torch.testing.assert_close(
            found.weights @ jacobian / scale, expected.weights @ jacobian / scale, rtol=1e-6, atol=1e-6
        )


def test_exchanges_that_cycle_are_finished_by_active_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    plain = dual_cone._add_one_by_one

    def counted(matrix: Tensor, linear: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return plain(matrix, linear)

    monkeypatch.setattr(dual_cone, "_add_one_by_one", counted)
    for seed in range(10):
        assert bool(
            project_on_dual_cone(draw_gramian("rank_deficient", 24, 4 * seed), one_by_one(24)).converged
        )
    assert calls > 0


def test_degenerate_gramians_have_the_documented_answer() -> None:
    zeros = project_on_dual_cone(torch.zeros(3, 3), one_by_one(3).float())
    assert torch.equal(zeros.weights, one_by_one(3).float())
    assert bool(zeros.converged)
    one_zero = project_on_dual_cone(torch.diag(torch.tensor([2.0, 0.0])), torch.tensor([0.3, 0.7]))
    assert one_zero.weights.tolist() == pytest.approx([0.3, 0.7])
    opposite = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).double()
    weights, converged, _ = project_on_dual_cone(opposite, torch.tensor([1.0, 0.0]))
    assert (weights[0] - weights[1]).item() == pytest.approx(0.0, abs=1e-12)
    assert bool(converged)
    for bad in (torch.nan, torch.inf):
        gramian = torch.eye(3)
        gramian[0, 1] = gramian[1, 0] = bad
        weights, converged, gap = project_on_dual_cone(gramian, one_by_one(3))
        assert torch.equal(weights, one_by_one(3).float())
        assert not converged
        assert not float(gap) <= 1e-8


def test_single_precision_comes_back_and_is_judged_by_its_own_rounding() -> None:
    for kind in KINDS:
        gramian = draw_gramian(kind, 11, 3).float()
        weights, converged, _ = project_on_dual_cone(gramian, one_by_one(11))
        assert weights.dtype == torch.float32
        if kind in WELL_CONDITIONED:
            assert bool(converged)


def test_targets_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"`targets` should have shape \(2,\) or \(b, 2\)\. Found \(3,\)\."):
        project_on_dual_cone(torch.eye(2), torch.ones(3))
    with pytest.raises(ValueError, match="`gramian` should be a square matrix"):
        project_on_dual_cone(torch.ones(2, 3), torch.ones(2))
