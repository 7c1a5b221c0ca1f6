"""What the tables print, and that LaTeX and Markdown stay well-formed."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

import pytest

from equipoise.benchmark.records import append_record, write_plan
from equipoise.benchmark.statistics import summarise
from equipoise.benchmark.summary import Baseline, Spread, Summary
from equipoise.report.tables import Cell, Table, latex, markdown, metric_table, published_table, ranking_table
from equipoise.report.wording import decimals_for, listed, number, short_labels, with_spread
from equipoise.training.task import Metric, Task
from report.run_directory import Shape, make_plan, make_record, write_run_directory

TASKS = (Task("a", (Metric("a_x", False, "meV"),)), Task("b", (Metric("b", True, "%"),)))


@pytest.fixture
def summary(tmp_path: Path) -> Summary:
    write_plan(tmp_path, make_plan(Shape(methods=("ls", "go4align:groups=2"), seeds=2), TASKS))
    trivial = {"a_x": 10.0, "b": 1.0}
    values = {
        "ls": [(4.0, 1.1), (6.0, 1.1)],
        "go4align:groups=2": [(2.0, 50.0), (2.0, 50.0)],
        "stl:task=a": [(4.0, 0.0)],
        "stl:task=b": [(0.0, 40.0)],
    }
    for method, rows in values.items():
        task = method.partition("task=")[2] or None
        for seed, (a, b) in enumerate(rows):
            test = {"a_x": a, "b": b} if task is None else {"a": {"a_x": a}, "b": {"b": b}}[task]
            append_record(
                tmp_path, make_record(method, {"test": test, "trivial": trivial}, seed=seed, task=task)
            )
    return summarise(tmp_path)


def texts(table: Table) -> list[list[str]]:
    return [[cell.marked for cell in row] for row in table.rows]


def test_metrics_are_rows_with_the_best_marked(summary: Summary) -> None:
    table = metric_table(summary)
    assert table.header == ("metric", "single-task", "go4align", "ls")
    assert texts(table) == [
        ["a_x (meV) ↓", "4.00 ± –", "2.00 ± 0.00", "5.00 ± 1.41"],
        ["b (%) ↑", "40.00 ± –", "50.00 ± 0.00", "1.10 ± 0.00 †"],
    ]
    assert [[cell.best for cell in row] for row in table.rows] == [[False, False, True, False]] * 2
    assert any("not learnt" in note for note in table.notes)


def test_the_best_of_a_higher_is_better_metric_is_the_highest(summary: Summary) -> None:
    methods = tuple(dataclasses.replace(row, not_learnt=frozenset()) for row in summary.methods)
    assert [cell.best for cell in metric_table(dataclasses.replace(summary, methods=methods)).rows[1]] == [
        False,
        False,
        True,
        False,
    ]


def test_what_was_not_learnt_is_not_best(summary: Summary) -> None:
    methods = tuple(dataclasses.replace(row, not_learnt=frozenset({"b"})) for row in summary.methods)
    table = metric_table(dataclasses.replace(summary, methods=methods))
    assert not any(cell.best for cell in table.rows[1])


def test_methods_are_ranked_by_delta_m(summary: Summary) -> None:
    table = ranking_table(summary)
    rows = [dict(zip(table.header, row, strict=True)) for row in texts(table)]
    assert [row["method"] for row in rows] == ["go4align:groups=2", "ls"]
    assert rows[0]["Δm % ↓"] == "−37.5"
    assert rows[1]["Δm % ↓"] == "+61.1"
    assert "No interval for all methods: one seed of the single-task run of a and 1 more." in table.notes
    assert rows[1]["not learnt"] == "1"
    assert rows[0]["mean rank ↓"] == "1.00"
    assert rows[0]["Δm − ls (points) ↓"].startswith("−98.6 [−2")
    assert (rows[0]["p (Holm)"], rows[0]["than ls"]) == ("0.08", "tie")
    assert (rows[1]["p (Holm)"], rows[1]["than ls"]) == ("–", "–")
    assert rows[0]["P(better than ls) ↑"] == "1.00"
    assert rows[0]["convergence difference (epochs) ↓"] == "–"
    assert table.rows[0][1].best
    assert not table.rows[1][1].best


def test_the_notes_say_how_ls_was_tuned(summary: Summary) -> None:
    def said(summary: Summary) -> str:
        return " ".join(ranking_table(summary).notes)

    assert "ls was not tuned: every row has one setting." in said(summary)
    plan = dataclasses.replace(summary.plan, lrs=(1e-3, 5e-4))
    assert "ls is tuned: chosen among 2 settings" in said(dataclasses.replace(summary, plan=plan))
    fair = dataclasses.replace(summary.plan, budget=8)
    assert "ls is tuned: chosen among 8 settings" in said(dataclasses.replace(summary, plan=fair))


def test_methods_that_failed_or_lost_a_seed_keep_their_place(tmp_path: Path) -> None:
    plan = make_plan(Shape(methods=("ls", "uw", "famo"), seeds=2, baselines="none"), TASKS)
    write_plan(tmp_path, plan)
    good = [make_record("ls", {"test": {"a_x": 4.0 + seed, "b": 1.0}}, seed=seed) for seed in (0, 1)]
    good.append(make_record("uw", {"test": {"a_x": 3.0, "b": 1.0}}))
    error = "DivergedError: the loss of a is nan\nTraceback"
    bad = [
        dataclasses.replace(make_record(method, {}, seed=seed), status="failed", error=error)
        for method, seed in (("uw", 1), ("famo", 0), ("famo", 1))
    ]
    for record in good + bad:
        append_record(tmp_path, record)
    found = summarise(tmp_path)
    ranking, metrics = ranking_table(found), metric_table(found)
    rows = {row[0]: dict(zip(ranking.header, row, strict=True)) for row in texts(ranking)}
    assert list(rows)[-1] == "famo"
    assert texts(ranking)[-1][1] == "failed on all seeds"
    assert set(texts(ranking)[-1][2:]) == {"–"}
    assert (rows["ls"]["seeds"], rows["uw"]["seeds"]) == ("2", "1 of 2")
    assert "famo failed on all seeds: DivergedError: the loss of a is nan" in ranking.notes
    assert any(
        "the numbers of uw are of fewer seeds, which may flatter them" in note for note in ranking.notes
    )
    assert metrics.header[-1] == "famo"
    assert [row[-1] for row in texts(metrics)] == ["failed", "failed"]


def test_a_missing_baseline_is_said_under_the_table(summary: Summary) -> None:
    baseline = dataclasses.replace(summary.baseline, missing="no finished single-task run of b")
    methods = tuple(dataclasses.replace(row, delta_m=None) for row in summary.methods)
    table = ranking_table(dataclasses.replace(summary, baseline=baseline, methods=methods))
    assert [row[1] for row in table.rows] == [Cell("–"), Cell("–")]
    assert "Δm is missing: no finished single-task run of b." in table.notes[0]


def test_without_baselines_there_is_no_column_of_delta_m(summary: Summary) -> None:
    baseline = Baseline("none", {}, frozenset(), "single-task networks were not asked for")
    methods = tuple(dataclasses.replace(row, delta_m=None) for row in summary.methods)
    found = dataclasses.replace(summary, baseline=baseline, methods=methods)
    table = ranking_table(found)
    assert table.header[:2] == ("method", "mean rank ↓")
    assert table.title == "qm9, preset quick: methods by mean rank"
    assert table.notes[0].startswith("There is no Δm: single-task networks were not asked for.")
    whole, without = metric_table(summary), metric_table(found)
    assert without.header == ("metric", *whole.header[2:])
    assert {len(row) for row in without.rows} == {len(whole.header) - 1}


def test_what_delta_m_leaves_out_is_said_under_the_table(summary: Summary) -> None:
    baseline = dataclasses.replace(summary.baseline, left_out=("b",))
    note = ranking_table(dataclasses.replace(summary, baseline=baseline)).notes[0]
    assert note.endswith(
        "Δm leaves out 1 of 2 metrics, whose single-task value is not above 0 on every seed: b."
    )


def test_the_title_says_which_epochs_were_measured(summary: Summary) -> None:
    assert metric_table(summary).title == "Test metrics at the selected epoch"
    config = {**summary.plan.config, "train": {"report": "last", "last_epochs": 10}}
    last = dataclasses.replace(summary, plan=dataclasses.replace(summary.plan, config=config))
    assert metric_table(last).title == "Test metrics as the mean of the last 10 epochs"


def test_published_numbers_are_labelled_as_another_budget(tmp_path: Path) -> None:
    write_run_directory(
        tmp_path, Shape(methods=("ls", "nashmtl+grouped:groups=2"), seeds=1, epochs=2, steps=2)
    )
    table = published_table(summarise(tmp_path))
    assert table is not None
    assert [row[0].text for row in table.rows] == ["ls"]
    assert [cell.text for cell in table.rows[0]][2::2] == ["+177.6", "8.00", "1.00"]
    assert "300 epochs on all of QM9" in table.notes[0]
    assert "Another budget" in table.notes[0]


def test_a_published_row_that_is_printed_wrong_is_named(summary: Summary) -> None:
    plan = dataclasses.replace(summary.plan, problem="cityscapes")
    table = published_table(dataclasses.replace(summary, plan=plan))
    assert table is not None
    assert table.notes[-1].startswith(
        "Printed wrong: the published row of LS repeats that of SI. It should have a Δm of +22.6 %"
    )


def test_markdown_is_a_table(summary: Summary) -> None:
    lines = markdown(metric_table(summary)).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert rows[1] == "| --- | ---: | ---: | ---: |"
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {5}
    assert rows[2] == "| a_x (meV) ↓ | 4.00 ± – | **2.00 ± 0.00** | 5.00 ± 1.41 |"


def test_markdown_escapes_what_would_end_a_cell() -> None:
    table = Table("t", "T", ("a", "b"), ((Cell("x|y"), Cell("1")),), ())
    assert r"| x\|y | 1 |" in markdown(table)


def test_latex_is_balanced_and_escaped(summary: Summary) -> None:
    text = latex(metric_table(summary))
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert text.count(rule) == 1
    assert r"a\_x (meV) $\downarrow$ & 4.00 $\pm$ -- & \textbf{2.00 $\pm$ 0.00} & 5.00 $\pm$ 1.41 \\" in text
    assert r"1.10 $\pm$ 0.00 $^\dagger$ \\" in text
    assert text.isascii()
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", text):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0


def test_numbers_are_written_with_care() -> None:
    assert number(-1.25, 1) == "−1.2"
    assert number(3.0, 0, sign=True) == "+3"
    assert number(None) == "–"
    assert number(math.nan, 2) == "not finite"
    assert with_spread(Spread(1.0, None, 1), 2) == "1.00 ± –"
    assert with_spread(Spread(math.nan, None, 2), 2) == "not finite"
    assert with_spread(None, 2) == "–"


def test_decimals_follow_the_smallest_number() -> None:
    assert decimals_for([0.0671, 0.2]) == 4
    assert decimals_for([126.8, 1500.0]) == 0
    assert decimals_for([12.68, 0.0, math.nan]) == 1
    assert decimals_for([226.0, 150.0], [4.0, 0.4, None]) == 1
    assert decimals_for([]) == 0


def test_labels_are_short_where_that_is_clear() -> None:
    labels = ("go4align:groups=2", "go4align:groups=5", "cagrad:c=0.4", "nashmtl+grouped:groups=2")
    assert list(short_labels(labels).values()) == [
        "go4align:groups=2",
        "go4align:groups=5",
        "cagrad",
        "nashmtl+grouped",
    ]


def test_long_lists_are_counted() -> None:
    assert listed([]) == "none"
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(["a", "b", "c", "d"], limit=2) == "a, b and 2 more"
