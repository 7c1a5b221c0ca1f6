"""Partitions of tasks: how far two of them agree, and how a run's groups move."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from equipoise.benchmark.logs import read_steps


def adjusted_rand_index(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """How far two partitions agree: 1 for the same groups, 0 on average for random ones of these sizes.

    With n_ij the items that are in group i of the first and j of the second, C(n) = n (n - 1) / 2, and the sums
    S = sum C(n_ij), A = sum_i C(n_i), B = sum_j C(n_j), E = A B / C(n):  (S - E) / ((A + B) / 2 - E). Two partitions
    that both have one group, or both have single items only, agree: 1.

    Reference: L. Hubert and P. Arabie, Comparing Partitions, Journal of Classification 2 (1985).

    Args:
        first: the group of each item (n,), by any names.
        second: likewise.

    Raises:
        ValueError: if they are not equally long, or empty.
    """
    if not first or len(first) != len(second):
        raise ValueError(
            f"`first` and `second` should be equally long. Found {len(first)} and {len(second)} items."
        )
    together = sum(map(_pairs, Counter(zip(first, second, strict=True)).values()))
    rows, columns = (sum(map(_pairs, Counter(groups).values())) for groups in (first, second))
    chance = rows * columns / max(_pairs(len(first)), 1)
    room = (rows + columns) / 2 - chance
    return (together - chance) / room if room else 1.0


def _pairs(count: int) -> float:
    return count * (count - 1) / 2


@dataclass(frozen=True)
class Groups:
    """How the groups of a run, or the mean of several, moved over its logged steps.

    Args:
        count: groups that are not empty, mean over the steps.
        switches: share of (task, step) pairs in which a task has another group number than at the logged step before.
        entropy: of the group numbers of a task over the steps, mean over the tasks, relative to log(groups): 0 where no
            task ever moves, 1 where each is in all groups equally often.
        agreement: `adjusted_rand_index` with the known groups, mean over the second half of the steps; None without.
    """

    count: float
    switches: float
    entropy: float
    agreement: float | None = None

    @classmethod
    def mean(cls, several: Sequence[Groups]) -> Groups:
        """The mean of at least one."""
        known = [one.agreement for one in several if one.agreement is not None]
        return cls(
            fmean(one.count for one in several),
            fmean(one.switches for one in several),
            fmean(one.entropy for one in several),
            fmean(known) if known else None,
        )


def logged_groups(directory: Path, run_id: str, tasks: Sequence[str]) -> list[tuple[int, ...]]:
    """The group of each task at every logged step of a run (steps, m); empty where it has logged none.

    Groups are numbered by rising mean of the indicator, unless they are given.
    """
    log = read_steps(directory, run_id)
    columns = [log.get(f"group_{task}", []) for task in tasks]
    if not all(columns):
        return []
    rows = zip(*columns, strict=True)
    return [tuple(int(value) for value in row) for row in rows if all(map(math.isfinite, row))]


def groups_of_run(history: Sequence[tuple[int, ...]], known: Sequence[int] | None) -> Groups | None:
    """How the groups of a run moved; None without any."""
    if not history:
        return None
    most = max(max(row) for row in history) + 1
    moves = [a != b for rows in itertools.pairwise(history) for a, b in zip(*rows, strict=True)]
    late = history[len(history) // 2 :]
    return Groups(
        count=fmean(len(set(row)) for row in history),
        switches=fmean(moves) if moves else 0.0,
        entropy=fmean(_entropy(task) for task in zip(*history, strict=True)) / math.log(max(most, 2)),
        agreement=None if known is None else fmean(adjusted_rand_index(row, known) for row in late),
    )


def most_frequent(history: Sequence[tuple[int, ...]]) -> tuple[int, ...] | None:
    """The partition that is most frequent in the second half of the steps, its groups numbered from 0; or None."""
    if not history:
        return None
    late = Counter(_numbered(row) for row in history[len(history) // 2 :])
    return late.most_common(1)[0][0]


def _numbered(row: Sequence[int]) -> tuple[int, ...]:
    """Groups without a gap in their numbers, in the order of the numbers that they have."""
    places = {group: place for place, group in enumerate(sorted(set(row)))}
    return tuple(places[group] for group in row)


def _entropy(values: Sequence[int]) -> float:
    shares = [count / len(values) for count in Counter(values).values()]
    return -sum(share * math.log(share) for share in shares)
