"""From records to a summary, on run directories that are small enough to compute by hand."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from equipoise.benchmark.records import Record, RunDirectoryError, append_record, write_plan
from equipoise.benchmark.statistics import summarise
from equipoise.benchmark.summary import Spread
from equipoise.training.task import Metric, Task
from report.run_directory import Shape, make_plan, make_record, write_csv, write_run_directory

TASKS = (Task("a", (Metric("a", False, "K"),)), Task("b", (Metric("b", True, "%"),)))
SHAPE = Shape(methods=("ls", "famo"), seeds=2, problem="toy", preset="paper")


def record(method: str, test: Mapping[str, float], seed: int = 0, **changes: Any) -> Record:
    task = method.partition("task=")[2] or None
    metrics = {"test": test, "trivial": {"a": 10.0, "b": 1.0}}
    made = make_record(method, metrics, seed=seed, lr=changes.pop("lr", 1e-3), task=task)
    return dataclasses.replace(made, **{"validation_score": 1.0, **changes})


def directory(
    path: Path, records: list[Record], shape: Shape = SHAPE, tasks: tuple[Task, ...] = TASKS
) -> Path:
    write_plan(path, make_plan(shape, tasks))
    for line in records:
        append_record(path, line)
    return path


def spread(mean: float, std: float | None, n: int) -> Spread:
    """A Spread that equals another one up to rounding."""
    near: Any = pytest.approx
    return Spread(near(mean), None if std is None else near(std), n)


COMPLETE = [
    record("ls", {"a": 4.0, "b": 4.0}),
    record("ls", {"a": 6.0, "b": 4.0}, seed=1),
    record("famo", {"a": 2.0, "b": 3.0}),
    record("famo", {"a": 2.0, "b": 3.0}, seed=1),
    record("stl:task=a", {"a": 3.0}),
    record("stl:task=a", {"a": 5.0}, seed=1),
    record("stl:task=b", {"b": 4.0}),
    record("stl:task=b", {"b": 4.0}, seed=1),
]


def test_means_spreads_and_ranks_over_seeds(tmp_path: Path) -> None:
    summary = summarise(directory(tmp_path, COMPLETE))
    ls, famo = summary.methods
    assert ls.metrics["a"] == spread(5.0, 2**0.5, 2)
    assert summary.baseline.values["a"].mean == 4.0
    assert summary.baseline.missing is None
    # per seed against the mean baseline: ls (0 + 0) / 2 and (50 + 0) / 2; famo twice (-50 + 25) / 2
    assert ls.delta_m == spread(12.5, 25 / 2**0.5, 2)
    assert famo.delta_m == Spread(-12.5, 0.0, 2)
    assert ls.changes == {"a": pytest.approx(25.0), "b": 0.0}
    assert (ls.mean_rank, famo.mean_rank) == (1.5, 1.5)
    assert summary.missing == ()
    assert not summary.is_demonstration


def test_one_seed_has_no_spread(tmp_path: Path) -> None:
    shape = dataclasses.replace(SHAPE, seeds=1)
    summary = summarise(directory(tmp_path, [line for line in COMPLETE if line.seed == 0], shape))
    assert summary.methods[0].metrics["a"] == Spread(4.0, None, 1)
    assert summary.methods[0].delta_m is not None
    assert summary.methods[0].delta_m.std is None


def test_the_learning_rate_that_validates_best_on_the_first_seed_counts(tmp_path: Path) -> None:
    lines = [
        record("ls", {"a": 1.0, "b": 1.0}, lr=1e-3, validation_score=3.0),
        record("ls", {"a": 9.0, "b": 9.0}, lr=5e-4, validation_score=2.0),
        record("ls", {"a": 7.0, "b": 9.0}, lr=5e-4, seed=1, validation_score=99.0),
        record("ls", {"a": 1.0, "b": 1.0}, lr=1e-3, seed=1, validation_score=0.0),
        record("ls", {"a": 0.0, "b": 9.0}, lr=1e-4, validation_score=float("nan")),
    ]
    shape = dataclasses.replace(SHAPE, lrs=(1e-3, 5e-4, 1e-4))
    (ls,) = summarise(directory(tmp_path, lines, shape)).methods
    assert ls.lr == 5e-4
    assert [run.run_id for run in ls.runs] == ["ls-lr0.0005-seed0", "ls-lr0.0005-seed1"]
    assert ls.metrics["a"].mean == 8.0


def test_baselines_choose_their_learning_rate_too(tmp_path: Path) -> None:
    lines = [
        record("stl:task=a", {"a": 1.0}, lr=1e-3, validation_score=3.0),
        record("stl:task=a", {"a": 2.0}, lr=5e-4, validation_score=2.0),
    ]
    summary = summarise(directory(tmp_path, lines, dataclasses.replace(SHAPE, lrs=(1e-3, 5e-4))))
    assert summary.baseline.values["a"].mean == 2.0


def test_without_a_baseline_there_is_no_delta_m_and_the_reason_is_said(tmp_path: Path) -> None:
    lines = [line for line in COMPLETE if line.method != "stl:task=b"]
    summary = summarise(directory(tmp_path, lines))
    assert summary.baseline.missing == "no finished single-task run of b"
    assert summary.methods[0].delta_m is None
    assert summary.methods[0].changes == {"a": pytest.approx(25.0)}
    assert summary.missing == (
        "stl_task-b-lr0.001-seed0",
        "1 on the other seeds, once the learning rates are chosen",
    )


@pytest.mark.parametrize("value", [0.0, -0.3])
def test_delta_m_leaves_out_what_the_single_task_network_did_not_get_above_zero(
    tmp_path: Path, value: float
) -> None:
    lines = [*COMPLETE, record("stl:task=b", {"b": value}), record("stl:task=b", {"b": value}, seed=1)]
    summary = summarise(directory(tmp_path, lines))
    assert summary.baseline.left_out == ("b",)
    assert summary.baseline.missing is None
    ls, famo = summary.methods
    assert ls.delta_m == spread(25.0, 50 / 2**0.5, 2)  # of a alone: (0 and 50) %
    assert famo.changes == {"a": pytest.approx(-50.0)}


def test_where_no_single_task_value_is_above_zero_there_is_no_delta_m(tmp_path: Path) -> None:
    lines = [line for line in COMPLETE if "stl" not in line.method]
    lines += [record("stl:task=a", {"a": 0.0}), record("stl:task=b", {"b": -1.0})]
    summary = summarise(directory(tmp_path, lines))
    assert summary.baseline.missing == "no single-task value is above 0"
    assert summary.baseline.left_out == ("a", "b")
    assert [(row.delta_m, row.changes) for row in summary.methods] == [(None, {})] * 2


def test_without_baselines_nothing_is_missing_and_there_is_no_delta_m(tmp_path: Path) -> None:
    shape = dataclasses.replace(SHAPE, baselines="none")
    summary = summarise(directory(tmp_path, COMPLETE[:4], shape))
    assert summary.baseline.source == "none"
    assert summary.baseline.missing == "single-task networks were not asked for"
    assert summary.missing == ()
    assert [(row.delta_m, row.changes) for row in summary.methods] == [(None, {})] * 2
    assert [row.mean_rank for row in summary.methods] == [1.5, 1.5]


def test_a_long_list_of_missing_baselines_is_cut(tmp_path: Path) -> None:
    tasks = tuple(Task(f"t{k}", (Metric(f"t{k}", False, ""),)) for k in range(15))
    summary = summarise(directory(tmp_path, [record("ls", {"t0": 1.0})], tasks=tasks))
    assert summary.baseline.missing is not None
    assert summary.baseline.missing.endswith("t10, t11 and 3 more")


def test_the_last_record_of_a_run_counts(tmp_path: Path) -> None:
    summary = summarise(directory(tmp_path, [*COMPLETE, record("ls", {"a": 8.0, "b": 4.0})]))
    assert summary.methods[0].metrics["a"].mean == 7.0
    assert len(summary.records) == len(COMPLETE)


def test_failed_runs_are_listed_and_not_averaged(tmp_path: Path) -> None:
    bad = record("ls", {}, seed=1, status="failed", error="loss is nan")
    summary = summarise(directory(tmp_path, [*COMPLETE, bad]))
    assert [run.error for run in summary.failed] == ["loss is nan"]
    assert summary.methods[0].metrics["a"] == Spread(4.0, None, 1)


def test_a_method_whose_runs_all_failed_is_left_out(tmp_path: Path) -> None:
    lines = [dataclasses.replace(line, status="failed") if line.method == "ls" else line for line in COMPLETE]
    assert [row.method for row in summarise(directory(tmp_path, lines)).methods] == ["famo"]


def test_runs_still_to_come_are_named(tmp_path: Path) -> None:
    summary = summarise(directory(tmp_path, COMPLETE[:3]))
    assert summary.missing[:2] == ("stl_task-a-lr0.001-seed0", "stl_task-b-lr0.001-seed0")
    assert "famo-lr0.001-seed1" in summary.missing


def test_a_task_is_learnt_if_it_beats_the_trivial_guess_by_a_fifth(tmp_path: Path) -> None:
    lines = [
        record("ls", {"a": 8.01, "b": 1.19}),
        record("famo", {"a": 7.99, "b": 1.21}),
        record("stl:task=a", {"a": 9.0}),
        record("stl:task=b", {"b": float("nan")}),
    ]
    summary = summarise(directory(tmp_path, lines, dataclasses.replace(SHAPE, seeds=1)))
    assert [row.not_learnt for row in summary.methods] == [{"a", "b"}, frozenset()]
    assert summary.baseline.not_learnt == {"a", "b"}


@pytest.mark.parametrize(
    ("unit", "trivial", "value", "learnt"),
    [
        ("", -0.0001, 0.19, False),  # R2 of the training mean is never above 0
        ("", -0.0001, 0.21, True),
        ("%", 0.0, 19.0, False),
        ("%", 0.0, 21.0, True),
        ("F1", 0.9, 0.919, False),  # 20 % better than 0.9 would be above 1
        ("F1", 0.9, 0.921, True),
        ("", 0.5, 0.59, False),
        ("", 0.5, 0.61, True),
    ],
)
def test_what_a_task_has_to_gain_fits_on_the_scale(
    tmp_path: Path, unit: str, trivial: float, value: float, learnt: bool
) -> None:
    tasks = (Task("a", (Metric("a r2", True, unit),)),)
    lines = [make_record("ls", {"test": {"a r2": value}, "trivial": {"a r2": trivial}})]
    (ls,) = summarise(directory(tmp_path, lines, tasks=tasks)).methods
    assert ls.not_learnt == (frozenset() if learnt else {"a r2"})


def test_published_constants_are_an_explicit_choice(tmp_path: Path) -> None:
    tasks = (Task("mu", (Metric("mu", False, "D"),)), Task("homo", (Metric("homo", False, "meV"),)))
    lines = [record("ls", {"mu": 0.1342, "homo": 60.576}), record("stl:task=mu", {"mu": 1.0})]
    shape = dataclasses.replace(SHAPE, problem="qm9", seeds=1)
    path = directory(tmp_path, lines, shape, tasks)
    assert summarise(path).baseline.source == "own"
    summary = summarise(path, baselines="published")
    assert summary.baseline.source == "published"
    assert summary.methods[0].delta_m == spread(50.0, None, 1)


@pytest.mark.parametrize(("problem", "reason"), [("toy", "of toy"), ("qm9", "of a, b")])
def test_missing_published_constants_are_a_reason(tmp_path: Path, problem: str, reason: str) -> None:
    shape = dataclasses.replace(SHAPE, problem=problem, baselines="published")
    path = directory(tmp_path, [line for line in COMPLETE if line.task is None], shape)
    summary = summarise(path)
    assert summary.baseline.missing == f"no published single-task numbers {reason}"
    assert summary.methods[0].delta_m is None


def test_convergence_comes_from_the_epoch_logs(tmp_path: Path) -> None:
    path = directory(tmp_path, COMPLETE)
    rows: list[dict[str, Any]] = [
        {"epoch": 1, "val_a": 10.0, "val_b": 0.0},
        {"epoch": 2, "val_a": "", "val_b": ""},
        {"epoch": 3, "val_a": 0.0, "val_b": 5.0},
        {"epoch": 5, "val_a": 0.0, "val_b": 10.0},
    ]
    write_csv(path / "runs" / "ls-lr0.001-seed0" / "epochs.csv", rows)
    ls, famo = summarise(path).methods
    assert ls.convergence == Spread(1.0, None, 1)
    assert ls.convergence_epochs == {"a": 3, "b": 5}
    assert famo.convergence is None
    assert famo.convergence_epochs == {}
    (loose, _) = summarise(path, tolerance=0.6).methods
    assert loose.convergence_epochs == {"a": 3, "b": 3}


def test_the_half_row_of_a_kill_is_not_read(tmp_path: Path) -> None:
    path = directory(tmp_path, COMPLETE)
    log = path / "runs" / "ls-lr0.001-seed0" / "epochs.csv"
    write_csv(log, [{"epoch": 1, "val_a": 10.0, "val_b": 1.0}, {"epoch": 2, "val_a": 5.0, "val_b": 2.0}])
    log.write_text(log.read_text() + "3,4.")
    assert summarise(path).methods[0].convergence_epochs == {"a": 2, "b": 2}


def test_cost_is_mean_time_and_largest_memory(tmp_path: Path) -> None:
    lines = [
        record("ls", {"a": 1.0, "b": 1.0}, seconds_per_step=0.1, peak_memory_mb=10.0, fallbacks=1),
        record("ls", {"a": 1.0, "b": 1.0}, 1, seconds_per_step=0.3, peak_memory_mb=None, fallbacks=2),
    ]
    (ls,) = summarise(directory(tmp_path, lines)).methods
    assert ls.seconds_per_step.mean == pytest.approx(0.2)
    assert ls.peak_memory_mb == 10.0
    assert ls.fallbacks == 3


def test_a_directory_without_a_finished_run_is_refused(tmp_path: Path) -> None:
    directory(tmp_path, [])
    with pytest.raises(RunDirectoryError, match="should hold at least one finished run. Found no line"):
        summarise(tmp_path)


def test_a_full_synthetic_run_is_complete(tmp_path: Path) -> None:
    shape = Shape(methods=("ls", "go4align:groups=5"), seeds=2, epochs=3, steps=4, lrs=(1e-3, 5e-4))
    summary = summarise(write_run_directory(tmp_path, shape))
    assert summary.missing == ()
    assert summary.is_demonstration
    assert all(len(row.runs) == 2 and row.delta_m and row.convergence for row in summary.methods)
    assert json.loads((tmp_path / "plan.json").read_text())["format"] == 2
