"""Task weights and groups over steps, thinned to what a figure can show."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from equipoise.benchmark.logs import Columns, read_steps

_BINS = 120


@dataclass(frozen=True)
class WeightHistory:
    """Weights of one run over steps.

    Args:
        steps: the first and the last logged step.
        shares: (m, bins) share of the weights times m, geometric mean of the steps of a bin; NaN where a weight
            is not positive.
        extreme: the factor by which 99 of 100 shares differ from the equal one at most.
        is_equal: whether all weights are equal at all steps.
    """

    steps: tuple[float, float]
    shares: list[list[float]]
    extreme: float
    is_equal: bool


@dataclass(frozen=True)
class GroupHistory:
    """Groups of one run over steps.

    Args:
        steps: the first and the last logged step.
        assignment: (m, bins) group number from 1, the most frequent of a bin.
        weights: (m, bins) weight of the task's group, geometric mean of a bin.
        count: the largest group number.
        moves: share of (task, logged step) pairs in which the task is in another group than at the logged step
            before; None for groups that never change.
    """

    steps: tuple[float, float]
    assignment: list[list[float]]
    weights: list[list[float]]
    count: int
    moves: float | None


def weight_history(directory: Path, run_id: str, tasks: Sequence[str]) -> WeightHistory | None:
    """The weights that a run has logged; None where it has none."""
    log = read_steps(directory, run_id)
    rows = _per_step(log, "weight", tasks)
    if not rows:
        return None
    shares = [_shares(row) for row in rows]
    binned = _binned([[_log(value) for value in row] for row in shares], _geometric)
    known = [abs(math.log(value)) for row in binned for value in row if math.isfinite(value)]
    return WeightHistory(
        steps=(log["step"][0], log["step"][-1]),
        shares=binned,
        extreme=math.exp(sorted(known)[99 * (len(known) - 1) // 100]) if known else 1.0,
        is_equal=all(math.isclose(value, 1.0, rel_tol=1e-4) for row in shares for value in row),
    )


def group_history(directory: Path, run_id: str, tasks: Sequence[str]) -> GroupHistory | None:
    """The groups that a run has logged; None where it has none."""
    log = read_steps(directory, run_id)
    raw = _per_step(log, "group", tasks)
    if not raw:
        return None
    weights = _per_step(log, "group_weight", tasks) or _per_step(log, "weight", tasks)
    fixed = all(row == raw[0] for row in raw)
    if fixed:
        weighed = [[fmean(column) for column in zip(*weights, strict=True)]] * len(raw)
    else:
        weighed = weights
    numbered = [_by_weight(row, size) for row, size in zip(raw, weighed, strict=True)]
    moves = [a != b for rows in itertools.pairwise(raw) for a, b in zip(*rows, strict=True)]
    return GroupHistory(
        steps=(log["step"][0], log["step"][-1]),
        assignment=_binned(numbered, _most_frequent),
        weights=_binned([[_log(value) for value in row] for row in weights], _geometric),
        count=int(max(max(row) for row in numbered)),
        moves=None if fixed else fmean(moves),
    )


def _per_step(log: Columns, kind: str, tasks: Sequence[str]) -> list[list[float]]:
    """(steps, m), or nothing where a column is absent or empty."""
    columns = [log.get(f"{kind}_{task}", []) for task in tasks]
    if not all(columns) or all(math.isnan(value) for column in columns for value in column):
        return []
    return [list(row) for row in zip(*columns, strict=True)]


def _shares(row: list[float]) -> list[float]:
    total = sum(value for value in row if math.isfinite(value))
    return [value / total * len(row) if total > 0 else math.nan for value in row]


def _by_weight(groups: list[float], weights: list[float]) -> list[float]:
    heaviest: dict[float, float] = {}
    for group, weight in zip(groups, weights, strict=True):
        heaviest[group] = max(heaviest.get(group, weight), weight)
    order = sorted(heaviest, key=lambda group: -heaviest[group])
    places = {group: place for place, group in enumerate(order, start=1)}
    return [float(places[group]) for group in groups]


def _binned(rows: list[list[float]], join: Callable[[list[float]], float]) -> list[list[float]]:
    """(steps, m) -> (m, bins) with at most `_BINS` bins of equal numbers of steps."""
    count = min(_BINS, len(rows))
    edges = [len(rows) * k // count for k in range(count + 1)]
    return [
        [join([rows[i][task] for i in range(a, b)]) for a, b in itertools.pairwise(edges)]
        for task in range(len(rows[0]))
    ]


def _geometric(logs: list[float]) -> float:
    known = [value for value in logs if math.isfinite(value)]
    return math.exp(fmean(known)) if known else math.nan


def _most_frequent(values: list[float]) -> float:
    return Counter(values).most_common(1)[0][0]


def _log(value: float) -> float:
    return math.log(value) if value > 0 else math.nan
