"""Rows at the compute of `ls`: how many epochs they have, and what they cost when they were run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from equipoise.benchmark.cost import costs
from equipoise.benchmark.execute import execute, failed
from equipoise.benchmark.matched import expected, matched, shortened, units
from equipoise.benchmark.order import left, pending
from equipoise.benchmark.overrides import PlanError
from equipoise.benchmark.records import Plan, Record
from equipoise.benchmark.runs import Run, run_config
from equipoise.benchmark.statistics import summarise
from equipoise.training.config import TrainConfig
from equipoise.training.outcome import Hooks
from shown import go, toy_plan
from toy import Toy

LONG = {"epochs": 12}


def plan(**changes: Any) -> Plan:
    return toy_plan(**{"compute": True, "baselines": "none", "settings": LONG, **changes})


def record(made: Plan, run: Run, forwards: int | None, backwards: int | None, epochs: int = 12) -> Record:
    return replace(
        failed(made, run, ""),
        status="ok",
        error=None,
        validation_score=1.0,
        forwards=forwards,
        backwards=backwards,
        epochs=epochs,
        metrics={"test": {}},
    )


def test_methods_that_cost_more_have_a_second_row_and_ls_is_added() -> None:
    made = plan(methods=("uw", "nashmtl", "stl:task=a", "modo"))
    assert made.methods == ("uw", "nashmtl", "nashmtl@compute", "stl:task=a", "modo", "modo@compute", "ls")
    assert made.added == ("ls",)
    assert Plan.from_json(made.to_json()) == made


@pytest.mark.parametrize(
    ("label", "changes", "cost"),
    [
        ("ls", {}, 3),  # forward 1, backward 2
        ("stl:task=a", {}, 3),
        ("uw", {}, 3),
        ("nashmtl", {}, 1 + 2 * 4),
        ("nashmtl+every:steps=4", {}, 1 + 2 * (4 + 3) / 4),
        ("modo", {}, (2 + 2 * 8) / 2),  # of two batches, each with the gradients of all tasks
        ("coba", {}, 2 + 2),  # a batch of the validation part, forwards only
        ("famo", {}, 4),
        ("famo", {"after_step": False}, 3),
        ("famo", {"accumulate": 2}, 4),
        ("nashmtl", {"memory": "layerwise"}, 1 + 2 * 5),
        ("nashmtl", {"memory": "features"}, 1 + 2 * 1),
        ("nashmtl", {"accumulate": 2}, 1 + 2 * 4),
    ],
)
def test_what_a_batch_is_expected_to_cost(label: str, changes: dict[str, Any], cost: float) -> None:
    assert expected(label, TrainConfig(**changes), 4) == cost


def test_a_single_task_network_with_samples_of_its_own_is_expected_to_cost_its_part() -> None:
    assert expected("stl:task=a", TrainConfig(), 4, separate=True) == 3 / 4
    assert expected("ls", TrainConfig(), 4, separate=True) == 3


def test_the_epochs_are_those_that_ls_pays_for() -> None:
    made = plan(methods=("ls", "nashmtl"))
    ls, nash = pending(made, [])
    assert left(made, []) == 3
    paid, spent = record(made, ls, 96, 96), record(made, nash, 96, 192)
    assert (units(paid), units(spent)) == (288, 480)
    assert pending(made, [paid]) == [nash]  # nothing at matched compute before both are known
    (run,) = pending(made, [paid, spent])
    assert (run.method, run.run_id) == ("nashmtl@compute", "nashmtl.compute-lr0.01-seed0")
    assert run.train["epochs"] == 12 * 288 // 480 == 7
    config = run_config(made, run)
    assert (config.method, config.lr, config.train.epochs) == ("nashmtl", 0.01, 7)


def test_runs_that_stopped_early_are_compared_by_what_an_epoch_costs() -> None:
    made = plan(methods=("ls", "nashmtl"))
    ls, nash = pending(made, [])
    run = matched(made, nash, record(made, nash, 32, 64, epochs=4), record(made, ls, 96, 96))
    assert run.train["epochs"] == 7


def test_schedules_are_shortened_alike() -> None:
    train = TrainConfig(epochs=200, warmup_epochs=10, step_epochs=100)
    assert shortened(train, 60) == {"epochs": 60, "warmup_epochs": 3, "step_epochs": 30}
    TrainConfig(**shortened(TrainConfig(epochs=3, warmup_epochs=2), 1))


def test_less_than_an_epoch_is_refused_when_planned() -> None:
    message = (
        r"The compute of `ls` should pay for at least an epoch of nashmtl\. Found that 1 epoch\(s\) of ls pay for "
        r"0\.6 of nashmtl: give --epochs 2 or more, or leave nashmtl out\."
    )
    with pytest.raises(PlanError, match=message):
        plan(methods=("nashmtl",), settings={"epochs": 1})
    with pytest.raises(PlanError, match=r"`max_steps` should be left out with --match compute.* Found 5\."):
        plan(methods=("nashmtl",), settings={**LONG, "max_steps": 5})


@pytest.mark.parametrize(
    ("forwards", "backwards", "reason"),
    [(96, 9600, r"Found that 12 epoch(s) of ls pay for 0\.18 of nashmtl"), (None, None, "were not counted")],
)
def test_less_than_an_epoch_is_a_failed_run_when_it_turns_out(
    tmp_path: Path, forwards: int | None, backwards: int | None, reason: str
) -> None:
    made = plan(methods=("ls", "nashmtl"))
    ls, nash = pending(made, [])
    (run,) = pending(made, [record(made, ls, 96, 96), record(made, nash, forwards, backwards)])
    found = execute(Toy(), made, run, tmp_path, Hooks())
    assert (found.status, found.method) == ("failed", "nashmtl@compute")
    assert reason.replace("\\", "") in (found.error or "")


def test_a_method_or_ls_that_failed_has_no_second_row() -> None:
    made = plan(methods=("ls", "nashmtl"))
    ls, nash = pending(made, [])
    assert pending(made, [record(made, ls, 96, 96), failed(made, nash, "NaN")]) == []
    assert left(made, [failed(made, ls, "NaN"), record(made, nash, 96, 192)]) == 0


def test_it_has_the_setting_and_seeds_of_its_method_and_costs_no_more_than_ls(tmp_path: Path) -> None:
    made = plan(
        methods=("ls", "nashmtl"), lrs=(0.1, 0.001), seeds=(0, 1), baselines="own", settings={"epochs": 5}
    )
    records = go(made, tmp_path)
    rows = {row.method: row for row in summarise(tmp_path).methods}
    assert set(rows) == {"ls", "nashmtl", "nashmtl@compute"}
    assert rows["nashmtl@compute"].lr == rows["nashmtl"].lr
    assert [run.seed for run in rows["nashmtl@compute"].runs] == [0, 1]
    assert {run.epochs for run in rows["nashmtl@compute"].runs} == {3}
    for mine, theirs in zip(rows["nashmtl@compute"].runs, rows["ls"].runs, strict=True):
        assert (units(mine) or 0) <= (units(theirs) or 0)
    assert left(made, records) == 0
    assert (rows["ls"].forwards, rows["ls"].backwards) == (1.0, 1.0)
    assert (rows["nashmtl"].forwards, rows["nashmtl"].backwards) == (1.0, 2.0)
    # Two single-task networks cost twice the parameters and passes of one network.
    found = {cost.name: cost for cost in costs(summarise(tmp_path))}
    single, one = found["2 single-task networks"], found["ls"]
    assert (single.parameters, single.units) == (2 * one.parameters, 2 * (one.units or 0))
    assert found["nashmtl"].units == 5 * 8 * (1 + 2 * 2)


def test_a_budget_and_matched_compute_go_together(tmp_path: Path) -> None:
    made = plan(methods=("ls", "nashmtl"), budget=2, settings={"epochs": 2})
    made = replace(made, methods=("ls", "nashmtl", "nashmtl@compute"))
    records = go(made, tmp_path)
    (row,) = (line for line in records if line.method == "nashmtl@compute")
    chosen = next(line for line in records if line.method == "nashmtl" and "test" in line.metrics)
    assert (row.trial, row.lr, row.epochs) == (chosen.trial, chosen.lr, 1)
    assert row.config["method"] == chosen.config["method"]
