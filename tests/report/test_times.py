"""Where the time goes, and step times relative to equal weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from equipoise.benchmark.records import append_record, write_plan
from equipoise.benchmark.statistics import summarise
from equipoise.benchmark.summary import Summary
from equipoise.report.tables import published_table, ranking_table
from equipoise.report.times import time_table, times, waiting_sentences
from equipoise.training.task import Metric, Task
from report.run_directory import Shape, make_plan, make_record

TASKS = (Task("mu", (Metric("mu", False, "D"),)),)
# seconds, of these waiting, evaluation, seconds a step; two seeds each
MEASURED = {
    "famo": [(20.0, 1.0, 3.0, 0.2), (40.0, 1.0, 5.0, 0.4)],
    "ls": [(20.0, 4.0, 2.0, 0.1), (20.0, 2.0, 2.0, 0.1)],
}


def summary(tmp_path: Path, **changes: float | None) -> Summary:
    write_plan(tmp_path, make_plan(Shape(methods=tuple(MEASURED), seeds=2, baselines="none"), TASKS))
    for method, runs in MEASURED.items():
        for seed, (seconds, waiting, evaluation, each) in enumerate(runs):
            record = make_record(method, {"test": {"mu": 1.0}}, seed=seed)
            values: dict[str, Any] = {"data_seconds": waiting, "evaluation_seconds": evaluation, **changes}
            append_record(
                tmp_path, dataclasses.replace(record, seconds=seconds, seconds_per_step=each, **values)
            )
    return summarise(tmp_path)


def test_times_are_means_over_the_seeds(tmp_path: Path) -> None:
    famo, ls = times(summary(tmp_path))
    assert (famo.steps, famo.waiting, famo.computing, famo.evaluation) == (30.0, 1.0, 29.0, 4.0)
    assert famo.waiting_share == pytest.approx(1 / 30)
    assert ls.waiting_share == pytest.approx(3 / 20)
    assert famo.relative is not None
    assert famo.relative.mean == pytest.approx(3.0)
    assert famo.relative.std == pytest.approx(0.2 / 2**0.5 / 0.1)
    assert (famo.published, ls.published) == (1.13, 1.0)


def test_the_table_says_what_waits(tmp_path: Path) -> None:
    table = time_table(summary(tmp_path))
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["famo", "30.0", "29.0", "1.0", "3.3", "4.0"],
        ["ls", "20.0", "17.0", "3.0", "15.0", "2.0"],
    ]
    assert table.notes[-1] == "More than 5 % of the step time goes into waiting for batches: ls (15.0 %)."


def test_short_waits_are_said_too_and_unknown_ones_are_not(tmp_path: Path) -> None:
    short = summary(tmp_path / "short", data_seconds=0.5)
    assert waiting_sentences(short) == ["No method waits for its batches for more than 5 % of its step time."]
    unknown = summary(tmp_path / "unknown", data_seconds=None)
    assert waiting_sentences(unknown) == []
    assert [cell.text for cell in time_table(unknown).rows[0]] == ["famo", "30.0", "–", "–", "–", "4.0"]


def test_relative_times_stand_beside_the_published_ones(tmp_path: Path) -> None:
    found = summary(tmp_path)
    ranking = ranking_table(found)
    place = ranking.header.index("step time / ls")
    assert [row[place].text for row in ranking.rows] == ["3.00 ± 1.41", "1.00 ± 0.00"]
    table = published_table(found)
    assert table is not None
    assert table.header[-2:] == ("time / ls here", "time / ls published")
    assert [cell.text for cell in table.rows[0]][-2:] == ["3.00 ± 1.41", "1.13"]
    assert any("one A100" in note and "rough" in note for note in table.notes)


def test_without_equal_weights_nothing_is_relative(tmp_path: Path) -> None:
    whole = summary(tmp_path)
    alone = dataclasses.replace(whole, methods=whole.methods[:1])
    assert [entry.relative for entry in times(alone)] == [None]
    assert not any("ls" in name for name in ranking_table(alone).header)
