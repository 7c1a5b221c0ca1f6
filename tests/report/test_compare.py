"""Run directories side by side: what differs, by how much over common seeds, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest
from scipy import stats
from typer.testing import CliRunner

from equipoise.benchmark.records import Record, RunDirectoryError, read_plan, read_records, write_plan
from equipoise.benchmark.statistics import summarise
from equipoise.cli import app
from equipoise.report.compare_page import said, write_comparison
from equipoise.report.differences import beside
from report.made_up import assays, change_tests
from report.run_directory import Shape, make_plan, many_tasks, write_run_directory

SHAPE = Shape(methods=("ls", "famo", "uw"), seeds=4, epochs=2, steps=4, problem="toy")
Change = Callable[[Record, str, float], float]


def pair(tmp_path: Path, change: Change) -> tuple[Path, Path]:
    """A run directory, and the same with other test metrics of the methods."""
    first = write_run_directory(tmp_path / "adam", SHAPE, many_tasks(3))
    other = Path(shutil.copytree(first, tmp_path / "sgd"))
    change_tests(other, lambda record, name, value: value if record.task else change(record, name, value))
    plan = read_plan(other)
    config = {**plan.config, "options": {"molecules": 500, "width": 32}}
    write_plan(other, dataclasses.replace(plan, config=config, command="equipoise bench toy --other"))
    return first, other


def steady(record: Record, name: str, value: float) -> float:
    """Better by about 0.05 for famo, about the same for uw, the same for ls; higher is better."""
    noise = 0.004 * math.sin(7 * record.seed + len(record.method))
    return value + {"famo": 0.05 + noise, "uw": noise}.get(record.method, 0.0)


def test_differences_are_paired_over_the_seeds_and_corrected(tmp_path: Path) -> None:
    first, other = pair(tmp_path, steady)
    found = beside(first, [other])
    (side,) = found.sides
    assert [(one.method, one.word) for one in side.methods] == [
        ("ls", "unknown"),
        ("famo", "better"),
        ("uw", "tie"),
    ]
    values = [
        {run.seed: run.metrics["test"]["f1_0"] for run in read_records(path) if run.method == "famo"}
        for path in (first, other)
    ]
    mean = statistics.fmean(values[0].values())
    wanted = [-100 * (values[1][seed] - values[0][seed]) / mean for seed in range(4)]
    estimate = side.methods[1].metrics["f1_0"]
    low, high = stats.t.interval(0.95, 3, statistics.fmean(wanted), stats.sem(wanted))
    assert (estimate.mean, estimate.low, estimate.high) == pytest.approx(
        (statistics.fmean(wanted), low, high)
    )
    scores = [
        next(row.delta_m for row in summarise(path).methods if row.method == "famo")
        for path in (first, other)
    ]
    assert side.methods[1].delta_m is not None
    assert scores[0] is not None
    assert scores[1] is not None
    assert side.methods[1].delta_m.mean == pytest.approx(scores[1].mean - scores[0].mean)
    famo, uw = (one.p_holm for one in side.methods[1:])
    assert side.methods[0].same and side.methods[0].p_holm is None  # no test, so two are corrected for
    assert famo is not None and uw is not None and famo < 0.05
    others = [_shared_scores(first, path, "famo") for path in (other, first)]
    assert famo == pytest.approx(2 * float(stats.ttest_rel(*others).pvalue))
    assert found.plans == {"options.molecules": ("4000", "500")}


def _shared_scores(first: Path, path: Path, method: str) -> list[float]:
    """delta_m of each seed of a run, by the single-task values of the first run; higher metrics are better."""
    single: dict[str, list[float]] = {}
    for record in read_records(first):
        for name, value in record.metrics["test"].items() if record.task else ():
            single.setdefault(name, []).append(value)
    means = {name: statistics.fmean(values) for name, values in single.items()}
    rows = [record.metrics["test"] for record in read_records(path) if record.method == method]
    return [statistics.fmean(100 * (one - row[name]) / one for name, one in means.items()) for row in rows]


@pytest.mark.parametrize("factor", [1.3, 0.6])
def test_other_single_task_networks_are_no_difference_of_the_methods(tmp_path: Path, factor: float) -> None:
    """Methods that are as good in both runs, beside single-task networks that are not."""
    first, other = pair(tmp_path, steady)
    (before,) = beside(first, [other]).sides

    def apart(record: Record, name: str, value: float) -> float:
        return value * (factor + 0.01 * record.seed) if record.task else value

    change_tests(other, apart)
    found = beside(first, [other])
    (after,) = found.sides
    assert [one.word for one in after.methods] == ["unknown", "better", "tie"]
    assert after.methods == before.methods
    mine, theirs = (summary.methods[0].delta_m for summary in (found.summary, after.summary))
    assert mine is not None and theirs is not None and abs(mine.mean - theirs.mean) > 10
    html = write_comparison(first, [other]).read_text()
    assert "relative to the single-task values of adam, so that these cancel" in html


def test_equal_differences_of_few_seeds_are_no_test(tmp_path: Path) -> None:
    """Accuracies of small test sets are multiples of a step: t would be infinite and p = 0."""
    first, other = pair(tmp_path, steady)

    def to(level: float) -> Change:
        return lambda record, _, value: value if record.task else level

    for path, level in ((first, 0.7), (other, 0.72)):
        change_tests(path, to(level))
    (side,) = beside(first, [other]).sides
    assert {(one.word, one.p_holm, one.same) for one in side.methods} == {("unknown", None, False)}
    assert "every seed has the same difference" in write_comparison(first, [other]).read_text()


def test_the_page_says_it_and_lies_beside_the_first_report(tmp_path: Path) -> None:
    first, other = pair(tmp_path, steady)
    lead, result = said(beside(first, [other]))
    assert lead == "The plans differ in options.molecules."
    assert result == (
        "sgd against adam, 3 common methods by Δm; better: famo; worse: none; cannot be told apart: uw; "
        "the same runs: ls."
    )
    target = write_comparison(first, [other])
    assert target == first / "compare-sgd.html"
    html = target.read_text()
    assert "equipoise bench toy --other" in html
    assert 'id="figure-compare_0"' in html
    assert html.count('<button type="button" role="tab"') == 3
    assert not (first / "report.html").exists()


def test_the_command_says_where_the_page_is(tmp_path: Path) -> None:
    first, other = pair(tmp_path, steady)
    third = Path(shutil.copytree(first, tmp_path / "again"))
    result = CliRunner().invoke(app, ["report", str(first), "--compare", str(other), "--compare", str(third)])
    assert result.exit_code == 0, result.output
    text = " ".join(result.output.split())
    assert "sgd against adam" in text
    assert "worse: none; cannot be told apart: none; the same runs: ls, famo and uw." in text
    assert "compare-sgd-again.html" in text.replace("- ", "-")
    assert (first / "compare-sgd-again.html").is_file()


def test_seeds_that_do_not_pair_have_no_interval_and_no_verdict(tmp_path: Path) -> None:
    first, other = pair(tmp_path, steady)
    keep = {0: (0, 1), 1: (2, 3)}
    for place, path in enumerate((first, other)):
        records = [r for r in read_records(path) if r.task or r.seed in keep[place]]
        (path / "records.jsonl").write_text("".join(f"{record.to_json()}\n" for record in records))
    (side,) = beside(first, [other]).sides
    assert {one.word for one in side.methods} == {"unknown"}
    delta = side.methods[0].delta_m
    assert delta is not None
    assert (delta.low, delta.high, delta.n, delta.why) == (None, None, 0, "no seed in common")
    assert "No interval: no seed in common." in write_comparison(first, [other]).read_text()


def test_without_single_task_runs_metrics_are_still_compared(tmp_path: Path) -> None:
    shape = dataclasses.replace(SHAPE, baselines="none")
    paths = [write_run_directory(tmp_path / name, shape, many_tasks(2)) for name in ("a", "b")]
    change_tests(paths[1], steady)
    (side,) = beside(paths[0], paths[1:]).sides
    assert {one.word for one in side.methods} == {"unknown"}
    assert side.methods[1].metrics["f1_0"].low is not None
    html = write_comparison(paths[0], paths[1:]).read_text()
    assert "No Δm in a: single-task networks were not asked for." in html


def test_of_many_metrics_those_that_differ_most_are_drawn(tmp_path: Path) -> None:
    shape = dataclasses.replace(SHAPE, methods=("ls",), seeds=2, baselines="none")
    first = write_run_directory(tmp_path / "a", shape, assays(60))
    other = Path(shutil.copytree(first, tmp_path / "b"))
    change_tests(other, lambda _, name, value: value * (0.5 if name == "assay_57 auc" else 1.001))
    html = write_comparison(first, [other]).read_text()
    assert "The 40 metrics of 60 that differ most." in html
    assert "assay_57 auc" in html[html.index('id="compare_0-numbers"') :]


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    first = write_run_directory(tmp_path / "first", SHAPE, many_tasks(3))
    with pytest.raises(RunDirectoryError, match="should name other run directories. Found .*first twice"):
        beside(first, [first])
    other = write_run_directory(
        tmp_path / "table", dataclasses.replace(SHAPE, problem="table"), many_tasks(3)
    )
    with pytest.raises(
        RunDirectoryError, match="should be of the problem toy, as the first run. Found table"
    ):
        beside(first, [other])
    more = write_run_directory(tmp_path / "more", SHAPE, many_tasks(4))
    with pytest.raises(RunDirectoryError, match="Found a difference: f1_3. Compare runs of the same tasks"):
        beside(first, [more])
    odd = write_run_directory(tmp_path / "odd", dataclasses.replace(SHAPE, methods=("mgda",)), many_tasks(3))
    with pytest.raises(
        RunDirectoryError, match="a method in common with the first run.*Found mgda there, ls, famo, uw"
    ):
        beside(first, [odd])
    assert not list(first.glob("*.html"))


def test_a_directory_without_a_plan_is_refused_on_the_command_line(tmp_path: Path) -> None:
    first = write_run_directory(tmp_path / "first", SHAPE, many_tasks(2))
    (tmp_path / "empty").mkdir()
    result = CliRunner().invoke(app, ["report", str(first), "--compare", str(tmp_path / "empty")])
    assert result.exit_code != 0
    assert "Found no plan.json" in " ".join(result.output.split())


def test_a_plan_that_is_the_same_says_so(tmp_path: Path) -> None:
    first = write_run_directory(tmp_path / "a", SHAPE, many_tasks(2))
    other = Path(shutil.copytree(first, tmp_path / "b"))
    plan = dataclasses.replace(make_plan(SHAPE, many_tasks(2)), versions={"python": "3.12"})
    raw = json.loads((other / "plan.json").read_text())
    (other / "plan.json").write_text(json.dumps({**raw, "versions": plan.versions}))
    found = beside(first, [other])
    assert said(found)[0] == "The plans are the same but for versions, if at all."
    assert found.plans["version of python"] == ("3.11.7", "3.12")
