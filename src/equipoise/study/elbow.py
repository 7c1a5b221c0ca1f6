"""Where a falling curve bends."""

from __future__ import annotations

from collections.abc import Sequence


def elbow(x: Sequence[float], y: Sequence[float]) -> float:
    """The x of the point that is farthest below the line from the first point to the last.

    Both axes run from 0 to 1, so that units do not matter. A curve that nowhere falls below this line has its elbow at
    its lowest point.

    Reference: V. Satopaa et al., Finding a Kneedle in a Haystack, ICDCS Workshops 2011.

    Args:
        x: rising.
        y: as many values.

    Raises:
        ValueError: if they are not equally many, or fewer than 2.
    """
    if len(x) != len(y) or len(x) < 2:
        raise ValueError(f"`x` and `y` should be equally many, at least 2. Found {len(x)} and {len(y)}.")
    lowest = min(range(len(y)), key=y.__getitem__)
    height = max(y) - min(y)
    if not height:
        return x[0]
    line = [y[0] + (y[-1] - y[0]) * (place - x[0]) / (x[-1] - x[0]) for place in x]
    below = [(at - value) / height for at, value in zip(line, y, strict=True)]
    best = max(range(len(y)), key=below.__getitem__)
    return x[best] if below[best] > 1e-9 else x[lowest]
