"""The interactive figures show the numbers of the summary, and JSON cannot end the script that it stands in."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from statistics import fmean

import pytest

from equipoise.benchmark.evidence import Evidence, evidence
from equipoise.benchmark.logs import read_steps
from equipoise.benchmark.statistics import summarise
from equipoise.benchmark.summary import Summary
from equipoise.report.charts_conflict import conflict
from equipoise.report.charts_forest import forest, scores
from equipoise.report.charts_quality import quality
from equipoise.report.charts_trade_off import pairs, trade_off
from equipoise.report.charts_weights import groups, weights
from equipoise.report.histories import weight_history
from equipoise.report.interactive import Chart, Panel, charts_json, layout, numbers, scale
from equipoise.report.wording import with_interval
from report.run_directory import Shape, write_run_directory

SHAPE = Shape(methods=("ls", "famo", "go4align:groups=2", "nashmtl"), seeds=2, epochs=3, steps=30)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run_directory(tmp_path_factory.mktemp("run"), SHAPE)


@pytest.fixture(scope="module")
def summary(directory: Path) -> Summary:
    return summarise(directory)


@pytest.fixture(scope="module")
def found(summary: Summary) -> Evidence:
    return evidence(summary)


def cells(chart: Chart | None) -> dict[str, list[str]]:
    """The table of a figure: name of a row -> its other texts."""
    assert chart is not None
    return {row[0].text: [cell.text for cell in row[1:]] for row in chart.table.rows}


def test_scores_are_in_order_with_their_intervals(summary: Summary, found: Evidence) -> None:
    chart = scores(summary, found)
    means = [found.methods[method].delta_m for method in cells(chart)]
    assert [one.mean for one in means if one] == sorted(one.mean for one in means if one)
    assert chart is not None
    for trace, one in zip(chart.panels[0].traces, means, strict=True):
        assert one is not None
        assert one.low is not None
        assert trace["x"] == [one.mean]
        assert trace["error_x"]["arrayminus"] == [pytest.approx(one.mean - one.low)]


def test_the_forest_has_a_mark_for_every_metric_and_method(summary: Summary, found: Evidence) -> None:
    chart = forest(summary, found)
    assert chart is not None
    assert len(chart.panels[0].traces) == 4
    for trace in chart.panels[0].traces:
        assert [round(place) for place in trace["y"]] == list(range(11))  # each in the row of its metric
    place = list(chart.keys).index("famo")
    wanted = with_interval(found.methods["famo"].changes["r2"], 1, sign=True)
    assert cells(chart)["r2"][place] == wanted
    assert chart.panels[0].traces[place]["customdata"][4] == ["famo, r2", wanted]


def test_the_trade_off_names_the_worst_metric(summary: Summary, found: Evidence) -> None:
    row = next(row for row in summary.methods if row.method == "famo")
    worst = max(row.changes, key=lambda name: row.changes[name])
    assert cells(trade_off(summary, found))["famo"][2] == worst


def test_the_two_metrics_that_pull_apart_most_are_shown_first(summary: Summary) -> None:
    values = {"mu": (1.0, 2.0, 3.0, 4.0), "alpha": (4.0, 3.0, 2.0, 1.0), "homo": (1.0, 3.0, 2.0, 4.0)}
    methods = tuple(
        dataclasses.replace(row, changes={name: column[k] for name, column in values.items()})
        for k, row in enumerate(summary.methods)
    )
    chart = pairs(dataclasses.replace(summary, methods=methods))
    assert chart is not None
    assert chart.choice is not None
    assert [chart.choice.labels[place] for place in chart.choice.shown] == ["mu", "alpha"]
    trace = next(
        trace for trace in chart.panels[0].traces if trace["name"] == summary.methods[2].method.split(":")[0]
    )
    assert (trace["x"], trace["y"]) == ([3.0], [2.0])


def test_all_single_task_networks_together_are_the_reference_of_the_cost(
    summary: Summary, found: Evidence
) -> None:
    chart = quality(summary, found)
    unit = next(row.seconds_per_step.mean for row in summary.methods if row.method == "ls")
    steps = [fmean(run.seconds_per_step for run in runs) for runs in summary.baseline_runs.values()]
    assert cells(chart)["single-task networks"] == [f"{sum(steps) / unit:.2f}", "0.00"]
    assert cells(chart)["ls"][0] == "1.00"


def test_conflicts_are_means_over_steps_and_seeds(summary: Summary, directory: Path) -> None:
    chart = conflict(summary, directory)
    assert list(cells(chart)) == ["nashmtl"]  # the others read no gradients
    logs = [read_steps(directory, run.run_id)["conflict"] for row in summary.methods for run in row.runs
            if row.method == "nashmtl"]  # fmt: skip
    assert float(cells(chart)["nashmtl"][0]) == pytest.approx(fmean(map(fmean, logs)), abs=1e-3)


def test_heat_maps_are_logarithms_of_the_history(summary: Summary, directory: Path) -> None:
    chart = weights(summary, directory)
    assert chart is not None
    assert [panel.title for panel in chart.panels].count("ls") == 0  # all equal
    panel = next(panel for panel in chart.panels if panel.title == "famo")
    tasks = [task.name for task in summary.plan.tasks]
    run = next(row for row in summary.methods if row.method == "famo").runs[0]
    history = weight_history(directory, run.run_id, tasks)
    assert history is not None
    assert panel.traces[0]["z"][3][7] == pytest.approx(math.log2(history.shares[3][7]))
    grouped = groups(summary, directory)
    assert grouped is not None
    assert [panel.title.split(":")[0] for panel in grouped.panels] == ["go4align", "go4align"]
    assert {value for row in grouped.panels[0].traces[0]["z"] for value in row} == {1.0, 2.0}


def test_scales_are_logarithmic_where_values_span_much() -> None:
    assert scale([1.0, 3.0], rangemode="tozero") == {"rangemode": "tozero"}
    assert scale([-1.0, 30.0]) == {}
    assert scale([]) == {}
    assert scale([1.0, 30.0])["tickvals"] == [1.0, 2.0, 5.0, 10.0, 20.0]


def test_json_is_strict_rounded_and_ends_no_script() -> None:
    panel = Panel(
        ({"x": [math.nan, 1 / 3], "text": "</script>&\u2028", "hovertemplate": "%{x}<br>"},),
        layout(10, {}, {}),
    )
    text = charts_json([Chart("a", "t", "c", "alt", (panel,), numbers("a", "t", ("h",), [("x",)]))])
    assert "<" not in text
    assert "\u2028" not in text
    (trace,) = json.loads(text)["a"]["panels"][0]["data"]
    assert trace["x"] == [None, 0.33333]
    assert trace["text"] == "&lt;/script&gt;&amp;\u2028"
    assert trace["hovertemplate"] == "%{x}<br>"
