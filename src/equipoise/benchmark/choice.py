"""What chooses a setting. It is given validation scores and nothing else, so that it cannot look at the test part."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

Key = TypeVar("Key")


def best(scores: Mapping[Key, float]) -> Key | None:
    """The setting with the lowest validation score; the first of equals, None if no score is a number."""
    known = {key: score for key, score in scores.items() if not math.isnan(score)}
    return min(known, key=lambda key: known[key]) if known else None
