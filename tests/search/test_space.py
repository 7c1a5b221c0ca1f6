"""Points of the space: drawn, moved, and as numbers for models."""

from __future__ import annotations

import math
import statistics

import pytest
import torch

from equipoise.search.space import Point, Range, Space
from equipoise.search.weights import Exploration

LR = Range("lr", 1e-4, 1e-2, 1e-3)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_range_is_logarithmic() -> None:
    assert LR.at(0.5) == pytest.approx(1e-3) and LR.part(1e-3) == pytest.approx(0.5)
    assert [LR.at(0), LR.at(1), LR.held(1.0), LR.held(0.0)] == pytest.approx([1e-4, 1e-2, 1e-2, 1e-4])
    assert Space(2, ranges=(Range("lr", 1e-4, 1e-2, 0.5),)).uniform() == Point((0.5, 0.5), {"lr": 1e-2})
    draws = generator()
    logs = [math.log10(Space(2, ranges=(LR,)).drawn(draws).settings["lr"]) for _ in range(2000)]
    assert min(logs) > -4 and max(logs) < -2 and statistics.mean(logs) == pytest.approx(-3, abs=0.05)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (1.0, math.inf)])
def test_bounds_that_are_none_are_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="The bounds of `lr` should be two finite numbers above 0"):
        Range("lr", low, high, 1.0)


def test_a_space_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 weights to find. Found 1."):
        Space(1)
    with pytest.raises(ValueError, match="Each setting should have one range. Found lr, lr."):
        Space(2, ranges=(LR, LR))


@pytest.mark.parametrize("kind", ["multiplicative", "lognormal"])
def test_settings_move_by_a_factor_and_stay_between_their_bounds(kind: str) -> None:
    space = Space(3, Exploration(kind=kind, resample=0.0), (LR,))  # type: ignore[arg-type]
    point, draws = space.uniform(), generator()
    seen = []
    for _ in range(200):
        moved = space.moved(point, draws)
        ratio = moved.settings["lr"] / point.settings["lr"]
        seen.append(ratio)
        assert 1e-4 <= moved.settings["lr"] <= 1e-2
        point = moved
    if kind == "multiplicative":
        inner = {round(ratio, 9) for ratio in seen}
        assert {0.8, 1.2} <= inner
    assert len(set(seen)) > 1
    assert space.moved(point, generator(1)) == space.moved(point, generator(1))


def test_points_are_rows_and_rows_are_points() -> None:
    space = Space(3, Exploration(floor=0.3), (LR,))
    draws = generator()
    points = [space.drawn(draws) for _ in range(20)]
    rows = space.coordinates(points)
    assert rows.shape == (20, 4) and rows.dtype == torch.float64 and space.dimensions == 3
    assert float(rows.min()) >= -1e-12 and float(rows.max()) <= 1 + 1e-12
    torch.testing.assert_close(rows[:, :3].sum(1), torch.ones(20, dtype=torch.float64))
    for row, point in zip(rows.tolist(), points, strict=True):
        again = space.point(row)
        assert again.weights == pytest.approx(point.weights)
        assert again.settings["lr"] == pytest.approx(point.settings["lr"])
    outside = space.point([1.4, -0.3, 0.2, 7.0])
    assert math.fsum(outside.weights) == pytest.approx(1) and min(outside.weights) >= 0.1 - 1e-12
    assert outside.settings["lr"] == 1e-2
    assert space.coordinates([]).shape == (0, 4)
