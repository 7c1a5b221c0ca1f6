"""The interactive figures show the numbers of the summary, and JSON cannot end the script that it stands in."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from pathlib import Path
from statistics import fmean

import pytest

from equipoise.benchmark.evidence import Evidence, evidence
from equipoise.benchmark.logs import read_steps
from equipoise.benchmark.statistics import summarise
from equipoise.benchmark.summary import Summary
from equipoise.report.charts_changes import change_axis
from equipoise.report.charts_conflict import conflict
from equipoise.report.charts_curves import curves
from equipoise.report.charts_forest import forest, scores
from equipoise.report.charts_quality import quality
from equipoise.report.charts_trade_off import pairs, trade_off
from equipoise.report.charts_weights import groups, weights
from equipoise.report.histories import weight_history
from equipoise.report.interactive import (
    LEAST_ACROSS,
    Chart,
    Panel,
    apart,
    axis,
    charts_json,
    layout,
    names,
    numbers,
    room,
    scale,
)
from equipoise.report.plots_changes import bend
from equipoise.report.wording import with_interval
from equipoise.training.task import Metric, Task
from report.made_up import count_passes
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
    unit = next(fmean(run.seconds for run in row.runs) for row in summary.methods if row.method == "ls")
    every = [fmean(run.seconds for run in runs) for runs in summary.baseline_runs.values()]
    assert cells(chart)["single-task networks"] == [f"{sum(every) / unit:.2f}", "0.00"]
    assert cells(chart)["ls"][0] == "1.00"
    assert chart is not None
    assert len(chart.panels) == 1  # the time; these runs did not count their passes
    assert "not every run counted them" in chart.caption


def test_what_costs_is_the_whole_run_so_that_rows_at_matched_compute_stand_at_one(tmp_path: Path) -> None:
    shape = dataclasses.replace(SHAPE, methods=("ls", "modo", "modo@compute"), steps=40)
    write_run_directory(tmp_path, shape)
    count_passes(tmp_path, {"modo": (1, 2)})
    found = summarise(tmp_path)
    chart = quality(found, evidence(found))
    assert chart is not None
    assert chart.table.header[1:3] == ("passes of a run, relative to ls", "time of a run, relative to ls")
    assert [panel.layout["xaxis"]["title"]["text"] for panel in chart.panels] == list(chart.table.header[1:3])
    assert cells(chart)["modo"][0] == f"{5 / 3:.2f}"
    assert cells(chart)["modo@compute"][:2] == ["1.00", "0.60"]  # 24 of 40 steps, each as long as one of ls
    assert cells(chart)["single-task networks"][0] == "11.00"
    for panel, column in zip(chart.panels, (0, 1), strict=True):
        drawn = {trace["name"]: trace["x"][0] for trace in panel.traces}
        assert {name: f"{x:.2f}" for name, x in drawn.items()} == {
            name: row[column] for name, row in cells(chart).items()
        }


def test_without_equal_weights_costs_are_in_their_own_units(tmp_path: Path) -> None:
    write_run_directory(tmp_path, dataclasses.replace(SHAPE, methods=("famo", "uw"), steps=40))
    count_passes(tmp_path, {})
    found = summarise(tmp_path)
    chart = quality(found, evidence(found))
    assert chart is not None
    assert chart.table.header[1:3] == ("passes of a run (in forward passes)", "time of a run (seconds)")
    assert cells(chart)["famo"][:2] == ["120.00", "1.60"]


@pytest.mark.parametrize(
    ("low", "high"), [(-14.0, 85.0), (-900.0, 2.0), (0.0, 12000.0), (-40.0, 40.0), (0.0, 0.0)]
)
def test_ticks_of_a_bent_scale_keep_their_distance_on_a_phone(low: float, high: float) -> None:
    found = change_axis([low, high], "", bent=True)
    assert "0" in found["ticktext"]
    assert list(found["tickvals"]) == sorted(found["tickvals"])
    span = bend(high) - bend(low) or 1.0
    places = [LEAST_ACROSS * value / span for value in found["tickvals"]]
    for (a, left), (b, right) in itertools.pairwise(zip(places, found["ticktext"], strict=True)):
        assert b - a > (room(left) + room(right)) / 2
    assert len(places) >= 3 or (low, high) == (0.0, 0.0)


def test_labels_that_would_touch_are_left_out_the_less_important_ones_first() -> None:
    assert apart([0.0, 50.0, -50.0, 10.0, 40.0], [20.0] * 5) == [2, 0, 1]
    assert apart([], []) == []


def test_a_panel_is_as_wide_as_its_names_and_the_title_of_its_axis_need() -> None:
    def least(name: str, title: str) -> int:
        panel = Panel((), layout(10, axis(title), names([name])))
        return Chart("a", "t", "c", "alt", (panel,), numbers("a", "t", ("h",), [("x",)])).least

    assert least("ls", "p") < 240
    assert least("pendigits accuracy", "p") - least("ls", "p") == pytest.approx(
        room("pendigits accura"), abs=1
    )
    assert least("ls", 40 * "p") > 40 * 7


def test_a_scale_of_few_epochs_has_whole_numbers(summary: Summary, directory: Path) -> None:
    chart = curves(summary, directory)
    assert chart is not None
    assert {panel.layout["xaxis"].get("dtick") for panel in chart.panels} == {1}


def test_the_colours_of_weights_have_room_for_their_numbers(tmp_path: Path) -> None:
    tasks = (Task("a", (Metric("a", True, ""),)), Task("b", (Metric("b", True, ""),)))
    write_run_directory(tmp_path, dataclasses.replace(SHAPE, methods=("ls", "famo")), tasks)
    chart = weights(summarise(tmp_path), tmp_path)
    assert chart is not None
    (trace,) = chart.panels[0].traces
    bar = trace["colorbar"]
    assert "1" in bar["ticktext"]
    pixels = (chart.panels[0].layout["height"] - 80) / (trace["zmax"] - trace["zmin"])
    assert all(pixels * (b - a) >= 15 for a, b in itertools.pairwise(bar["tickvals"]))


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
