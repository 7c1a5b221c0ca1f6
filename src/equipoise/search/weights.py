"""Weights of tasks or sampling probabilities of domains: points of the simplex, and how a search moves them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

Weights = tuple[float, ...]
_TOLERANCE = 1e-6  # of the sum of weights that a user writes


@dataclass(frozen=True)
class Exploration:
    """How new weights are found from old ones.

    A move multiplies each weight with a number of its own and divides by the sum: with one of the two `factors`, as
    likely each, but not the same one for all ("multiplicative", the defaults of Ray's PBT), or with exp(sigma z), z
    standard normal ("lognormal"). With the probability `resample` the weights are drawn afresh instead. No weight falls
    below `floor` / m, m the number of weights, so that no task or domain is ever given up.

    Args:
        kind: of the move.
        factors: of a multiplicative move, both above 0.
        sigma: of a log-normal move, above 0.
        resample: probability of a fresh draw, from 0 to 1.
        floor: of each weight, in units of the uniform weight 1 / m, from 0 to below 1.

    Raises:
        ValueError: on a number out of its range.
    """

    kind: Literal["multiplicative", "lognormal"] = "multiplicative"
    factors: tuple[float, float] = (0.8, 1.2)
    sigma: float = 0.2
    resample: float = 0.25
    floor: float = 0.1

    def __post_init__(self) -> None:
        ranges = {
            "kind": (self.kind in ("multiplicative", "lognormal"), "multiplicative or lognormal"),
            "factors": (all(0 < factor < math.inf for factor in self.factors), "two finite numbers above 0"),
            "sigma": (0 < self.sigma < math.inf, "a finite number above 0"),
            "resample": (0 <= self.resample <= 1, "from 0 to 1"),
            "floor": (0 <= self.floor < 1, "from 0 to below 1"),
        }
        for name, (good, expected) in ranges.items():
            if not good:
                raise ValueError(f"`{name}` should be {expected}. Found {getattr(self, name)!r}.")


def uniform(count: int) -> Weights:
    """The weights 1 / m of m tasks or domains.

    Raises:
        ValueError: on less than one.
    """
    if count < 1:
        raise ValueError(f"`count` should be at least 1. Found {count}.")
    return (1 / count,) * count


def check_weights(weights: Sequence[float], names: Sequence[str]) -> Weights:
    """Weights that a user has written, divided by their sum, which may be off by 1e-6.

    Raises:
        ValueError: if they are not one for each name, or lie outside the simplex.
    """
    if len(weights) != len(names):
        raise ValueError(f"`weights` should be {len(names)}, for {', '.join(names)}. Found {len(weights)}.")
    total = math.fsum(weights)
    if not all(0 <= weight < math.inf for weight in weights) or abs(total - 1) > _TOLERANCE:
        found = ", ".join(f"{weight:g}" for weight in weights)
        raise ValueError(
            f"`weights` should lie on the simplex: none below 0, and a sum of 1. Found {found} with a sum of {total:g}."
        )
    return tuple(weight / total for weight in weights)


def floored(weights: Sequence[float], floor: float) -> Weights:
    """The weights with those below a least weight raised to it, and the others scaled so that the sum is 1.

    With F the set of those that are raised, w_i = l for i in F and w_i = v_i (1 - l |F|) / sum_{j not in F} v_j for
    the others; F is the smallest set for which all of these are at least l.

    Args:
        weights: v (m,), at least 0, with a sum above 0.
        floor: of each weight, in units of 1 / m: l = floor / m.
    """
    count = len(weights)
    least = floor / count
    order = sorted(range(count), key=lambda i: weights[i])
    for raised in range(count):
        rest = order[raised:]
        scale = (1 - least * raised) / math.fsum(weights[i] for i in rest)
        if weights[rest[0]] * scale >= least:
            low = set(order[:raised])
            return tuple(least if i in low else weights[i] * scale for i in range(count))
    return uniform(count)


def drawn(count: int, floor: float, generator: torch.Generator) -> Weights:
    """Weights that are uniform on the simplex (Dirichlet with all parameters 1), then `floored`."""
    spread = torch.empty(count, dtype=torch.float64).exponential_(generator=generator)
    return floored(spread.tolist(), floor)


def moved(weights: Sequence[float], how: Exploration, generator: torch.Generator) -> Weights:
    """Weights near the given ones, or, with the probability `how.resample`, fresh ones."""
    if float(torch.rand((), generator=generator)) < how.resample:
        return drawn(len(weights), how.floor, generator)
    if how.kind == "lognormal":
        steps = (
            (how.sigma * torch.randn(len(weights), dtype=torch.float64, generator=generator)).exp().tolist()
        )
    else:
        choices = [0] * len(weights)
        while len(set(choices)) < min(len(weights), 2):
            choices = torch.randint(2, (len(weights),), generator=generator).tolist()
        steps = [how.factors[choice] for choice in choices]
    return floored([weight * step for weight, step in zip(weights, steps, strict=True)], how.floor)
