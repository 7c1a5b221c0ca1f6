"""Many metrics are put together by kind, and shown by few numbers that say what they are."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from equipoise.benchmark.records import append_record, write_plan
from equipoise.benchmark.statistics import summarise
from equipoise.benchmark.summary import Spread
from equipoise.report.build import write_report
from equipoise.report.cells import Table
from equipoise.report.grouping import (
    baseline_statistics,
    has_many,
    kinds,
    method_statistics,
    quantile,
    statistics_of,
)
from equipoise.report.plots_changes import shown_metrics
from equipoise.report.tables import metric_table
from equipoise.training.task import Metric, Task
from report.made_up import assays, chemicals
from report.run_directory import Shape, make_plan, make_record, write_csv, write_run_directory


def test_quantiles_are_those_of_torch() -> None:
    values = torch.rand(57, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for share in (0.0, 0.05, 0.37, 0.5, 0.95, 1.0):
        assert quantile(values.tolist(), share) == pytest.approx(float(values.quantile(share)))
    assert quantile([3.0], 0.4) == 3.0
    assert quantile([1.0, math.inf, math.inf], 1.0) == math.inf


def test_a_value_that_is_not_a_number_is_not_hidden() -> None:
    assert all(map(math.isnan, statistics_of([1.0, math.nan], higher_is_better=True)))


@pytest.mark.parametrize(
    ("higher", "expected"), [(True, [2.0, 4.0, 1.5, 1.0]), (False, [2.0, 1.0, 1.5, 4.0])]
)
def test_best_and_worst_follow_the_direction(higher: bool, expected: list[float]) -> None:
    assert statistics_of([1.0, 4.0, 1.0, 2.0], higher_is_better=higher) == expected


def test_kinds_are_the_part_after_the_name_of_the_task() -> None:
    plan = make_plan(Shape(), chemicals(3))
    assert [(kind.metric, len(kind.members)) for kind in kinds(plan)] == [
        (Metric("r2", True, ""), 3),
        (Metric("mae", False, "K"), 3),
    ]
    assert not has_many(plan)
    assert has_many(make_plan(Shape(), assays(41)))


def test_units_are_not_mixed_and_other_names_count_by_unit() -> None:
    tasks = (
        Task("a", (Metric("a mae", False, "K"),)),
        Task("b", (Metric("b mae", False, "mol"),)),
        Task("c", (Metric("c", True, "%"), Metric("d", True, "%"))),
    )
    found = kinds(make_plan(Shape(), tasks))
    assert [(kind.metric.name, kind.metric.unit, kind.names) for kind in found] == [
        ("mae", "K", ["a mae"]),
        ("mae", "mol", ["b mae"]),
        ("metric", "%", ["c", "d"]),
    ]


def test_too_many_kinds_count_by_unit() -> None:
    task = Task("seg", tuple(Metric(f"seg class_{k}", True, "%") for k in range(50)))
    (kind,) = kinds(make_plan(Shape(), (task,)))
    assert kind.metric == Metric("metric", True, "%")
    assert len(kind.members) == 50


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Two methods of two seeds on 50 tasks: auc of task k is 0.50 + k / 100 for ls, plus 0.1 with seed 1."""
    tasks = assays(50)
    write_plan(tmp_path, make_plan(Shape(methods=("ls", "famo"), seeds=2, problem="table"), tasks))
    for seed in (0, 1):
        for method, shift in (("ls", 0.0), ("famo", -0.2)):
            test = {f"assay_{k} auc": 0.4 + k / 100 + 0.1 * seed + shift for k in range(50)}
            append_record(tmp_path, make_record(method, {"test": test, "trivial": {}}, seed=seed))
        for k in range(50):
            test = {f"assay_{k} auc": 0.5 + k / 100}
            append_record(
                tmp_path, make_record(f"stl:task=assay_{k}", {"test": test}, seed=seed, task=f"assay_{k}")
            )
    return tmp_path


def spread(mean: float, std: float | None, n: int) -> Spread:
    """A Spread that equals another one up to rounding."""
    near: Any = pytest.approx
    return Spread(near(mean), None if std is None else near(std), n)


def texts(table: Table) -> list[list[str]]:
    return [[cell.marked for cell in row] for row in table.rows]


def test_many_metrics_have_four_rows_a_kind(many: Path) -> None:
    table = metric_table(summarise(many))
    assert table.header == ("metric", "single-task", "ls", "famo")
    assert texts(table) == [
        ["auc ↑: mean of 50 tasks", "0.745 ± 0.000", "0.695 ± 0.071", "0.495 ± 0.071"],
        ["auc ↑: best task", "0.990 ± 0.000", "0.940 ± 0.071", "0.740 ± 0.071"],
        ["auc ↑: median task", "0.745 ± 0.000", "0.695 ± 0.071", "0.495 ± 0.071"],
        ["auc ↑: worst task", "0.500 ± 0.000", "0.450 ± 0.071", "0.250 ± 0.071"],
    ]
    assert [[cell.best for cell in row] for row in table.rows] == [[False, False, True, False]] * 4
    assert "metrics.csv" in table.notes[0]


def test_single_task_statistics_need_every_task(many: Path) -> None:
    summary = summarise(many)
    (kind,) = kinds(summary.plan)
    assert baseline_statistics(summary, kind)[0] == spread(0.745, 0.0, 2)
    values = dict(summary.baseline.values)
    del values["assay_7 auc"]
    incomplete = dataclasses.replace(summary, baseline=dataclasses.replace(summary.baseline, values=values))
    assert baseline_statistics(incomplete, kind) == [None] * 4
    known = dataclasses.replace(summary, baseline=dataclasses.replace(summary.baseline, source="published"))
    assert baseline_statistics(known, kind)[3] == spread(0.5, None, 1)


def test_single_task_statistics_are_of_the_seeds_that_all_tasks_have(many: Path) -> None:
    summary = summarise(many)
    (kind,) = kinds(summary.plan)
    runs = {**summary.baseline_runs, "assay_0": summary.baseline_runs["assay_0"][1:]}
    assert baseline_statistics(dataclasses.replace(summary, baseline_runs=runs), kind)[0] == spread(
        0.745, None, 1
    )
    assert method_statistics(summary.methods[0], kind)[1] == spread(0.94, 0.1 / 2**0.5, 2)


def test_of_many_changes_the_twenty_best_and_the_twenty_worst_are_shown(many: Path) -> None:
    summary = summarise(many)
    # a change relative to 0.5 + k / 100 is the larger, the smaller k is
    worst_first = [f"assay_{k} auc" for k in range(50)]
    assert shown_metrics(summary, summary.methods) == [*worst_first[:29:-1], *worst_first[19::-1]]


def test_the_tasks_of_a_heat_map_of_many_are_ordered_by_their_weight(tmp_path: Path) -> None:
    shape = Shape(methods=("uw",), seeds=1, epochs=1, steps=2, problem="table", baselines="none")
    directory = write_run_directory(tmp_path, shape, assays(50))
    rows = [{"step": k, **{f"weight_assay_{t}": float(t + 1) for t in range(50)}} for k in (1, 2)]
    write_csv(directory / "runs" / "uw-lr0.001-seed0" / "steps.csv", rows)
    html = write_report(directory).read_text()
    assert "on top assay_49, assay_48, assay_47, assay_46 and assay_45;" in html
    assert "at the bottom assay_4, assay_3, assay_2, assay_1 and assay_0." in html
    assert "50 tasks" in html
