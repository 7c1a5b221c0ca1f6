"""The table of passes: counts of a step, multiples of `ls`, and the single-task networks as a row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from equipoise.benchmark.records import append_record, read_records
from equipoise.benchmark.statistics import summarise
from equipoise.benchmark.summary import Summary
from equipoise.report.cells import Table
from equipoise.report.costs import cost_table
from equipoise.report.provenance import provenance
from equipoise.report.ranking import ranking_table
from equipoise.training.task import Metric, Task
from report.run_directory import Shape, write_run_directory
from shown import go, toy_plan

TASKS = (Task("mu", (Metric("mu", False, "D"),)), Task("cv", (Metric("cv", False, "cal"),)))
PASSES = {"ls": (1, 1), "nashmtl": (1, 2)}


def counted(where: Path) -> Summary:
    """A made-up directory whose runs have counted their passes."""
    write_run_directory(where, Shape(methods=("ls", "nashmtl"), seeds=2, epochs=2, steps=10), TASKS)
    lines = read_records(where)
    (where / "records.jsonl").unlink()
    for line in lines:
        forwards, backwards = PASSES.get(line.method, (1, 1))
        append_record(where, replace(line, forwards=10 * forwards, backwards=10 * backwards, seconds=2.0))
    return summarise(where)


def cells(table: Table, row: str) -> dict[str, str]:
    (found,) = (line for line in table.rows if line[0].text == row)
    return dict(zip(table.header, (cell.text for cell in found), strict=True))


def test_passes_are_shown_per_step_and_as_multiples_of_ls(tmp_path: Path) -> None:
    table = cost_table(counted(tmp_path))
    nash = cells(table, "nashmtl")
    assert (nash["forwards / step"], nash["backwards / step"]) == ("1.00", "2.00")
    assert nash["passes / ls"] == "1.67"  # (1 + 2 x 2) / (1 + 2)
    assert nash["setting"] == "lr 0.001"
    assert cells(table, "ls")["passes / ls"] == "1.00"
    assert "All rows are at equal epochs" in " ".join(table.notes)


def test_single_task_networks_cost_m_times_the_parameters_passes_and_time(tmp_path: Path) -> None:
    single = cells(cost_table(counted(tmp_path)), "2 single-task networks")
    assert [single[f"{what} / ls"] for what in ("passes", "time", "parameters")] == ["2.00", "2.00", "2.00"]


def test_the_share_of_a_domain_is_explained_where_a_run_has_one(tmp_path: Path) -> None:
    assert "one domain" not in " ".join(cost_table(counted(tmp_path)).notes)
    lines = read_records(tmp_path)
    (tmp_path / "records.jsonl").unlink()
    for line in lines:
        part = 1.0 if line.method in PASSES else 0.25  # single-task runs on a quarter of a joint batch
        append_record(tmp_path, replace(line, forwards=10 * part, backwards=10 * part))
    assert "one domain alone counts by its share" in " ".join(cost_table(summarise(tmp_path)).notes)


def test_what_was_not_counted_is_no_number(tmp_path: Path) -> None:
    write_run_directory(tmp_path, Shape(methods=("ls", "nashmtl"), seeds=1, epochs=2, steps=10), TASKS)
    summary = summarise(tmp_path)
    found = cells(cost_table(summary), "nashmtl")
    assert (found["forwards / step"], found["passes / ls"]) == ("–", "–")
    assert "forwards / step" not in ranking_table(summary).header


def test_the_ranking_has_the_passes_and_the_page_the_trials(tmp_path: Path) -> None:
    settings = {"epochs": 2, "optimizer": "sgd", "momentum": 0.9, "update_norm": 1.0}
    made = toy_plan(budget=2, compute=True, methods=("ls", "nashmtl"), baselines="none", settings=settings)
    made = replace(made, methods=("ls", "nashmtl", "nashmtl@compute"))
    go(made, tmp_path)
    summary = summarise(tmp_path)
    ranking = ranking_table(summary)
    assert cells(ranking, "nashmtl@compute")["backwards / step"] == "2.00"
    assert cells(ranking, "ls")["forwards / step"] == "1.00"
    assert "Rows that end in @compute" in " ".join(cost_table(summary).notes)
    assert (
        "2 of each row, single-task networks included, on the first seed and without the test part"
        in provenance(summary)
    )
    assert "sgd, momentum 0.9, steps of length 1 lr" in provenance(summary)
