"""Weights on the simplex: moved, raised to a floor, drawn, and refused."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise.search.weights import Exploration, check_weights, drawn, floored, moved, uniform

positive = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=12)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(positive, st.floats(0, 0.99))
def test_raised_weights_lie_on_the_simplex_above_the_floor_and_keep_their_order(
    weights: list[float], floor: float
) -> None:
    found = floored(weights, floor)
    assert math.fsum(found) == pytest.approx(1, abs=1e-12)
    least = floor / len(weights)
    assert min(found) >= least * (1 - 1e-12)
    high = [i for i, weight in enumerate(found) if weight > least * (1 + 1e-9)]
    ratios = [found[i] / weights[i] for i in high]  # what lies above the floor keeps its proportions
    assert all(ratio == pytest.approx(ratios[0], rel=1e-9) for ratio in ratios)
    order = sorted(range(len(weights)), key=lambda i: weights[i])
    assert all(found[a] <= found[b] * (1 + 1e-12) for a, b in itertools.pairwise(order))


def test_a_floor_raises_those_that_fall_below_it_once_others_are_scaled() -> None:
    """By hand: a floor of 0.1 raises the first weight, and then the second one too, which scaling lowers."""
    assert floored([0.01, 0.1, 0.9], 0.3) == pytest.approx((0.1, 0.1, 0.8))
    assert floored([0.0, 1.0], 0.2) == pytest.approx((0.1, 0.9))
    assert floored([1, 3], 0.0) == pytest.approx((0.25, 0.75))


def test_a_multiplicative_move_takes_one_of_two_factors() -> None:
    how = Exploration(factors=(0.5, 2.0), resample=0.0, floor=0.0)
    start = (0.2, 0.3, 0.5)
    draws = generator()
    seen = set()
    for _ in range(200):
        found = moved(start, how, draws)
        ratios = [b / a for a, b in zip(start, found, strict=True)]
        steps = [round(ratio / max(ratios), 9) for ratio in ratios]  # 1 for the largest step, or 1/4
        assert set(steps) == {1.0, 0.25}
        seen.add(tuple(steps))
    assert len(seen) == 6  # 2^3 choices without those two that would move nothing


def test_a_log_normal_move_has_the_stated_spread() -> None:
    how = Exploration(kind="lognormal", sigma=0.3, resample=0.0, floor=0.0)
    draws = generator()
    logs = torch.tensor([moved((0.5, 0.5), how, draws) for _ in range(4000)], dtype=torch.float64).log()
    difference = logs[:, 0] - logs[:, 1]  # the sum is divided out: two independent steps of 0.3
    assert float(difference.mean()) == pytest.approx(0, abs=0.02)
    assert float(difference.std()) == pytest.approx(0.3 * math.sqrt(2), rel=0.05)


def test_fresh_draws_come_as_often_as_asked_and_are_uniform_on_the_simplex() -> None:
    draws = generator()
    start = (0.25,) * 4
    how = Exploration(factors=(1.0, 1.0), resample=0.3, floor=0.0)
    fresh = [
        found for found in (moved(start, how, draws) for _ in range(4000)) if found != pytest.approx(start)
    ]
    assert len(fresh) / 4000 == pytest.approx(0.3, abs=0.03)
    first = torch.tensor([found[0] for found in fresh], dtype=torch.float64)
    assert float(first.mean()) == pytest.approx(1 / 4, abs=0.02)
    assert float(first.var()) == pytest.approx(3 / (16 * 5), abs=0.005)  # of a Dirichlet with parameters 1


def test_the_same_stream_gives_the_same_weights() -> None:
    assert drawn(5, 0.1, generator(3)) == drawn(5, 0.1, generator(3)) != drawn(5, 0.1, generator(4))
    assert moved(uniform(3), Exploration(), generator(3)) == moved(uniform(3), Exploration(), generator(3))


def test_what_a_user_writes_is_checked_and_divided_by_its_sum() -> None:
    names = ["mnist", "optdigits", "pendigits"]
    assert check_weights([0.2, 0.3, 0.5000004], names) == pytest.approx((0.2, 0.3, 0.5))
    assert math.fsum(check_weights([1 / 3] * 3, names)) == pytest.approx(1, abs=1e-15)
    for weights in ([0.5, 0.5, 0.5], [-0.5, 0.5, 1.0], [math.nan, 0.5, 0.5], [math.inf, 0, 0]):
        with pytest.raises(
            ValueError, match="`weights` should lie on the simplex: none below 0, and a sum of 1. Found"
        ):
            check_weights(weights, names)
    with pytest.raises(ValueError, match="`weights` should be 3, for mnist, optdigits, pendigits. Found 2."):
        check_weights([0.5, 0.5], names)
    with pytest.raises(ValueError, match="`count` should be at least 1. Found 0."):
        uniform(0)


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("kind", "additive", "multiplicative or lognormal"),
        ("factors", (0.0, 1.2), "two finite numbers above 0"),
        ("sigma", 0.0, "a finite number above 0"),
        ("resample", 1.1, "from 0 to 1"),
        ("floor", 1.0, "from 0 to below 1"),
    ],
)
def test_a_wrong_option_is_named(option: str, value: object, expected: str) -> None:
    with pytest.raises(ValueError, match=f"`{option}` should be {expected}. Found "):
        Exploration(**{option: value})  # type: ignore[arg-type]
