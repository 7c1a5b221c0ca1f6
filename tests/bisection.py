"""The nearest point of the simplex in plain Python, to write methods out without our solvers."""

from __future__ import annotations


def nearest_on_simplex(values: list[float]) -> list[float]:
    """The level at which the clipped values sum to 1, found by halving an interval."""
    low, high = max(values) - 1.0, max(values)
    for _ in range(200):
        level = (low + high) / 2
        if sum(max(v - level, 0.0) for v in values) > 1.0:
            low = level
        else:
            high = level
    return [max(v - low, 0.0) for v in values]
