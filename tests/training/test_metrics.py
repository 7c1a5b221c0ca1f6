"""delta_m, mean rank and convergence against golden values, closed forms and scipy."""

from __future__ import annotations

import math
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from equipoise.training.metrics import (
    convergence_difference,
    convergence_epoch,
    delta_m,
    mean_rank,
    relative_changes,
)
from golden_values import golden

# GO4Align, table 1, row STL: mIoU, pixel accuracy, abs, rel, mean, median, 11.25, 22.5, 30; percent as fractions
NYUV2_SINGLE_TASK = [0.3830, 0.6376, 0.6754, 0.2780, 25.01, 19.21, 0.3014, 0.5720, 0.6915]
NYUV2_HIGHER = [True, True, False, False, False, False, True, True, True]

positive = st.floats(0.1, 100)


def test_delta_m_equals_the_golden_value() -> None:
    expected = golden("metrics.json")["delta_m"]
    assert delta_m(expected["values"], NYUV2_SINGLE_TASK, NYUV2_HIGHER) == pytest.approx(
        expected["delta_m"], abs=1e-6
    )


def test_delta_m_is_negative_where_every_metric_is_better() -> None:
    assert delta_m([1.1, 0.9], [1.0, 1.0], [True, False]) == pytest.approx(-10)
    assert delta_m([0.9, 1.1], [1.0, 1.0], [True, False]) == pytest.approx(10)
    assert relative_changes([0.8, 3.0], [1.0, 2.0], [True, False]) == pytest.approx([20, 50])


@given(st.lists(st.tuples(positive, positive, positive, st.booleans()), min_size=1, max_size=12))
def test_delta_m_ignores_units(rows: list[tuple[float, float, float, bool]]) -> None:
    values, baseline, units, higher = (list(column) for column in zip(*rows, strict=True))
    scaled = delta_m(
        [v * u for v, u in zip(values, units, strict=True)],
        [b * u for b, u in zip(baseline, units, strict=True)],
        higher,
    )
    assert scaled == pytest.approx(delta_m(values, baseline, higher), abs=1e-6)


@pytest.mark.parametrize(
    ("values", "baseline", "higher", "message"),
    [
        (
            [1.0],
            [1.0, 2.0],
            [True, True],
            "`values` should have the length of `higher_is_better`, 2. Found 1.",
        ),
        (
            [1.0, 2.0],
            [1.0],
            [True, True],
            "`baseline` should have the length of `higher_is_better`, 2. Found 1.",
        ),
        ([], [], [], "`higher_is_better` should hold at least one metric. Found none."),
        ([1.0, 1.0], [1.0, 0.0], [True, True], "`baseline` should not be zero.* Found 0 at index 1."),
    ],
)
def test_delta_m_refuses(
    values: list[float], baseline: list[float], higher: list[bool], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        delta_m(values, baseline, higher)


@given(
    st.integers(1, 6).flatmap(
        lambda metrics: st.tuples(
            st.lists(st.lists(st.integers(0, 4), min_size=metrics, max_size=metrics), min_size=1, max_size=8),
            st.lists(st.booleans(), min_size=metrics, max_size=metrics),
        )
    )
)
def test_mean_rank_equals_scipy(drawn: tuple[list[list[int]], list[bool]]) -> None:
    rows, higher = drawn
    found = mean_rank({str(index): row for index, row in enumerate(rows)}, higher)
    columns = [
        rankdata([-row[k] if higher[k] else row[k] for row in rows], method="min") for k in range(len(higher))
    ]
    assert list(found.values()) == pytest.approx([fmean(ranks) for ranks in zip(*columns, strict=True)])


def test_what_is_not_a_number_ranks_last() -> None:
    table = {"a": [math.nan, 1.0], "b": [1e9, 3.0], "c": [0.0, 2.0]}
    assert mean_rank(table, [False, False]) == {"a": 2.0, "b": 2.5, "c": 1.5}
    assert mean_rank(table, [True, True]) == {"a": 3.0, "b": 1.0, "c": 2.0}


def test_mean_rank_refuses() -> None:
    with pytest.raises(ValueError, match="`table` should hold at least one method. Found none."):
        mean_rank({}, [True])
    with pytest.raises(ValueError, match=r"`table\['b'\]` should have the length of .* 2. Found 1."):
        mean_rank({"a": [1, 2], "b": [1]}, [True, True])


def test_convergence_is_reached_for_good_up_to_the_best_epoch() -> None:
    # first 10, best 2 at epoch 6: within 5 % of the improvement of 8 means at most 2.4
    curve = [10.0, 2.3, 5.0, 2.4, 2.1, 2.0, 9.0]
    assert convergence_epoch(curve, higher_is_better=False) == 4
    assert convergence_epoch([-value for value in curve], higher_is_better=True) == 4
    assert convergence_epoch(curve, higher_is_better=False, tolerance=0.4) == 2
    assert convergence_epoch(curve, higher_is_better=False, tolerance=0) == 6


def test_a_curve_that_never_improves_has_converged_at_once() -> None:
    assert convergence_epoch([1.0, 2.0, 3.0], higher_is_better=False) == 1
    assert convergence_epoch([1.0], higher_is_better=True) == 1


def test_convergence_counts_in_the_epochs_given() -> None:
    assert convergence_epoch([10.0, 5.0, 0.0], higher_is_better=False, epochs=[2, 4, 6]) == 6
    assert convergence_epoch([0.0, 5.0], higher_is_better=False, epochs=[2, 4]) == 2


def test_convergence_difference_is_the_population_deviation() -> None:
    curves = [[10.0, 0.0, 0.0, 0.0], [10.0, 9.0, 8.0, 0.0]]  # epochs 2 and 4
    higher = [False, False]
    assert convergence_difference(curves, higher_is_better=higher) == pytest.approx(1.0)
    assert convergence_difference(curves[:1] * 3, higher_is_better=[False] * 3) == 0
    scaled = convergence_difference(curves, higher_is_better=higher, epochs=[5, 10, 15, 20])
    assert scaled == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("curve", "options", "message"),
    [
        ([], {}, "`curve` should hold at least one epoch. Found none."),
        ([1.0, math.nan], {}, "`curve` should be finite. Found nan at epoch 2."),
        ([1.0, math.inf], {"epochs": [5, 10]}, "`curve` should be finite. Found inf at epoch 10."),
        ([1.0], {"tolerance": 1.0}, "`tolerance` should be at least 0 and below 1. Found 1.0."),
        ([1.0], {"tolerance": -0.1}, "`tolerance` should be at least 0 and below 1. Found -0.1."),
        ([1.0], {"epochs": [1, 2]}, "`epochs` should have the length of `curve`, 1. Found 2."),
    ],
)
def test_convergence_refuses(curve: list[float], options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        convergence_epoch(curve, higher_is_better=False, **options)  # type: ignore[arg-type]


def test_convergence_difference_refuses_another_number_of_directions() -> None:
    with pytest.raises(
        ValueError, match="`curves` should have the length of `higher_is_better`, 2. Found 1."
    ):
        convergence_difference([[1.0]], higher_is_better=[True, False])
