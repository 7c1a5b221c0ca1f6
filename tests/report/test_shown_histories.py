"""What figures of weights and groups show: which methods, in which order of the tasks."""

from __future__ import annotations

import csv
from pathlib import Path

from equipoise.benchmark.statistics import summarise
from equipoise.report.grouping import MANY
from equipoise.report.shown_histories import shown_groups, shown_weights
from report.run_directory import Shape, many_tasks, write_run_directory

COUNT = MANY + 2
SHAPE = Shape(methods=("ls", "uw", "go4align"), seeds=1, epochs=2, steps=4, problem="toy")


def prepared(directory: Path, count: int) -> Path:
    """A run directory in which uw weighs the k-th task by 1 + k, and go4align has it in group 1 if k is odd, else 2."""
    write_run_directory(directory, SHAPE, many_tasks(count))
    names = [task.name for task in many_tasks(count)]
    for path in (directory / "runs").glob("*/steps.csv"):
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            for k, name in enumerate(names):
                row[f"weight_{name}"] = "1" if path.parent.name.startswith("ls") else str(1 + k)
                if path.parent.name.startswith("go4align"):
                    row[f"group_{name}"], row[f"group_weight_{name}"] = str(1 + k % 2), str(2 - k % 2)
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return directory


def test_few_tasks_are_in_the_order_of_the_plan(tmp_path: Path) -> None:
    summary = summarise(prepared(tmp_path, 3))
    weights, groups = shown_weights(summary, tmp_path), shown_groups(summary, tmp_path)
    assert weights is not None and groups is not None
    assert (
        set(weights.methods) == {"uw", "go4align"}
        and "all weights are equal at all steps: ls" in weights.caption
    )
    assert weights.tasks == groups.tasks == [task.name for task in summary.plan.tasks]
    assert list(groups.methods) == ["go4align"] and groups.ordered == groups.methods and groups.order == ""


def test_many_tasks_are_in_the_order_of_their_weights_and_groups(tmp_path: Path) -> None:
    summary = summarise(prepared(tmp_path, COUNT))
    weights, groups = shown_weights(summary, tmp_path), shown_groups(summary, tmp_path)
    assert weights is not None and groups is not None
    assert weights.tasks == [task.name for task in reversed(summary.plan.tasks)]
    firsts = [row[0] for row in weights.methods["uw"].shares]
    assert firsts == sorted(firsts, reverse=True) and firsts[0] > 1 > firsts[-1]
    drawn = [row[0] for row in groups.ordered["go4align"].assignment]
    assert drawn == sorted(drawn) and {*drawn} == {1, 2}
    sizes = [row[0] for row in groups.ordered["go4align"].weights]
    assert sizes == sorted(sizes, reverse=True)
    assert [row[0] for row in groups.methods["go4align"].assignment][:4] == [1, 2, 1, 2]
    assert f"The {COUNT} tasks" in groups.order
