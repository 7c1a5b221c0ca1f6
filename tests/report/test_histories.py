"""Weights and groups over steps, thinned without changing what they say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from equipoise.report.histories import group_history, weight_history
from report.run_directory import write_csv

TASKS = ["a", "b", "c"]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    write_csv(path / "runs" / "r" / "steps.csv", [{"step": k, **row} for k, row in enumerate(rows, start=1)])
    return path


def weights(*values: float) -> dict[str, float]:
    return {f"weight_{task}": value for task, value in zip(TASKS, values, strict=True)}


def grouped(groups: tuple[int, ...], sizes: tuple[float, ...]) -> dict[str, float]:
    row: dict[str, float] = {f"group_{task}": group for task, group in zip(TASKS, groups, strict=True)}
    return row | {f"group_weight_{task}": size for task, size in zip(TASKS, sizes, strict=True)}


def test_weights_become_multiples_of_the_equal_share(tmp_path: Path) -> None:
    history = weight_history(write(tmp_path, [weights(2.0, 1.0, 1.0), weights(1.0, 1.0, 1.0)]), "r", TASKS)
    assert history is not None
    assert history.steps == (1, 2)
    assert [share for row in history.shares for share in row] == pytest.approx(
        [1.5, 1.0, 0.75, 1.0, 0.75, 1.0]
    )
    assert not history.is_equal


def test_equal_weights_are_told_whatever_their_scale(tmp_path: Path) -> None:
    history = weight_history(write(tmp_path, [weights(2, 2, 2), weights(5, 5, 5)]), "r", TASKS)
    assert history is not None
    assert history.is_equal
    assert history.extreme == pytest.approx(1.0)


def test_many_steps_are_averaged_in_bins(tmp_path: Path) -> None:
    rows = [weights(1.0, 4.0, 1.0) if step % 2 else weights(4.0, 1.0, 1.0) for step in range(480)]
    history = weight_history(write(tmp_path, rows), "r", TASKS)
    assert history is not None
    assert [len(row) for row in history.shares] == [120, 120, 120]
    assert history.shares[0] == pytest.approx([1.0] * 120)  # geometric mean of 1/2 and 2
    assert history.shares[2] == pytest.approx([0.5] * 120)


def test_weights_that_are_not_positive_have_no_colour(tmp_path: Path) -> None:
    history = weight_history(write(tmp_path, [weights(0.0, 1.0, -0.5), weights(-1.0, -1.0, 1.0)]), "r", TASKS)
    assert history is not None
    assert [[math.isnan(share) for share in row] for row in history.shares] == [
        [True, True],
        [False, True],
        [True, True],
    ]


def test_without_a_log_there_is_no_history(tmp_path: Path) -> None:
    assert weight_history(tmp_path, "r", TASKS) is None
    assert group_history(write(tmp_path, [weights(1, 1, 1)]), "r", TASKS) is None
    blank = [{f"weight_{task}": "" for task in TASKS}]
    assert weight_history(write(tmp_path, blank), "r", TASKS) is None


def test_changing_groups_are_numbered_by_weight_at_every_step(tmp_path: Path) -> None:
    rows = [grouped((0, 0, 1), (1.0, 1.0, 5.0)), grouped((0, 1, 1), (7.0, 2.0, 2.0))]
    history = group_history(write(tmp_path, rows), "r", TASKS)
    assert history is not None
    assert history.assignment == [[2, 1], [2, 2], [1, 2]]
    assert history.count == 2
    assert history.moves == pytest.approx(1 / 3)
    assert history.weights[2] == pytest.approx([5.0, 2.0])


def test_groups_that_never_change_keep_their_number(tmp_path: Path) -> None:
    rows = [grouped((3, 7, 7), (1.0, 5.0, 5.0)), grouped((3, 7, 7), (2.0, 1.0, 1.0))]
    history = group_history(write(tmp_path, rows), "r", TASKS)
    assert history is not None
    assert history.assignment == [[2, 2], [1, 1], [1, 1]]
    assert history.moves is None


def test_the_most_frequent_group_of_a_bin_is_drawn(tmp_path: Path) -> None:
    often, seldom = grouped((0, 0, 1), (1.0, 1.0, 5.0)), grouped((0, 1, 1), (1.0, 5.0, 5.0))
    history = group_history(write(tmp_path, [often, seldom, often] * 120), "r", TASKS)
    assert history is not None
    assert history.assignment == [[2] * 120, [2] * 120, [1] * 120]


def test_groups_without_their_weights_use_the_task_weights(tmp_path: Path) -> None:
    row = grouped((0, 0, 1), (0, 0, 0)) | weights(1.0, 1.0, 4.0)
    row = {name: value for name, value in row.items() if not name.startswith("group_weight")}
    history = group_history(write(tmp_path, [row]), "r", TASKS)
    assert history is not None
    assert history.assignment == [[2], [2], [1]]
