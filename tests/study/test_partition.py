"""Partitions of tasks: the adjusted Rand index against scikit-learn, and how groups move over a run."""

from __future__ import annotations

import csv
import math
import random
from pathlib import Path

import pytest
from sklearn.metrics import adjusted_rand_score

from equipoise.study.elbow import elbow
from equipoise.study.partition import (
    Groups,
    adjusted_rand_index,
    groups_of_run,
    logged_groups,
    most_frequent,
)


@pytest.mark.parametrize("seed", range(40))
def test_the_adjusted_rand_index_is_that_of_scikit_learn(seed: int) -> None:
    stream = random.Random(seed)
    count, groups = stream.randint(2, 40), stream.randint(1, 6)
    first, second = ([stream.randrange(groups) for _ in range(count)] for _ in range(2))
    assert adjusted_rand_index(first, second) == pytest.approx(adjusted_rand_score(first, second), abs=1e-12)
    assert adjusted_rand_index(first, first) == pytest.approx(1.0)


def test_names_of_groups_do_not_matter_and_lengths_do() -> None:
    assert adjusted_rand_index([0, 0, 1, 2], ["b", "b", "c", "a"]) == 1.0
    assert adjusted_rand_index([0], [3]) == adjusted_rand_score([0], [3]) == 1.0
    with pytest.raises(ValueError, match="should be equally long. Found 2 and 1 items"):
        adjusted_rand_index([0, 1], [0])
    with pytest.raises(ValueError, match="Found 0 and 0 items"):
        adjusted_rand_index([], [])


def test_switches_and_entropy_of_a_run_that_is_counted_by_hand() -> None:
    """One task of four is in both groups equally often, and moves at two of three steps."""
    history = [(0, 0, 1, 1), (0, 1, 1, 1), (0, 1, 1, 1), (0, 0, 1, 1)]
    found = groups_of_run(history, known=(0, 0, 1, 1))
    assert found is not None
    assert (found.count, found.switches) == (2.0, 2 / 12)
    assert found.entropy == pytest.approx(1 / 4)
    late = [adjusted_rand_score((0, 0, 1, 1), row) for row in history[2:]]
    assert found.agreement == pytest.approx(sum(late) / 2)
    assert groups_of_run([], None) is None
    still = groups_of_run([(0, 1)], None)
    assert still == Groups(2.0, 0.0, 0.0, None)
    assert Groups.mean([found, still]) == Groups(2.0, 1 / 12, 1 / 8, found.agreement)


def test_the_most_frequent_partition_is_of_the_second_half_and_has_no_empty_group() -> None:
    early, late = (0, 1, 2, 0), (0, 2, 2, 3)
    assert most_frequent([early, early, early, late, late, early]) == (0, 1, 1, 2)
    assert most_frequent([]) is None


def test_groups_are_read_from_the_log_of_a_run(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "one"
    folder.mkdir(parents=True)
    with open(folder / "steps.csv", "w", newline="") as file:
        csv.writer(file).writerows([["step", "group_a", "group_b"], [1, 0, 1], [2, "", ""], [3, 1, 1]])
    assert logged_groups(tmp_path, "one", ["a", "b"]) == [(0, 1), (1, 1)]
    assert logged_groups(tmp_path, "one", ["a", "c"]) == logged_groups(tmp_path, "two", ["a"]) == []


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        ([10.0, 2.0, 1.5, 1.0], 2),  # falls, then is flat
        ([4.0, 3.0, 2.0, 1.0], 4),  # a line bends nowhere
        ([1.0, 3.0, 5.0, 2.0], 1),  # above its line: the lowest point
        ([2.0, 2.0, 2.0, 2.0], 1),
    ],
)
def test_the_elbow_is_farthest_below_the_line_between_the_ends(y: list[float], expected: int) -> None:
    assert elbow([1, 2, 3, 4], y) == expected
    assert elbow([1, 2, 3, 4], [1000 * value for value in y]) == expected


def test_an_elbow_needs_two_points() -> None:
    with pytest.raises(ValueError, match="at least 2. Found 1 and 1"):
        elbow([1], [math.pi])
