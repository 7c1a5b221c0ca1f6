"""The picture of mean ranks names its set, and its bars are the groups that do not differ."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from equipoise.benchmark.statistics import summarise
from equipoise.benchmark.summary import Spread, Summary
from equipoise.report.figures import Drawing, draw
from equipoise.report.plots_ranks import ranks, ranks_of
from report.run_directory import Shape, many_tasks, write_run_directory


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    shape = Shape(methods=("ls", "famo", "uw", "nashmtl"), seeds=2, epochs=1, steps=1, problem="toy")
    return summarise(write_run_directory(tmp_path_factory.mktemp("run"), shape, many_tasks(12)))


def drawn(summary: Summary, directory: Path) -> Drawing:
    (drawing,) = draw(lambda canvas: [ranks(summary, canvas)], directory)
    return drawing


def test_the_caption_names_the_set_and_the_tests(summary: Summary, tmp_path: Path) -> None:
    drawing = drawn(summary, tmp_path)
    found = ranks_of(summary)
    assert found is not None
    best = next(iter(found.mean_ranks))
    assert f"Mean rank over 12 metrics among {best}, " in drawing.caption
    assert "Wilcoxon's signed-rank test" in drawing.caption
    assert "Friedman's test of all together: p < 0.0001." in drawing.caption
    assert (tmp_path / "figures" / "ranks.png").stat().st_size > 5000
    assert found.cliques == ()  # far apart in all 12 metrics
    assert "Groups that do not differ: none." in drawing.svg


def test_methods_that_do_not_differ_share_a_bar(summary: Summary, tmp_path: Path) -> None:
    first = summary.methods[0]
    twin = dataclasses.replace(summary.methods[1], metrics=first.metrics)
    found = ranks_of(dataclasses.replace(summary, methods=(first, twin, *summary.methods[2:])))
    assert found is not None
    assert [set(clique) for clique in found.cliques] == [{first.method, twin.method}]


def test_too_few_metrics_for_any_difference_are_said(summary: Summary, tmp_path: Path) -> None:
    plan = dataclasses.replace(summary.plan, tasks=summary.plan.tasks[:4])
    drawing = drawn(dataclasses.replace(summary, plan=plan), tmp_path)
    assert "With 4 metrics and 6 pairs no two methods could have differed." in drawing.caption


def test_what_is_not_finite_is_left_out_and_named(summary: Summary, tmp_path: Path) -> None:
    metrics = {**summary.methods[0].metrics, "f1_0": Spread(math.nan, None, 2)}
    methods = (dataclasses.replace(summary.methods[0], metrics=metrics), *summary.methods[1:])
    drawing = drawn(dataclasses.replace(summary, methods=methods), tmp_path)
    assert "Left out, since a metric is not finite: ls." in drawing.caption
    assert ranks_of(dataclasses.replace(summary, methods=methods[:3])) is None  # two are no picture
