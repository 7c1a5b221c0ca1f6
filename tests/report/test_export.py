"""Every number of a run directory is in one file."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from equipoise.benchmark.records import append_record, write_plan
from equipoise.benchmark.statistics import summarise
from equipoise.report.export import evidence_json, metrics_csv
from equipoise.training.task import Metric, Task
from report.run_directory import Shape, make_plan, make_record

TASKS = (Task("a", (Metric("a, mae", False, "K"),)), Task("b", (Metric("b r2", True, ""),)))


def rows(tmp_path: Path, stl_b: float) -> list[dict[str, str]]:
    write_plan(tmp_path, make_plan(Shape(methods=("ls",), seeds=2, problem="toy"), TASKS))
    parts = {"validation": {"a, mae": 9.0}, "trivial": {"a, mae": 5.0, "b r2": -0.1}}
    for seed, value in enumerate((3.0, 5.0)):
        append_record(
            tmp_path, make_record("ls", {"test": {"a, mae": value, "b r2": 0.6}, **parts}, seed=seed)
        )
    append_record(tmp_path, make_record("stl:task=a", {"test": {"a, mae": 4.0}, **parts}, task="a"))
    append_record(tmp_path, make_record("stl:task=b", {"test": {"b r2": stl_b}}, task="b"))
    return list(csv.DictReader(io.StringIO(metrics_csv(summarise(tmp_path)))))


def test_a_line_per_metric_method_and_seed(tmp_path: Path) -> None:
    found = rows(tmp_path, 0.5)
    assert [(row["metric"], row["method"], row["seed"]) for row in found] == [
        ("a, mae", "ls", "0"),
        ("b r2", "ls", "0"),
        ("a, mae", "ls", "1"),
        ("b r2", "ls", "1"),
        ("a, mae", "stl:task=a", "0"),
        ("b r2", "stl:task=b", "0"),
    ]
    assert found[2] == {
        "task": "a",
        "metric": "a, mae",
        "unit": "K",
        "higher_is_better": "false",
        "method": "ls",
        "lr": "0.001",
        "seed": "1",
        "test": "5",
        "validation": "9",
        "trivial": "5",
        "single_task": "4",
        "change_percent": "25",
        "not_learnt": "false",
    }
    assert float(found[1]["change_percent"]) == pytest.approx(-20.0)
    assert found[1]["validation"] == ""


def test_what_nothing_is_relative_to_has_no_change(tmp_path: Path) -> None:
    found = rows(tmp_path, -0.5)
    assert [(row["single_task"], row["change_percent"]) for row in found if row["task"] == "b"] == [
        ("-0.5", "")
    ] * 3
    assert found[5]["test"] == "-0.5"


def test_all_estimates_are_in_one_file_of_strict_json(tmp_path: Path) -> None:
    rows(tmp_path, -0.5)
    found = json.loads(evidence_json(summarise(tmp_path)), parse_constant=lambda text: pytest.fail(text))
    assert (found["problem"], found["reference"], found["level"]) == ("toy", "ls", 0.95)
    assert found["indistinct"] == {"ls": []}
    ls = found["methods"]["ls"]
    assert ls["delta_m"]["mean"] == pytest.approx(0.0)
    assert ls["delta_m"]["why"] == "one seed of the single-task run of a"
    assert list(ls["changes"]) == ["a, mae"]
    assert ls["against"] is None
