"""The projection on the simplex against bisection, its optimality conditions and a general solver."""

from __future__ import annotations

from itertools import combinations

import cvxpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bisection import nearest_on_simplex
from equipoise.solvers.simplex import project_simplex

NUMBERS = st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=64)


def by_active_sets(values: list[float]) -> list[float]:
    """The nearest of the projections on all faces of the simplex that lie in it."""
    m = len(values)
    best: tuple[float, list[float]] = (float("inf"), [])
    for size in range(1, m + 1):
        for face in combinations(range(m), size):
            level = (sum(values[i] for i in face) - 1.0) / size
            point = [values[i] - level if i in face else 0.0 for i in range(m)]
            if min(point) >= 0.0:
                distance = sum((p - v) ** 2 for p, v in zip(point, values, strict=True))
                best = min(best, (distance, point))
    return best[1]


@given(NUMBERS)
def test_is_the_level_that_bisection_finds(values: list[float]) -> None:
    found = project_simplex(torch.tensor(values, dtype=torch.float64))
    assert found.tolist() == pytest.approx(nearest_on_simplex(values), abs=1e-10)


@given(st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=6))
def test_no_face_of_the_simplex_is_nearer(values: list[float]) -> None:
    found = project_simplex(torch.tensor(values, dtype=torch.float64))
    assert found.tolist() == pytest.approx(by_active_sets(values), abs=1e-10)


@pytest.mark.parametrize("m", [1, 2, 3, 40])
def test_a_general_solver_agrees(m: int) -> None:
    draws = torch.Generator().manual_seed(m)
    values = torch.randn(m, generator=draws, dtype=torch.float64)
    point = cvxpy.Variable(m)
    objective = cvxpy.Minimize(cvxpy.sum_squares(point - values.numpy()))
    cvxpy.Problem(objective, [point >= 0, cvxpy.sum(point) == 1]).solve(solver=cvxpy.CLARABEL)
    assert project_simplex(values).tolist() == pytest.approx(point.value.tolist(), abs=1e-6)


@given(NUMBERS)
def test_optimality_conditions(values: list[float]) -> None:
    """v - x is the same number where x > 0, and no larger where x = 0."""
    given_values = torch.tensor(values, dtype=torch.float64)
    found = project_simplex(given_values)
    assert (found >= 0).all()
    assert found.sum().item() == pytest.approx(1.0, abs=1e-12)
    multipliers = given_values - found
    assert (multipliers <= multipliers[found > 0].min() + 1e-9).all()


def test_a_point_of_the_simplex_stays_and_equal_values_share() -> None:
    point = torch.tensor([0.5, 0.0, 0.25, 0.25], dtype=torch.float64)
    torch.testing.assert_close(project_simplex(point), point, rtol=0, atol=1e-15)
    torch.testing.assert_close(project_simplex(point + 1e6), point, rtol=0, atol=1e-9)
    assert project_simplex(torch.full((4,), -7.0)).tolist() == [0.25] * 4
    assert project_simplex(torch.tensor([-3.0])).tolist() == [1.0]


def test_twelve_decades_lose_nothing() -> None:
    values = torch.tensor([1e12, 1e12 + 0.5, -1e12, 1.0], dtype=torch.float64)
    assert project_simplex(values).tolist() == [0.25, 0.75, 0.0, 0.0]
    assert project_simplex(torch.tensor([1e-12, 0.0, -1e300])).tolist() == pytest.approx([0.5, 0.5, 0.0])


def test_minus_infinity_leaves_an_entry_out() -> None:
    values = torch.tensor([0.3, -torch.inf, 0.9], dtype=torch.float64)
    torch.testing.assert_close(project_simplex(values)[[0, 2]], project_simplex(values[[0, 2]]))
    assert project_simplex(values)[1] == 0


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_values_without_a_projection_give_equal_weights(bad: float) -> None:
    assert project_simplex(torch.tensor([0.0, bad, 1.0, 2.0])).tolist() == [0.25] * 4
    assert project_simplex(torch.full((2,), -torch.inf)).tolist() == [0.5, 0.5]


def test_order_dtype_and_device_are_those_of_the_values() -> None:
    values = torch.randn(9, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    assert torch.equal(project_simplex(values[order]), project_simplex(values)[order])
    assert project_simplex(values).dtype == torch.float32
    # A meta tensor has no values that could be waited for, and meets no tensor of another device.
    assert project_simplex(values.to("meta")).shape == (9,)


@pytest.mark.parametrize("wrong", [torch.ones(2, 2), torch.ones(0)])
def test_bad_input_is_named(wrong: Tensor) -> None:
    with pytest.raises(
        ValueError, match=r"`values` should be a vector with at least one entry\. Found shape \("
    ):
        project_simplex(wrong)
