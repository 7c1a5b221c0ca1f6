"""Run directories of older versions are read and gone on with; records of another plan are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from equipoise.benchmark.belonging import check_records
from equipoise.benchmark.order import pending
from equipoise.benchmark.plan import Overrides, make_plan
from equipoise.benchmark.records import PLAN_FORMAT, Plan, RunDirectoryError, read_plan, read_records
from equipoise.benchmark.statistics import summarise
from report.run_directory import Shape, write_run_directory
from shown import Shown, go, toy_plan
from toy import Toy

OLD = Path(__file__).parent / "old_run"
"""Plan and ten of twelve records as version 0.1.0 wrote them before budgets, with format 1."""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "old"))


def as_then() -> Plan:
    return make_plan(Toy, "quick", Overrides(methods=("ls", "uw"), seeds=(0, 1), lrs=(0.01, 0.001)))


def test_a_directory_of_the_format_before_is_read_with_defaults(old: Path) -> None:
    assert json.loads((old / "plan.json").read_text())["format"] == 1
    plan = read_plan(old)
    assert (plan.format, plan.budget, plan.trials, plan.added) == (PLAN_FORMAT, None, {}, ())
    records = read_records(old)
    assert {(r.trial, r.forwards, r.backwards) for r in records} == {(None, None, None)}
    summary = summarise(old)
    assert [row.method for row in summary.methods] == ["ls", "uw"]
    assert {(row.forwards, row.backwards) for row in summary.methods} == {(None, None)}
    assert all(row.delta_m is not None for row in summary.methods)


def test_it_goes_on_with_the_same_run_ids(old: Path) -> None:
    before = read_records(old)
    show = Shown()
    records = go(as_then(), old, show, resume=True)
    assert (show.done, show.total) == (10, 12)
    assert records[:10] == before
    missing = {run.run_id for run in pending(as_then(), before)}
    assert {record.run_id for record in records[10:]} == missing == set(show.starts)
    assert all(record.forwards == record.steps for record in records[10:])


def test_famo_of_a_version_that_did_not_look_after_the_step_is_not_taken_for_one_that_did(old: Path) -> None:
    for name in ("plan.json", "records.jsonl"):
        (old / name).write_text((old / name).read_text().replace("uw", "famo"))
    famo = Overrides(methods=("ls", "famo"), seeds=(0, 1), lrs=(0.01, 0.001))
    assert {row.method for row in summarise(old).methods} == {"ls", "famo"}
    with pytest.raises(RunDirectoryError, match=r"changes:\n  train.after_step: False -> True\n"):
        go(make_plan(Toy, "quick", famo), old, Shown(), resume=True)
    show = Shown()
    go(make_plan(Toy, "quick", replace(famo, settings={"after_step": False})), old, show, resume=True)
    assert (show.done, show.total) == (10, 12)


def test_a_run_without_a_budget_is_called_as_ever() -> None:
    expected = [json.loads(line)["run_id"] for line in (OLD / "records.jsonl").read_text().splitlines()]
    names = [run.run_id for run in pending(as_then(), [])]
    assert set(names) <= set(expected)
    assert names[:4] == ["ls-lr0.01-seed0", "ls-lr0.001-seed0", "uw-lr0.01-seed0", "uw-lr0.001-seed0"]


def changed(**fields: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda raw: {**raw, **fields}


def trained(**settings: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda raw: {
        **raw,
        "config": {**raw["config"], "train": {**raw["config"]["train"], **settings}},
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (changed(run_id="famo-lr0.01-seed0"), r"Found famo-lr0\.01-seed0, which is not in the plan\."),
        (changed(run_id="ls-lr0.01-seed7"), r"Found ls-lr0\.01-seed7, which is not in the plan\."),
        (trained(epochs=4), r"Found train\.epochs = 4, in the plan 3\."),
        (
            trained(optimizer="sgd", momentum=0.9),
            r"Found train\.optimizer = sgd, in the plan adam; train\.momentum = 0\.9, in the plan 0\.0\.",
        ),
        (changed(seed=1), r"Found seed 1, in the plan 0\."),
        (changed(lr=0.5), r"Found lr 0\.5, in the plan 0\.001\."),
        (changed(trial=2), r"Found trial 2, in the plan None\."),
    ],
)
def test_records_of_another_plan_are_refused_with_line_and_difference(
    old: Path, change: Callable[[dict[str, Any]], dict[str, Any]], reason: str
) -> None:
    lines = (old / "records.jsonl").read_text().splitlines()
    lines[1] = json.dumps(change(json.loads(lines[1])))
    (old / "records.jsonl").write_text("\n".join(lines) + "\n")
    message = rf"records\.jsonl, line 2, should be a run of the plan beside it\. {reason} Records of several plans are"
    with pytest.raises(RunDirectoryError, match=message):
        summarise(old)
    with pytest.raises(RunDirectoryError, match=message):
        go(as_then(), old, resume=True)


def test_two_directories_laid_together_are_refused(tmp_path: Path, old: Path) -> None:
    """Both of the same problem and methods: only the settings tell them apart."""
    go(toy_plan(methods=("ls",), settings={"size": 16}, baselines="none"), tmp_path / "other")
    with (old / "records.jsonl").open("a") as file:
        file.write((tmp_path / "other" / "records.jsonl").read_text())
    with pytest.raises(RunDirectoryError, match=r"line 11, .*Found options\.size = 16, in the plan 32\."):
        summarise(old)


def test_trials_of_another_budget_are_refused(tmp_path: Path) -> None:
    plan = replace(toy_plan(budget=2, baselines="none", settings={"epochs": 1}), methods=("ls",))
    records = go(plan, tmp_path)
    check_records(tmp_path, plan, records)
    other = replace(toy_plan(budget=2, baselines="none", bounds=(1e-4, 1e-3)), methods=("ls",))
    with pytest.raises(RunDirectoryError, match=r"line 1, .*Found lr = 0\.01, in the plan 0\.001"):
        check_records(tmp_path, other, records)


def test_the_runs_of_a_made_up_directory_belong_to_it(tmp_path: Path) -> None:
    where = write_run_directory(tmp_path, Shape(methods=("ls", "famo"), seeds=2, epochs=2, steps=2))
    check_records(where, read_plan(where), read_records(where))
