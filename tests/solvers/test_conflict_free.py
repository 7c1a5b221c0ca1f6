"""The conflict-free direction against the definition on the gradients, and against torchjd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchjd.aggregation import ConFIG

from draws import KINDS, WELL_CONDITIONED, draw_jacobian
from equipoise.solvers.conflict_free import conflict_free


def direction(rows: Tensor) -> Tensor:
    return conflict_free(rows @ rows.T) @ rows


@pytest.mark.parametrize("kind", WELL_CONDITIONED)
@pytest.mark.parametrize("m", [1, 2, 3, 11])
def test_equal_cosines_with_all_gradients_and_the_length_of_their_projections(kind: str, m: int) -> None:
    for seed in range(10):
        rows = draw_jacobian(kind, m, 4 * m + 8, seed)
        found = direction(rows)
        cosines = torch.nn.functional.cosine_similarity(rows, found[None])
        assert cosines.tolist() == pytest.approx([cosines[0].item()] * m, rel=1e-7)
        assert cosines[0] > 0
        assert found.norm().item() == pytest.approx((rows @ found / found.norm()).sum().item(), rel=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_torchjd_agrees_whatever_the_rank(kind: str) -> None:
    for seed in range(10):
        rows = draw_jacobian(kind, 4, 7, seed)
        expected = ConFIG()(rows)
        if expected.norm() < 1e-6 * rows.norm():  # torchjd normalises rounding where the direction is 0
            continue
        torch.testing.assert_close(direction(rows), expected, rtol=1e-6, atol=1e-6 * rows.norm().item())


def test_two_gradients_by_the_closed_form() -> None:
    """The sum of both orthogonal parts, made equally long."""
    rows = draw_jacobian("conflict", 2, 6, 3)
    first, second = rows
    parts = [
        second - (first @ second) / (first @ first) * first,
        first - (first @ second) / (second @ second) * second,
    ]
    unit = sum((part / part.norm() for part in parts), torch.zeros(6, dtype=torch.float64))
    unit = unit / unit.norm()
    torch.testing.assert_close(direction(rows), (rows @ unit).sum() * unit)


def test_no_direction_means_zero() -> None:
    row = draw_jacobian("random", 1, 5, 0)
    assert direction(torch.cat([row, -3 * row])).abs().max() < 1e-12
    assert direction(torch.zeros(3, 4, dtype=torch.float64)).tolist() == [0.0] * 4
    assert conflict_free(torch.tensor([[1.0, torch.nan], [torch.nan, 1.0]])).tolist() == [0.0, 0.0]


def test_zero_gradients_are_left_out_and_equal_ones_count_once_for_the_direction() -> None:
    rows = draw_jacobian("random", 3, 8, 0)
    padded = torch.cat([rows[:2], torch.zeros(1, 8).double(), rows[2:]])
    torch.testing.assert_close(direction(padded), direction(rows))
    doubled = direction(torch.cat([rows, rows[:1]]))
    assert torch.cosine_similarity(doubled, direction(rows), dim=0).item() == pytest.approx(1.0)
    assert doubled.norm() > direction(rows).norm()


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"`gramian` should be a square matrix with at least one row"):
        conflict_free(torch.ones(2, 3))
