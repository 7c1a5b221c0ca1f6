"""What protocols differ in: the schedule, the epochs that are reported, pictures, and where the time goes."""

import csv
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from torch import nn

from equipoise.training.config import RunConfig, TrainConfig
from equipoise.training.loop import Trainer
from equipoise.training.outcome import Hooks, InterruptedRunError, Outcome
from equipoise.training.pictures import load_pictures
from equipoise.training.problem import Loaders
from equipoise.training.schedule import Schedule
from toy import Batch, Drawn, NoValidation, Toy, ToyBatches


def config(method: str = "ls", **train: Any) -> RunConfig:
    return RunConfig(
        problem="toy", method=method, lr=0.01, seed=3, train=TrainConfig(**{"epochs": 6, **train})
    )


def run(where: Path, how: RunConfig, problem: Toy | None = None, hooks: Hooks | None = None) -> Outcome:
    return Trainer(problem or Toy(), how, where / "logs", where / "run.pt", hooks).run()


def column(where: Path, name: str) -> list[float]:
    with open(where / "logs" / "epochs.csv", newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


def test_the_step_schedule_halves_the_rate_after_so_many_epochs(tmp_path: Path) -> None:
    run(tmp_path, config("uw", schedule="step", step_epochs=2, step_factor=0.5))
    assert column(tmp_path, "lr") == pytest.approx([0.01, 0.01, 0.005, 0.005, 0.0025, 0.0025])


def test_the_step_schedule_counts_epochs_and_not_looks_at_the_validation_part(tmp_path: Path) -> None:
    run(tmp_path, config(schedule="step", step_epochs=2, evaluate_every=3))
    assert column(tmp_path, "lr") == pytest.approx([0.01, 0.01, 0.005, 0.005, 0.0025, 0.0025])


def test_a_constant_rate_stays_however_the_score_stalls(tmp_path: Path) -> None:
    run(tmp_path, config(schedule="constant", plateau_patience=0, epochs=12))
    assert column(tmp_path, "lr") == [0.01] * 12


def test_learned_weights_follow_the_schedule_too() -> None:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (1.0, 0.1)]
    optimizer = torch.optim.Adam(groups)
    train = TrainConfig(schedule="step", step_epochs=1, step_factor=0.1)
    schedule = Schedule(optimizer, train, per_epoch=1, steps=300)
    optimizer.step()
    schedule.end_epoch(None, 1)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.01])


def test_weight_decay_is_that_of_adam_and_spares_learned_weights(tmp_path: Path) -> None:
    trainer = Trainer(Toy(), config("uw", weight_decay=0.3), tmp_path, tmp_path / "run.pt")
    groups = trainer._optimizer.param_groups
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]


def test_the_last_epochs_are_averaged_and_none_is_selected(tmp_path: Path) -> None:
    toy = NoValidation()
    outcome = run(tmp_path, config(report="last", last_epochs=3), toy)
    for name in toy.reference:
        curve = column(tmp_path, f"val_{name}")
        assert len(curve) == 6
        assert outcome.metrics["test"][name] == pytest.approx(fmean(curve[-3:]), rel=1e-6)
    assert outcome.metrics["validation"] == outcome.metrics["test"]
    assert outcome.best_epoch == 6
    assert toy.test_reads == 6 + 0  # once an epoch; `trivial` takes its own look back


def test_with_a_validation_part_the_test_part_is_read_in_the_last_epochs_only(tmp_path: Path) -> None:
    toy = Toy()
    run(tmp_path, config(report="last", last_epochs=2), toy)
    assert toy.test_reads == 2


def test_every_one_of_the_last_epochs_is_looked_at(tmp_path: Path) -> None:
    run(tmp_path, config(report="last", last_epochs=2, evaluate_every=4))
    assert len(column(tmp_path, "val_a_mae")) == 3  # epochs 4, 5 and 6


def test_the_average_survives_a_stop(tmp_path: Path) -> None:
    how = config(report="last", last_epochs=4)
    whole = run(tmp_path / "whole", how)
    asked = iter(range(1, 1_000))
    with pytest.raises(InterruptedRunError):
        run(tmp_path / "parts", how, hooks=Hooks(stop=lambda: next(asked) == 36))
    assert run(tmp_path / "parts", how).metrics == whole.metrics


def test_pictures_of_the_selected_model_are_kept_for_runs_of_all_tasks(tmp_path: Path) -> None:
    run(tmp_path / "ls", config(), Drawn())
    found = load_pictures(tmp_path / "ls" / "logs")
    assert [picture.name for picture in found] == ["input", "a", "b"]
    assert float(found[1].truth) == 1.0
    assert found[1].prediction is not None
    assert float(found[1].prediction) == 2.0
    assert (found[1].unit, found[2].classes, found[0].prediction) == ("m", ("land", "sea"), None)
    run(tmp_path / "stl", config("stl:task=a"), Drawn())
    assert load_pictures(tmp_path / "stl" / "logs") == []


class SlowBatches(ToyBatches):
    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        for batch in super().epoch(number, start):
            time.sleep(0.01)
            yield batch


class SlowToy(Toy):
    def loaders(self, seed: int) -> Loaders:
        loaders = super().loaders(seed)
        assert isinstance(loaders.train, ToyBatches)
        train = loaders.train
        return replace(loaders, train=SlowBatches(train.x, train.y, train.batch_size, train.seed))


def test_waiting_for_batches_is_told_apart(tmp_path: Path) -> None:
    outcome = run(tmp_path, config(epochs=2), SlowToy())
    assert outcome.steps == 16
    assert 0.16 <= outcome.data_seconds < outcome.seconds
    assert outcome.evaluation_seconds > 0
