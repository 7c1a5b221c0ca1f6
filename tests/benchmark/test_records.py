"""Plans and records go to disk and back, whatever a kill leaves behind."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from equipoise.benchmark.records import (
    Record,
    RunDirectoryError,
    append_record,
    read_plan,
    read_records,
    write_atomically,
    write_plan,
)
from report.run_directory import Shape, make_plan, make_record, qm9_tasks


@pytest.fixture
def record() -> Record:
    return make_record("ls", {"test": {"mu": 0.1}, "validation": {"mu": 0.2}, "trivial": {"mu": 1.0}})


def test_records_come_back_as_they_were(tmp_path: Path, record: Record) -> None:
    other = dataclasses.replace(
        record, run_id="b", status="failed", error='two\nlines "ü"', peak_memory_mb=None, metrics={}
    )
    append_record(tmp_path, record)
    append_record(tmp_path, other)
    assert read_records(tmp_path) == [record, other]
    assert (tmp_path / "records.jsonl").read_text().count("\n") == 2


def test_no_records_is_an_empty_list(tmp_path: Path) -> None:
    assert read_records(tmp_path) == []


def test_numbers_that_are_not_finite_are_strict_json(record: Record) -> None:
    broken = dataclasses.replace(record, metrics={"test": {"mu": math.nan}}, validation_score=math.inf)
    text = broken.to_json()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    back = Record.from_json(text)
    assert math.isnan(back.metrics["test"]["mu"])
    assert math.isnan(back.validation_score)


@pytest.mark.parametrize("torn", [b'{"run_id": "c", "pro', "ü".encode()[:1], b"\x00"])
def test_a_torn_last_line_is_ignored_and_then_cut(tmp_path: Path, record: Record, torn: bytes) -> None:
    append_record(tmp_path, record)
    path = tmp_path / "records.jsonl"
    path.write_bytes(path.read_bytes() + torn)
    assert read_records(tmp_path) == [record]
    second = dataclasses.replace(record, run_id="b")
    append_record(tmp_path, second)
    assert read_records(tmp_path) == [record, second]
    assert torn not in path.read_bytes()


def test_a_torn_first_line_is_cut_too(tmp_path: Path, record: Record) -> None:
    (tmp_path / "records.jsonl").write_bytes(b'{"run')
    assert read_records(tmp_path) == []
    append_record(tmp_path, record)
    assert read_records(tmp_path) == [record]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{not json", "Expecting property name"),
        (b"[1]", "It should be a JSON object. Found list."),
        (b'{"run_id": "a"}', "It should have the fields of a record. Found no problem, preset, method"),
    ],
)
def test_another_bad_line_is_named(tmp_path: Path, record: Record, line: bytes, reason: str) -> None:
    append_record(tmp_path, record)
    path = tmp_path / "records.jsonl"
    path.write_bytes(path.read_bytes() + line + b"\n")
    append_record(tmp_path, record)
    with pytest.raises(RunDirectoryError, match=f"line 2, should be a record; .*{reason}"):
        read_records(tmp_path)


def test_fields_of_a_later_version_are_ignored(record: Record) -> None:
    raw = json.loads(record.to_json()) | {"energy": 3}
    assert Record.from_json(json.dumps(raw)) == record


def test_plans_come_back_as_they_were(tmp_path: Path) -> None:
    plan = make_plan(Shape(lrs=(1e-3, 5e-4)), qm9_tasks())
    write_plan(tmp_path / "new", plan)
    assert read_plan(tmp_path / "new") == plan
    assert [metric.name for metric in plan.metrics][:2] == ["mu", "alpha"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 3}, "`format` should be from 1 to 2. Found 3: a newer version of equipoise wrote it"),
        ({"format": "new"}, "`format` should be from 1 to 2. Found new"),
        ({"tasks": [{"name": "mu"}]}, "'metrics'"),
        ({"tasks": [{"name": "mu", "metrics": [{"name": "mu"}]}]}, "missing 2 required"),
    ],
)
def test_a_bad_plan_is_refused(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    raw = json.loads(make_plan(Shape(), qm9_tasks()).to_json()) | change
    (tmp_path / "plan.json").write_text(json.dumps(raw))
    with pytest.raises(RunDirectoryError, match=f"should be a plan that `equipoise bench` wrote. .*{reason}"):
        read_plan(tmp_path)


def test_a_plan_without_a_field_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"format": 1, "problem": "qm9"}')
    with pytest.raises(
        RunDirectoryError, match="It should have the fields of a plan. Found no preset, methods"
    ):
        read_plan(tmp_path)


def test_a_directory_without_a_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="should be a run directory.* Found no plan.json."):
        read_plan(tmp_path)


def test_writing_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.md"
    write_atomically(path, "old")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["table.md"]


def test_bytes_and_text_are_written(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"\x00\xff")
    write_atomically(tmp_path / "b", "Δm")
    assert (tmp_path / "a").read_bytes() == b"\x00\xff"
    assert (tmp_path / "b").read_text(encoding="utf-8") == "Δm"
