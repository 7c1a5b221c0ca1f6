"""A report is written from whole, broken and nearly empty run directories."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from plotly import graph_objects

from equipoise.benchmark.records import Record, RunDirectoryError, append_record, read_records, write_plan
from equipoise.benchmark.statistics import summarise
from equipoise.report.build import write_report
from equipoise.report.page import page
from equipoise.training.task import Metric, Task
from report.made_up import assays
from report.run_directory import Shape, make_plan, many_tasks, qm9_tasks, write_run_directory

CHARTS = {
    "scores",
    "trade_off",
    "pairs",
    "forest",
    "changes",
    "weights",
    "groups",
    "conflict",
    "curves",
    "convergence",
    "quality",
    "cost",
    "times",
    "published",
}
FIGURES = {"changes", "trade_off", "weights", "groups", "curves", "convergence", "cost", "times", "published"}
SMALL = Shape(methods=("ls", "go4align:groups=2"), seeds=2, epochs=3, steps=6, problem="toy")


def rewrite(directory: Path, records: list[Record]) -> None:
    (directory / "records.jsonl").unlink()
    for record in records:
        append_record(directory, record)


def page_of(directory: Path) -> str:
    """The page without the files of figures, which take longest."""
    return page(summarise(directory), directory, [])


def content(html: str) -> str:
    """The page without what is in its scripts."""
    return re.sub(r"<script[^>]*>.*?</script>", "", html, flags=re.DOTALL)


def drawn(directory: Path) -> set[str]:
    return {path.stem for path in (directory / "figures").glob("*.png")}


def test_a_whole_run_gives_every_file(tmp_path: Path) -> None:
    shape = Shape(methods=("ls", "go4align:groups=5"), seeds=2, epochs=3, steps=6)
    target = write_report(write_run_directory(tmp_path, shape))
    assert target == tmp_path / "report.html"
    assert drawn(tmp_path) == FIGURES == {path.stem for path in (tmp_path / "figures").glob("*.svg")}
    html = target.read_text()
    for name in CHARTS - {"conflict"}:
        assert f'id="figure-{name}"' in html
    for name in FIGURES:
        assert (tmp_path / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "Demonstration budget" in html
    assert "300 epochs on all of QM9" in html
    assert (tmp_path / "table.md").read_text().count("###") == 5
    assert (tmp_path / "table.tex").read_text().count(r"\begin{table}") == 5
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 1 + 2 * 2 * 11 + 2 * 11
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_report_can_be_written_again(tmp_path: Path) -> None:
    write_run_directory(tmp_path, dataclasses.replace(SMALL, methods=("go4align:groups=2",)), many_tasks(2))
    first = write_report(tmp_path).read_bytes()
    assert write_report(tmp_path).read_bytes() == first


def test_the_page_asks_no_host_and_repeats_no_identifier(tmp_path: Path) -> None:
    html = page_of(write_run_directory(tmp_path, SMALL, many_tasks(3)))
    text = content(html)
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', text.replace('href="metrics.csv"', ""))
    assert not re.findall(r"url\((?!#)", text)
    names = re.findall(r'\bid="([^"]+)"', text)
    assert len(names) == len(set(names))
    targets = set(re.findall(r'(?:aria-controls|aria-labelledby)="([^"]+)"', text))
    assert targets
    assert targets <= set(names)


def test_only_the_scripts_of_the_page_may_run(tmp_path: Path) -> None:
    html = page_of(write_run_directory(tmp_path, SMALL, many_tasks(2)))
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', html)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.split("style-src")[0]
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert re.findall(r"'sha256-([^']+)'", policy) == [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts
    ]
    assert len(scripts) == 2
    assert len(re.findall("<script", html)) == 3  # and the numbers, which do not run
    assert len(html) < 6e6


def test_plotly_knows_every_key_of_every_figure(tmp_path: Path) -> None:
    methods = ("ls", "famo", "go4align:groups=5", "nashmtl+grouped:groups=2")
    shape = Shape(methods=methods, seeds=2, epochs=3, steps=6)
    found = {**figures(page_of(write_run_directory(tmp_path / "few", shape)))}
    shape = dataclasses.replace(shape, problem="table")
    found |= figures(page_of(write_run_directory(tmp_path / "many", shape, assays(45))))
    assert set(found) == CHARTS | {"spread"}
    for chart in found.values():
        for panel in chart["panels"]:
            known = re.sub('"@(ink|soft|line|paper)"', '"#000000"', json.dumps(panel))  # as the page does
            graph_objects.Figure(json.loads(known))  # raises on a key or a value that plotly does not know


def figures(html: str) -> dict[str, Any]:
    (text,) = re.findall(r'<script type="application/json" id="charts">(.*?)</script>', html, re.DOTALL)
    return dict(json.loads(text))


def test_an_unfinished_run_says_what_is_missing(tmp_path: Path) -> None:
    write_run_directory(tmp_path, SMALL, many_tasks(2))
    records = read_records(tmp_path)
    bad = dataclasses.replace(
        records[1], status="failed", error="DivergedError: <loss> of attribute_0", metrics={}, started=""
    )
    rewrite(tmp_path, [records[0], bad, records[2]])
    html = write_report(tmp_path).read_text()
    assert "DivergedError: &lt;loss&gt; of attribute_0" in html
    assert "stl_task-attribute_0-lr0.001-seed0" in html
    assert "There is no Δm yet (no finished single-task run of attribute_0 and" in html.replace(
        ", attribute_1", " and"
    )
    assert drawn(tmp_path) == {"weights", "groups", "curves", "convergence", "cost", "times"}


def test_baselines_alone_still_give_a_page(tmp_path: Path) -> None:
    write_run_directory(tmp_path, SMALL, many_tasks(2))
    rewrite(tmp_path, [record for record in read_records(tmp_path) if record.task])
    assert "No method has a finished run yet." in page_of(tmp_path)


def test_runs_without_logs_still_give_a_page(tmp_path: Path) -> None:
    write_run_directory(tmp_path, SMALL, many_tasks(2))
    for log in (tmp_path / "runs").rglob("*.csv"):
        log.unlink()
    write_report(tmp_path)
    assert drawn(tmp_path) == {"changes", "trade_off", "cost", "times"}


def test_metrics_that_are_not_finite_do_not_stop_the_report(tmp_path: Path) -> None:
    write_run_directory(tmp_path, SMALL, many_tasks(2))
    records = read_records(tmp_path)
    test = {**records[0].metrics["test"], "f1_0": float("nan")}
    rewrite(tmp_path, [dataclasses.replace(records[0], metrics={"test": test}), *records[1:]])
    assert "not finite" in page_of(tmp_path)


@pytest.mark.parametrize("count", [1, 2, pytest.param(40, marks=pytest.mark.slow)])
def test_any_number_of_tasks_and_methods_is_drawn(tmp_path: Path, count: int) -> None:
    methods = ("ls",) if count != 2 else tuple(f"cagrad:c={k / 100:g}" for k in range(1, 16))
    shape = Shape(methods=methods, seeds=1, epochs=1, steps=1, problem="toy")
    html = page_of(write_run_directory(tmp_path, shape, many_tasks(count)))
    assert "One seed" in html


def test_a_task_may_have_several_metrics(tmp_path: Path) -> None:
    tasks = (
        Task("seg", (Metric("mIoU", True, "%"), Metric("pix_acc", True, "%"))),
        Task("depth", (Metric("abs_err", False, ""),)),
    )
    html = page_of(write_run_directory(tmp_path, SMALL, tasks))
    assert all(name in html for name in ("mIoU", "pix", "abs"))


def test_a_plan_without_baselines_says_so_and_compares_by_rank(tmp_path: Path) -> None:
    shape = dataclasses.replace(SMALL, baselines="none")
    html = write_report(write_run_directory(tmp_path, shape, many_tasks(3))).read_text()
    assert "There is no Δm: single-task networks were not asked for." in html
    assert "no single-task runs asked for" in html
    assert "methods by mean rank" in html
    assert "Δm %" not in html
    assert "not finished" not in html
    assert drawn(tmp_path) == {"weights", "groups", "curves", "convergence", "cost", "times"}


def test_records_of_older_versions_have_no_split_of_the_time(tmp_path: Path) -> None:
    write_run_directory(tmp_path, dataclasses.replace(SMALL, baselines="none"), many_tasks(2))
    lines = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    for line in lines:
        del line["data_seconds"], line["evaluation_seconds"]
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    html = write_report(tmp_path).read_text()
    assert "times" not in drawn(tmp_path)
    assert "not measured by the version that ran it" in html
    assert "waiting for batches:" not in html


def test_a_long_list_of_missing_runs_is_cut(tmp_path: Path) -> None:
    write_run_directory(tmp_path, dataclasses.replace(SMALL, methods=("ls",), seeds=1), many_tasks(25))
    rewrite(tmp_path, read_records(tmp_path)[:1])
    html = page_of(tmp_path)
    assert html.count("<li>stl_task-") == 20
    assert "<li>5 more</li>" in html


def test_published_baselines_need_no_single_task_runs(tmp_path: Path) -> None:
    shape = Shape(methods=("ls", "uw"), seeds=1, epochs=2, steps=2, baselines="published")
    html = page_of(write_run_directory(tmp_path, shape))
    assert "the published single-task networks" in html


def test_names_are_escaped(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    tasks = (
        Task("a<b>&", (Metric("m<1>&", False, "x<y"),)),
        Task("$\\bad$", (Metric("$\\bad{$", True, ""),)),
        Task(evil, (Metric(evil, True, ""),)),
    )
    shape = dataclasses.replace(SMALL, methods=("ls", "uw"), seeds=1)
    html = page_of(write_run_directory(tmp_path, shape, tasks))
    assert "m&lt;1&gt;&amp;" in html
    assert "m<1>" not in html
    assert "<img" not in content(html)
    assert "alert(1)</script>" not in html
    texts = json.dumps(figures(html))
    assert "&lt;img src=x" in texts  # plotly would read tags
    assert "<img" not in texts


def test_nothing_to_report_on_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="Found no plan.json"):
        write_report(tmp_path)
    write_plan(tmp_path, make_plan(SMALL, qm9_tasks()))
    with pytest.raises(RunDirectoryError, match="should hold at least one finished run"):
        write_report(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_a_missing_matplotlib_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run_directory(tmp_path, SMALL, many_tasks(2))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'pip install "equipoise\[report\]"'):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_missing_plotly_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run_directory(tmp_path, SMALL, many_tasks(2))
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(ImportError, match=r'Reports need plotly: pip install "equipoise\[report\]"'):
        page_of(tmp_path)
