"""Cases that are run on two ranks, and compared with what a single process finds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import ranks
from rank_cases import Trained


def answers(function: Callable[..., Any], cases: Sequence[Any], where: Path) -> dict[str, list[Trained]]:
    """What each rank found in each case, all cases in one pair of processes."""
    found = ranks.run(function, 2, where, list(cases))
    return {str(case): [answer[i] for answer in found] for i, case in enumerate(cases)}


def assert_same(found: list[Trained], expected: Trained, tolerance: float) -> None:
    """The same parameters on both ranks, bit for bit, and those of one process; weights up to 1e3 tolerances."""
    (first, weights), (second, _) = found
    for name, value in expected[0].items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(
            first[name], value, rtol=tolerance, atol=tolerance * float(value.abs().max())
        )
    loose = 1e3 * tolerance
    torch.testing.assert_close(torch.stack(weights), torch.stack(expected[1]), rtol=loose, atol=loose)
