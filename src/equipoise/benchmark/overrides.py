"""What a user may change of a preset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .records import Baselines


class PlanError(ValueError):
    """A benchmark was asked for that cannot be run; the message says what to write instead."""


def read_lrs(text: str) -> tuple[tuple[float, ...], tuple[float, float] | None]:
    """The candidates of the learning rate, or its bounds: `1e-3,5e-4` or `1e-4..1e-2`.

    Raises:
        PlanError: on a text of neither form.
    """
    low, dots, high = text.partition("..")
    try:
        if dots:
            return (), (float(low), float(high))
        return tuple(float(one) for one in text.split(",") if one), None
    except ValueError:
        raise PlanError(
            f"`lr` should be numbers separated by commas, or with --budget bounds such as 1e-4..1e-2. Found {text!r}."
        ) from None


@dataclass(frozen=True)
class Overrides:
    """What a user changes of a preset; None or empty leaves it as it is.

    Args:
        methods: labels.
        seeds: of the runs; the first one also serves to choose the learning rate.
        lrs: candidates of the learning rate.
        budget: settings that each row tries out, or None.
        bounds: of the learning rate, with a budget; by default a factor of five either way of the preset's first.
        compute: whether methods that cost more than `ls` have a second row at its compute.
        baselines: "own" single-task runs, the "published" constants, "none", or as the preset says.
        settings: options of the problem and fields of `TrainConfig`, by name.
    """

    methods: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    lrs: tuple[float, ...] = ()
    budget: int | None = None
    bounds: tuple[float, float] | None = None
    compute: bool = False
    baselines: Baselines | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
