"""Krum against its definition on the gradients, and what it is for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import equipoise as eq
from draws import WELL_CONDITIONED, draw_jacobian
from equipoise.methods.krum import Krum


def weights_for(method: eq.Method, jacobian: Tensor, present: list[bool] | None = None) -> Tensor:
    here = None if present is None else torch.tensor(present)
    return method(eq.TaskStats(torch.ones(len(jacobian)), gramian=jacobian @ jacobian.T, present=here))


@pytest.mark.parametrize("kind", WELL_CONDITIONED)
@pytest.mark.parametrize(("outliers", "selected"), [(0, 1), (1, 1), (2, 3), (4, 7), (6, 2)])
def test_it_is_the_definition_on_the_gradients(kind: str, outliers: int, selected: int) -> None:
    m = 7
    for seed in range(10):
        rows = draw_jacobian(kind, m, 20, seed)
        scores = []
        for i in range(m):
            near = sorted(float((rows[i] - rows[j]).square().sum()) for j in range(m) if j != i)
            scores.append(sum(near[: max(m - outliers - 2, 1)]))
        best = sorted(range(m), key=lambda i: scores[i])[:selected]
        expected = [1 / selected if i in best else 0.0 for i in range(m)]
        assert weights_for(Krum(m, outliers, selected), rows).tolist() == pytest.approx(expected)


def test_squared_distances_tell_one_far_neighbour_from_two_near_ones() -> None:
    """From 0: 3 and 3, sum 6, squares 18; from 101: 1 and 4.5, sum 5.5, squares 21.25."""
    rows = torch.tensor([[0.0], [-3.0], [3.0], [100.0], [101.0], [105.5]]).double()
    weights = weights_for(Krum(6, outliers=2), rows)
    assert weights.tolist() == [1, 0, 0, 0, 0, 0]


def test_a_wild_gradient_cannot_turn_the_step() -> None:
    rows = torch.cat(
        [torch.ones(5, 3) + 0.1 * torch.arange(15).view(5, 3), torch.full((1, 3), -1e6)]
    ).double()
    direction = weights_for(Krum(6, outliers=1, selected=4), rows) @ rows
    assert (direction > 0).all()


def test_few_tasks_have_the_documented_answer() -> None:
    assert weights_for(Krum(1), torch.ones(1, 3).double()).tolist() == [1.0]
    assert weights_for(Krum(2, outliers=5), torch.eye(2).double()).tolist() == [1.0, 0.0]
    three = torch.tensor([[0.0], [5.0], [6.0]]).double()
    assert weights_for(Krum(3, outliers=5), three).tolist() == [0.0, 1.0, 0.0]
    assert weights_for(Krum(3, selected=3), three, [True, False, True]).tolist() == [0.5, 0.0, 0.5]


def test_hyper_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match=r"`outliers` should be at least 0\. Found -1\."):
        Krum(3, outliers=-1)
    for selected in (0, 4):
        with pytest.raises(ValueError, match="`selected` should be from 1 to the number of tasks, 3. Found"):
            Krum(3, selected=selected)
