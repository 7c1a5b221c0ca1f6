"""Exact fronts: where methods end is known in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import equipoise as eq
from equipoise.problems.fronts import KINDS, WEIGHTED_SUMS_REACH, Fronts


def descended(problem: Fronts, method: str, start: Tensor, *, steps: int = 400, lr: float = 0.05) -> Tensor:
    """Where plain gradient descent with a balancing method ends, in float64."""
    model = problem.model(0).double()
    with torch.no_grad():
        model.x.copy_(start)
    names = [task.name for task in problem.tasks]
    balancer = eq.Balancer(eq.build_method(method, len(names)), tasks=names, shared=model)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        balancer.backward(problem.losses(model, torch.zeros(0)))
        optimizer.step()
    return model.x.detach()


def stationarity(problem: Fronts, x: Tensor) -> float:
    """The norm of the shortest convex combination of two gradients, in closed form; 0 where x is Pareto-stationary."""
    first, second = torch.func.jacrev(problem.values)(x)
    apart = second - first
    share = (second @ apart / (apart @ apart)).clamp(0, 1)
    return float((share * first + (1 - share) * second).norm())


def at(problem: Fronts, s: float, aside: float = 0.0) -> Tensor:
    """The point at a position between the two anchors, and so far aside of their line."""
    anchors = problem.anchors.double()
    x = ((1 - s) * anchors[0] + (1 + s) * anchors[1]) / 2
    x[2] += aside
    return x


@pytest.mark.parametrize("kind", ["convex", "concave"])
def test_both_fronts_are_those_of_the_formulas(kind: str) -> None:
    problem = Fronts(kind=kind, offset=1.0)
    for s in (-1.0, -0.3, 0.0, 0.8):
        first, second = (problem.values(at(problem, s)) - 1).tolist()
        if kind == "concave":
            first, second = -math.log1p(-first), -math.log1p(-second)
        assert math.sqrt(first) + math.sqrt(second) == pytest.approx(2, abs=1e-6)
        assert problem.position(at(problem, s)) == pytest.approx(s, abs=1e-6)
        assert stationarity(problem, at(problem, s)) < 1e-6
        assert problem.distance(at(problem, s, 0.4)) == pytest.approx(0.4, abs=1e-6)
        assert stationarity(problem, at(problem, s, 0.4)) > 0.01


@pytest.mark.parametrize("weights", [[0.5, 0.3, 0.2], [1 / 3] * 3, [0.05, 0.05, 0.9]])
def test_on_the_convex_front_a_weighted_sum_ends_at_the_weighted_mean_of_the_anchors(
    weights: list[float],
) -> None:
    problem = Fronts(kind="convex", objectives=3)
    x = descended(problem, f"constant:weights={weights}", torch.full((4,), 0.3, dtype=torch.float64))
    expected = torch.tensor(weights, dtype=torch.float64) @ problem.anchors.double()
    torch.testing.assert_close(x, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("share", [0.02, 0.4, 0.5, 0.8])
@pytest.mark.parametrize("start", [-0.4, 0.01])
def test_on_the_concave_front_no_weighted_sum_reaches_the_middle(share: float, start: float) -> None:
    problem = Fronts()
    x = descended(
        problem, f"constant:weights=[{2 * share},{2 - 2 * share}]", at(problem, start, 0.3), steps=150, lr=0.2
    )
    assert problem.distance(x) < 1e-3
    assert abs(problem.position(x)) > WEIGHTED_SUMS_REACH


@pytest.mark.parametrize("s", [-0.65, -0.3, 0.0, 0.3, 0.65])
def test_points_in_the_middle_are_optimal_and_a_maximum_of_the_weighted_sum_that_is_stationary_there(
    s: float,
) -> None:
    problem = Fronts()
    slopes = [
        torch.func.grad(lambda t, k=k: _line(problem, t)[k])(torch.tensor(s, dtype=torch.float64))
        for k in (0, 1)
    ]
    share = float(-slopes[1] / (slopes[0] - slopes[1]))

    def total(t: Tensor) -> Tensor:
        return _line(problem, t) @ torch.tensor([share, 1 - share], dtype=torch.float64)

    point = torch.tensor(s, dtype=torch.float64)
    assert float(torch.func.grad(total)(point)) == pytest.approx(0, abs=1e-9)
    curvature = float(torch.func.grad(torch.func.grad(total))(point))
    assert curvature < 0
    assert math.copysign(1, 1 / (1 - s**2) - 2) == math.copysign(1, curvature)


def _line(problem: Fronts, t: Tensor) -> Tensor:
    anchors = problem.anchors.double()
    return problem.values(((1 - t) * anchors[0] + (1 + t) * anchors[1]) / 2)


@pytest.mark.parametrize(
    ("method", "steps", "lr"),
    [
        ("mgda", 200, 0.05),
        ("imtl_g", 200, 0.05),
        ("upgrad", 200, 0.05),
        # Steps of unit length, whatever the gradients: they arrive, and would wander if they went on.
        ("nashmtl", 150, 0.002),
        ("fairgrad:max_norm=1", 150, 0.002),
    ],
)
def test_methods_that_harm_no_task_reach_the_middle(method: str, steps: int, lr: float) -> None:
    problem = Fronts()
    x = descended(problem, method, at(problem, 0.1, 0.3), steps=steps, lr=lr)
    assert stationarity(problem, x) < 0.02
    assert abs(problem.position(x)) < 0.6 < WEIGHTED_SUMS_REACH


def test_equal_weights_leave_the_middle_that_mgda_keeps() -> None:
    problem = Fronts()
    start = at(problem, 0.05, 0.3)
    assert abs(problem.position(descended(problem, "ls", start))) > WEIGHTED_SUMS_REACH
    assert abs(problem.position(descended(problem, "mgda", start))) < 0.1


@pytest.mark.parametrize("preference", [(1.0, 1.0), (1.2, 1.0), (1.0, 1.2)])
def test_tchebycheff_reaches_the_point_of_its_preference_on_the_concave_front(
    preference: tuple[float, float],
) -> None:
    problem = Fronts(offset=1.0)
    method = f"tchebycheff:preference=[{preference[0]},{preference[1]}]:reference=[1,1]"
    x = descended(problem, method, at(problem, 0.3, 0.2), steps=800, lr=0.005)
    first, second = (problem.values(x) - 1).tolist()
    assert preference[0] * first == pytest.approx(preference[1] * second, rel=0.02)
    assert abs(problem.position(x)) < WEIGHTED_SUMS_REACH


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "flat"}, r"`kind` should be one of convex, concave. Found 'flat'."),
        ({"objectives": 1}, r"`objectives` should be at least 2. Found 1."),
        ({"objectives": 5}, r"`dimensions` should be at least the number of objectives, 5. Found 4."),
        ({"offset": 0.0}, r"`offset` should be above 0. Found 0.0."),
        ({"steps": 0}, r"`steps` should be at least 1. Found 0."),
    ],
)
def test_what_makes_no_front_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Fronts(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_an_objective_that_was_given_up_is_not_learnt_and_the_middle_is(kind: str) -> None:
    """The trivial guess is the anchor of another objective; the middle is better in all, a corner in all but one."""
    problem = Fronts(kind=kind)
    trivial = list(problem.trivial(0).values())
    middle = problem.values(problem.anchors.double().mean(0)).tolist()
    corner = problem.values(problem.anchors[0].double()).tolist()
    assert all(value < 0.8 * guess for value, guess in zip(middle, trivial, strict=True))
    assert corner[0] == pytest.approx(0.5) and corner[1:] == pytest.approx(trivial[1:])
