"""The trimmed mean against sorting in plain Python, scipy and torchjd."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import trim_mean
from torchjd.aggregation import TrimmedMean as TorchjdTrimmedMean

import equipoise as eq
from draws import draw_jacobian
from equipoise.methods.trimmed_mean import TrimmedMean


def answer(method: TrimmedMean, rows: torch.Tensor, present: torch.Tensor | None = None) -> torch.Tensor:
    seen = rows if present is None else rows * present[:, None]
    return method(eq.TaskStats(torch.ones(len(rows)), present=present, jacobian=seen))


@pytest.mark.parametrize(
    ("m", "fraction", "cut"), [(3, 1 / 3, 1), (5, 0.2, 1), (5, 0.1, 0), (11, 0.3, 3), (8, 0.49, 3)]
)
def test_each_coordinate_loses_its_ends(m: int, fraction: float, cut: int) -> None:
    rows = draw_jacobian("scaled", m, 9, 0)
    columns = [sorted(column) for column in rows.T.tolist()]
    expected = [sum(column[cut : m - cut]) / (m - 2 * cut) for column in columns]
    found = answer(TrimmedMean(m, fraction=fraction), rows)
    assert found.tolist() == pytest.approx(expected)
    assert found.tolist() == pytest.approx(trim_mean(rows.numpy(), fraction + 1e-12, axis=0).tolist())
    torch.testing.assert_close(found, TorchjdTrimmedMean(cut)(rows))


def test_one_task_of_any_size_and_sign_stays_between_the_others() -> None:
    rows = draw_jacobian("random", 4, 50, 0)
    for factor in (1e9, -1e9):
        wild = rows.clone()
        wild[2] *= factor
        others = wild[[0, 1, 3]]
        found = answer(TrimmedMean(4, fraction=0.25), wild)
        assert (found >= others.amin(0)).all()
        assert (found <= others.amax(0)).all()


def test_three_tasks_give_the_median_by_default_and_fewer_the_mean() -> None:
    rows = draw_jacobian("random", 3, 9, 0)
    torch.testing.assert_close(answer(TrimmedMean(3), rows), rows.median(0).values)
    torch.testing.assert_close(answer(TrimmedMean(2), rows[:2]), rows[:2].mean(0))
    torch.testing.assert_close(answer(TrimmedMean(1), rows[:1]), rows[0])
    torch.testing.assert_close(answer(TrimmedMean(3, fraction=0.0), rows), rows.mean(0))
    torch.testing.assert_close(answer(TrimmedMean(2, fraction=0.5 - 1e-12), rows[:2]), rows[:2].mean(0))


def test_absent_tasks_are_left_out_of_the_order() -> None:
    rows = draw_jacobian("random", 7, 9, 0)
    present = torch.tensor([True, True, False, True, True, False, True])
    found = answer(TrimmedMean(7, fraction=0.2), rows, present)
    torch.testing.assert_close(found, answer(TrimmedMean(5, fraction=0.2), rows[present]))


def test_a_share_of_the_tasks_is_not_lost_to_rounding() -> None:
    """0.29 * 100 is 28.999999999999996."""
    rows = torch.arange(100.0)[:, None] ** 2
    kept = [float(i * i) for i in range(29, 71)]
    assert answer(TrimmedMean(100, fraction=0.29), rows).item() == pytest.approx(sum(kept) / 42)


def test_permuting_the_tasks_changes_nothing() -> None:
    rows = draw_jacobian("random", 7, 9, 0)
    order = torch.tensor([3, 6, 0, 4, 1, 2, 5])
    torch.testing.assert_close(answer(TrimmedMean(7), rows[order]), answer(TrimmedMean(7), rows))


def test_fraction_out_of_its_range() -> None:
    for fraction in (-0.1, 0.5):
        with pytest.raises(
            ValueError, match=rf"`fraction` should be at least 0 and below 0.5. Found {fraction:g}\."
        ):
            TrimmedMean(3, fraction=fraction)
