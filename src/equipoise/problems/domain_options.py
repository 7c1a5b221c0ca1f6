"""Options of domains as users write them: lists of names and numbers, and points of the simplex."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_SUM_ERROR = 1e-6


def texts(given: str | Sequence[Any]) -> list[str]:
    """The items of a list, or of a text where commas separate them."""
    parts = given.split(",") if isinstance(given, str) else [str(part) for part in given]
    return [part.strip() for part in parts if part.strip()]


def check_least(options: Mapping[str, int | None]) -> None:
    """Refuse what is no whole number from 1 on, by the names of the options; a text may come from a command line.

    Raises:
        ValueError: naming the first one.
    """
    for name, number in options.items():
        if number is not None and not isinstance(number, int):
            raise ValueError(f"`{name}` should be a whole number, or null for none. Found {number!r}.")
        if number is not None and number < 1:
            raise ValueError(f"`{name}` should be at least 1. Found {number}.")


def probabilities(
    weights: str | float | Sequence[float] | None, names: Sequence[str], mixing: str
) -> list[float] | None:
    """How likely each domain is to be drawn (m,), above 0 and with sum 1 within 1e-6; None where nothing is given.

    Args:
        weights: numbers as a list or a text with commas, one alone as a number, or None.
        names: of the m domains.
        mixing: "together", which takes no weights, or "sampled".

    Raises:
        ValueError: if they are not that, or are given with "together".
    """
    if weights is None:
        return None
    parts = texts([weights] if isinstance(weights, int | float) else weights)
    if mixing == "together":
        raise ValueError(
            "`weights` should be left out with mixing='together', which draws nothing. Found "
            f'{weights!r}: `--methods "constant:weights=[{", ".join(parts)}]"` weighs the losses, and '
            "mixing='sampled' draws domains by weights."
        )
    expected = f"`weights` should be {len(names)} numbers above 0 with sum 1, for {', '.join(names)}."
    try:
        found = [float(part) for part in parts]
    except ValueError as error:
        raise ValueError(f"{expected} Found {weights!r}.") from error
    if len(found) != len(names):
        raise ValueError(f"{expected} Found {len(found)} numbers, {found}.")
    _check_simplex(found, names, expected)
    return found


def _check_simplex(found: Sequence[float], names: Sequence[str], expected: str) -> None:
    if not (abs(sum(found) - 1) <= _SUM_ERROR and min(found) >= 0):
        raise ValueError(
            f"{expected} Found {found}, which is outside the simplex: the least is {min(found):g} and the sum "
            f"{sum(found):.8g}."
        )
    if 0 in found:
        never = names[found.index(0)]
        raise ValueError(
            f"{expected} Found 0 for {never}, which would not be trained: leave it out of `domains`."
        )
