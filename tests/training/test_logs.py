"""The logs of a run: right columns, right rows, also after a resume."""

import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from equipoise.engine import StepRecord
from equipoise.training.logs import RunLog, Table
from equipoise.training.storage import StorageError


def record(value: float, grouped: bool = False) -> StepRecord:
    losses = torch.tensor([value, 2 * value], dtype=torch.float64)
    if not grouped:
        return StepRecord(losses / 2, losses)
    groups = {
        "indicators": torch.tensor([0.25, 4.0]),
        "assignment": torch.tensor([1, 0]),
        "group_weights": torch.tensor([0.5, 8.0, 9.0]),
    }
    opposed = torch.tensor([[1.0, -0.5], [-0.5, 1.0]])
    return StepRecord(losses / 2, losses, opposed, torch.tensor(True), groups)


def test_plain_methods_have_losses_and_weights(tmp_path: Path) -> None:
    log = RunLog(tmp_path, ["a", "b"])
    log.step(1, 1, record(1.0))
    log.step(2, 1, record(1 / 3))
    log.close()
    assert (tmp_path / "steps.csv").read_text().splitlines() == [
        "step,epoch,loss_a,loss_b,weight_a,weight_b",
        "1,1,1,2,0.5,1",
        "2,1,0.33333333,0.66666667,0.16666667,0.33333333",
    ]


def test_groups_conflict_and_fallback_are_shown_per_task(tmp_path: Path) -> None:
    log = RunLog(tmp_path, ["a", "b"])
    log.step(1, 1, record(1.0, grouped=True))
    log.close()
    (row,) = Table(tmp_path / "steps.csv").read()
    assert (row["group_a"], row["group_b"]) == ("1", "0")
    assert (row["indicator_a"], row["indicator_b"]) == ("0.25", "4")
    assert (row["group_weight_a"], row["group_weight_b"]) == ("8", "0.5")
    assert (row["conflict"], row["fallback"]) == ("1", "1")


def test_only_every_kth_step_has_a_row(tmp_path: Path) -> None:
    log = RunLog(tmp_path, ["a", "b"], every=3)
    for step in range(1, 8):
        log.step(step, 1, record(1.0))
    log.close()
    assert [row["step"] for row in Table(tmp_path / "steps.csv").read()] == ["1", "4", "7"]


def test_a_full_buffer_is_written_without_being_asked(tmp_path: Path) -> None:
    log = RunLog(tmp_path, ["a", "b"])
    for step in range(1, 258):
        log.step(step, 1, record(1.0))
    assert len(Table(tmp_path / "steps.csv").read()) == 256
    log.close()


def test_what_a_step_showed_is_kept_though_the_method_goes_on(tmp_path: Path) -> None:
    log, shown = RunLog(tmp_path, ["a", "b"]), record(1.0, grouped=True)
    log.step(1, 1, shown)
    shown.weights.zero_()
    shown.diagnostics["assignment"].zero_()
    log.close()
    (row,) = Table(tmp_path / "steps.csv").read()
    assert (row["weight_b"], row["group_a"]) == ("1", "1")


def test_resumed_logs_lose_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    log = RunLog(tmp_path, ["a", "b"])
    for step in range(1, 7):
        log.step(step, 1 + step // 4, record(float(step)))
        if step in (3, 6):
            log.epoch({"epoch": step // 3, "step": step, "val_score": 1.0 * step})
    log.close()
    with open(tmp_path / "steps.csv", "a") as file:
        file.write("7,2,0.")
    log = RunLog(tmp_path, ["a", "b"], step=4, epoch=2)
    log.step(5, 2, record(50.0))
    log.epoch({"epoch": 2, "step": 5, "val_score": 7.0})
    log.close()
    steps = Table(tmp_path / "steps.csv").read()
    assert [(row["step"], row["loss_a"]) for row in steps] == [
        ("1", "1"), ("2", "2"), ("3", "3"), ("4", "4"), ("5", "50")
    ]  # fmt: skip
    epochs = Table(tmp_path / "epochs.csv").read()
    assert [(row["epoch"], row["val_score"]) for row in epochs] == [("1", "3"), ("2", "7")]


def test_logs_of_a_run_that_starts_again_are_new(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        log = RunLog(tmp_path / "run", ["a", "b"])
        log.step(1, 1, record(value))
        log.close()
    assert [row["loss_a"] for row in Table(tmp_path / "run" / "steps.csv").read()] == ["2"]
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1


def test_a_column_that_comes_later_is_added_to_the_rows_before(tmp_path: Path) -> None:
    table = Table(tmp_path / "t.csv")
    table.append([{"step": 1, "x": 0.5}])
    table.append([{"step": 2, "y": float("nan")}, {"step": 3, "x": None, "y": 2.0}])
    assert (tmp_path / "t.csv").read_text().splitlines() == ["step,x,y", "1,0.5,", "2,,", "3,,2"]


def test_tensorboard_gets_the_same_numbers(tmp_path: Path) -> None:
    log = RunLog(tmp_path, ["a", "b"])
    log.step(1, 1, record(3.0))
    log.epoch({"epoch": 1, "step": 1, "val_a": 5.0, "val_score": None})
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    found = {tag: events.Scalars(tag)[0].value for tag in events.Tags()["scalars"]}
    assert found == {"loss/a": 3, "loss/b": 6, "weight/a": 1.5, "weight/b": 3, "epoch/val_a": 5}


def test_tensorboard_leaves_out_single_tasks_where_there_are_hundreds(tmp_path: Path) -> None:
    tasks = [f"t{i}" for i in range(101)]
    many = StepRecord(torch.ones(101), torch.ones(101))
    log = RunLog(tmp_path, tasks)
    log.step(1, 1, many)
    log.epoch({"epoch": 1, "step": 1, "val_score": 3.0, "train_t0": 1.0, "lr": 0.1})
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert events.Tags()["scalars"] == ["epoch/val_score", "epoch/lr"]
    (row,) = Table(tmp_path / "steps.csv").read()
    assert row["loss_t100"] == row["weight_t100"] == "1"


def test_a_missing_tensorboard_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(
        ImportError, match=r'Training runs need tensorboard: pip install "equipoise\[cli\]"\.'
    ):
        RunLog(tmp_path, ["a"])


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"file/run could not be written: .*"):
        RunLog(tmp_path / "file" / "run", ["a"])
    log = RunLog(tmp_path / "run", ["a", "b"])
    (tmp_path / "run" / "steps.csv").mkdir()
    log.step(1, 1, record(1.0))
    with pytest.raises(StorageError, match="Is a directory"):
        log.close()
