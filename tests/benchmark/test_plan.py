"""Plans: what is run, in which order, and what is refused before anything runs."""

import math
from dataclasses import replace
from typing import Any

import pytest

from equipoise.benchmark.execute import failed
from equipoise.benchmark.plan import (
    Overrides,
    PlanError,
    Run,
    differences,
    entries,
    left,
    make_plan,
    pending,
    run_config,
)
from equipoise.benchmark.records import Plan, Record
from toy import Toy


def plan(**changes: Any) -> Plan:
    return make_plan(Toy, "quick", Overrides(**changes))


def record(made: Plan, run: Run, score: float) -> Record:
    return replace(failed(made, run, ""), status="ok", error=None, validation_score=score)


def test_a_preset_becomes_a_plan() -> None:
    made = plan()
    assert made.methods == ("ls", "uw")
    assert (made.seeds, made.lrs, made.baselines) == ((0,), (0.01,), "own")
    assert made.config["options"] == {"size": 32}
    assert made.config["train"]["epochs"] == 3
    assert made.config["train"]["plateau_factor"] == 0.7
    assert [run.run_id for run in pending(made, [])] == [
        "ls-lr0.01-seed0",
        "uw-lr0.01-seed0",
        "stl_task-a-lr0.01-seed0",
        "stl_task-b-lr0.01-seed0",
    ]
    assert Plan.from_json(made.to_json()) == made


def test_settings_go_where_they_belong() -> None:
    made = plan(settings={"size": 16, "epochs": 5})
    config = run_config(made, pending(made, [])[0])
    assert config.options == {"size": 16}
    assert config.train.epochs == 5
    assert (config.problem, config.method, config.lr, config.seed) == ("toy", "ls", 0.01, 0)


def test_defaults_of_the_problem_are_in_the_label_and_can_be_changed() -> None:
    made = plan(methods=("go4align:step=0.1", "go4align:groups=1", "nashmtl+grouped:groups=2+every:steps=3"))
    assert made.methods == (
        "go4align:groups=2:step=0.1",
        "go4align:groups=1",
        "nashmtl+grouped:groups=2+every:steps=3",
    )
    assert pending(made, [])[0].run_id == "go4align_groups-2_step-0.1-lr0.01-seed0"


def test_labels_that_are_no_file_names_stay_apart() -> None:
    made = plan(methods=("constant:weights=[1,2]", "constant:weights=[1e+0,2]", "ls"))
    first, second, _ = (run.run_id for run in pending(made, [])[:3])
    assert first != second
    assert all(character.isalnum() or character in "._+-" for character in first)


def test_single_task_methods_by_name_or_position_are_one_run() -> None:
    made = plan(methods=("stl:task=1",), baselines="published")
    assert entries(made) == [("stl:task=b", "b")]
    assert pending(made, [])[0].task == "b"


def test_the_best_learning_rate_of_the_first_seed_runs_on_the_other_seeds() -> None:
    made = plan(methods=("ls",), lrs=(0.1, 0.01, 0.001), seeds=(4, 5, 6), baselines="published")
    assert left(made, []) == 5
    first = pending(made, [])
    assert [(run.lr, run.seed) for run in first] == [(0.1, 4), (0.01, 4), (0.001, 4)]
    records = [record(made, run, score) for run, score in zip(first, (3.0, -1.0, 2.0), strict=True)]
    assert [(run.lr, run.seed) for run in pending(made, records[:2])] == [(0.001, 4)]
    assert left(made, records[:2]) == 3
    later = pending(made, records)
    assert [(run.lr, run.seed) for run in later] == [(0.01, 5), (0.01, 6)]
    assert left(made, records) == 2
    records += [record(made, run, 0.0) for run in later]
    assert pending(made, records) == []
    assert left(made, records) == 0


def test_failed_learning_rates_are_not_chosen_and_failed_methods_are_left() -> None:
    made = plan(methods=("ls", "uw"), lrs=(0.1, 0.01), seeds=(0, 1), baselines="published")
    first = pending(made, [])
    records = [record(made, first[0], 5.0), *(failed(made, run, "NaN") for run in first[1:])]
    assert [(run.method, run.lr) for run in pending(made, records)] == [("ls", 0.1)]
    assert left(made, records) == 1


def test_first_seeds_of_all_methods_come_before_other_seeds() -> None:
    made = plan(methods=("ls", "uw"), seeds=(0, 1), baselines="published")
    runs = pending(made, [record(made, pending(made, [])[0], 1.0)])
    assert [(run.method, run.seed) for run in runs] == [("uw", 0), ("ls", 1)]


def test_plans_are_compared_field_by_field() -> None:
    old = plan()
    assert differences(old, Plan.from_json(old.to_json())) == []
    assert differences(old, replace(old, command="x", versions={}, git="y")) == []
    new = plan(methods=("ls",), seeds=(0, 1), settings={"size": 8, "patience": 3})
    assert differences(old, new) == [
        "methods: ls, uw -> ls",
        "seeds: 0 -> 0, 1",
        "options.size: 32 -> 8",
        "train.patience: None -> 3",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ("go4alig",)}, r"Found 'go4alig'\. Did you mean 'go4align'\?.*equipoise methods"),
        ({"methods": ("go4align:group=2",)}, r"Did you mean 'groups'\?"),
        (
            {"methods": ("go4align:groups=3",)},
            r"`groups` should be from 1 to the number of tasks, 2\. Found 3\.",
        ),
        ({"methods": ("ls+evry",)}, r"Did you mean 'every'\?"),
        ({"methods": ("graddrop+every",)}, r"`base` should be a method that returns task weights"),
        ({"methods": ("stl:task=c",)}, r"`task`, a name or a position, should be one of a, b\. Found 'c'\."),
        (
            {"methods": ("ls", "ls")},
            r"`methods` should be different from each other\. Found ls more than once\.",
        ),
        ({"methods": ("",)}, r"A method should have a name"),
        ({"lrs": (0.1, 0.0)}, r"`lr` should be different numbers above 0\. Found 0\.1, 0\."),
        ({"lrs": (0.1, 0.1)}, r"`lr` should be different numbers above 0\."),
        (
            {"settings": {"sizes": 3}},
            r"A setting should be one of .*\. Found 'sizes'\. Did you mean 'size'\?",
        ),
        ({"settings": {"epochs": 0}}, r"`epochs` should be greater than or equal to 1\. Found 0\."),
    ],
)
def test_what_cannot_be_run_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        plan(**changes)


def test_an_unknown_preset_is_refused_with_the_nearest() -> None:
    with pytest.raises(PlanError, match=r"A preset of toy should be one of quick\. Found 'quik'\. Did you"):
        make_plan(Toy, "quik")


def test_a_failed_run_has_no_score() -> None:
    made = plan()
    assert math.isnan(failed(made, pending(made, [])[0], "no").validation_score)
