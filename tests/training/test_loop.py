"""The loop: the same numbers every time, whatever stops it on the way."""

import csv
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

import equipoise as eq
from equipoise.training.checkpoint import load_checkpoint
from equipoise.training.config import RunConfig, TrainConfig
from equipoise.training.loop import Trainer
from equipoise.training.outcome import DivergedError, Hooks, InterruptedRunError, Outcome, Progress
from equipoise.training.problem import Loaders
from toy import Toy

METHODS = ["ls", "uw", "famo", "rlw", "go4align:groups=2", "nashmtl", "graddrop", "modo", "stl:task=b"]


def config(method: str = "ls", **train: Any) -> RunConfig:
    return RunConfig(
        problem="toy", method=method, lr=0.01, seed=3, train=TrainConfig(**{"epochs": 4, **train})
    )


def run(where: Path, how: RunConfig, hooks: Hooks | None = None, problem: Toy | None = None) -> Outcome:
    return Trainer(problem or Toy(), how, where / "logs", where / "run.pt", hooks).run()


class Whole(NamedTuple):
    """What a run that was not stopped has left."""

    how: RunConfig
    where: Path
    outcome: Outcome


def numbers(outcome: Outcome) -> tuple[Any, ...]:
    """All that may not depend on the clock."""
    o = outcome
    return o.metrics, o.validation_score, o.best_epoch, o.epochs, o.steps, o.fallbacks, o.parameters


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return [
            {key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)
        ]


def stop_after(steps: int) -> Hooks:
    asked = iter(range(1, 1_000_000))
    return Hooks(stop=lambda: next(asked) == steps)


def test_the_loop_equals_plain_pytorch(tmp_path: Path) -> None:
    toy, how = Toy(), config("ls", plateau_patience=0)
    outcome = run(tmp_path, how)
    model, loaders = toy.model(3), toy.loaders(3)
    torch.manual_seed(trainer_seed())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.7, patience=0, min_lr=1e-5)
    best: tuple[float, int, dict[str, float], dict[str, float]] = (math.inf, 0, {}, {})
    for epoch in range(1, 5):
        model.train()
        for batch in loaders.train.epoch(epoch):
            optimizer.zero_grad()
            losses = toy.losses(model, batch)
            (losses["a"] + losses["b"]).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            found, test = toy.evaluate(model, loaders.validation), toy.evaluate(model, loaders.test)
        change = [(found["a_mae"] - 0.5) / 0.5, -(found["b_r2"] - 0.5) / 0.5, (found["b_mae"] - 0.5) / 0.5]
        score = 100 * sum(change) / 3
        scheduler.step(score)
        best = min(best, (score, epoch, found, test), key=lambda entry: entry[0])
    assert outcome.validation_score == pytest.approx(best[0], rel=1e-5)
    assert outcome.best_epoch == best[1]
    assert outcome.metrics["validation"] == pytest.approx(best[2], rel=1e-5)
    assert outcome.metrics["test"] == pytest.approx(best[3], rel=1e-5)
    assert outcome.metrics["trivial"] == toy.trivial(3)


def trainer_seed() -> int:
    from equipoise.training.setup import stream_seed

    return stream_seed(3, "training")


def test_the_test_part_is_read_once(tmp_path: Path) -> None:
    toy = Toy()
    run(tmp_path, config(), problem=toy)
    assert toy.test_reads == 1


def test_progress_counts_every_step(tmp_path: Path) -> None:
    told: list[Progress] = []
    outcome = run(tmp_path, config(max_steps=20), Hooks(progress=told.append))
    assert outcome.steps == 20
    assert [progress.step for progress in told] == list(range(1, 21))
    assert {progress.steps for progress in told} == {20}
    assert told[0].validation_score is None
    assert told[-1].epoch == 3


def test_a_method_of_two_batches_gets_the_next_one_as_its_second(tmp_path: Path) -> None:
    class Watched(Toy):
        def losses(self, model: nn.Module, batch: Any) -> dict[str, torch.Tensor]:
            seen.append(batch)
            return dict(super().losses(model, batch))

    seen: list[Any] = []
    toy = Watched(size=12)
    order = [batch for epoch in (1, 2) for batch in list(toy.loaders(3).train.epoch(epoch))[:-1]]
    outcome = run(tmp_path, config("modo", epochs=2), problem=toy)
    assert len(toy.loaders(3).train) == 3
    assert (outcome.steps, len(seen)) == (2, 4)
    for place, taken in enumerate([1, 0, 3, 2]):  # the second batch is measured first
        torch.testing.assert_close(seen[place][0], order[taken][0])
    with pytest.raises(ValueError, match=r"at least 2 batch.*, which modo takes for a step\. Found 1\."):
        run(tmp_path / "short", config("modo"), problem=Toy(size=4))


class Follows(eq.Weighting):
    """Weighs by the validation losses, which the loop has to show it."""

    second_batch = "validation"

    def forward(self, stats: eq.TaskStats) -> torch.Tensor:
        return stats.other.losses


@pytest.mark.parametrize("stops", [[], [3], [2, 5]])
def test_a_method_of_validation_losses_sees_its_batches_in_turn(
    stops: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(eq.METHODS, "follows", Follows)
    seen: list[torch.Tensor] = []
    parts = list(Toy().loaders(3).train.epoch(99))[:3]

    class Watched(Toy):
        def loaders(self, seed: int) -> Loaders:
            return replace(super().loaders(seed), validation=parts)

        def evaluate(self, model: nn.Module, loader: Any) -> dict[str, float]:
            return {"a_mae": 1.0, "b_r2": 0.1, "b_mae": 1.0}

        def losses(self, model: nn.Module, batch: Any) -> dict[str, torch.Tensor]:
            if not model.training:
                assert not torch.is_grad_enabled()
                seen.append(batch[0])
            return dict(super().losses(model, batch))

    how = config("follows", epochs=1)
    for steps in stops:
        with pytest.raises(InterruptedRunError):
            run(tmp_path, how, stop_after(steps), problem=Watched())
    outcome = run(tmp_path, how, problem=Watched())
    assert (outcome.steps, len(seen)) == (8, 8)
    for i, batch in enumerate(seen):
        torch.testing.assert_close(batch, parts[i % len(parts)][0])


def test_max_steps_ends_within_an_epoch_and_still_validates(tmp_path: Path) -> None:
    outcome = run(tmp_path, config(max_steps=19, evaluate_every=4))
    logged = rows(tmp_path / "logs" / "epochs.csv")
    assert [row["val_score"] == "" for row in logged] == [True, True, False]
    assert outcome.best_epoch == 3
    assert outcome.epochs == 3


def test_early_stop_ends_after_patience_looks_without_a_better_score(tmp_path: Path) -> None:
    class Worse(Toy):
        looks = 0

        def evaluate(self, model: nn.Module, loader: Any) -> dict[str, float]:
            self.looks += 1
            return {"a_mae": 1.0 + self.looks, "b_r2": 0.1, "b_mae": 1.0}

    outcome = run(tmp_path, config(epochs=50, patience=3), problem=Worse())
    assert (outcome.best_epoch, outcome.epochs) == (1, 4)


def test_a_single_task_run_trains_and_measures_its_own_task_only(tmp_path: Path) -> None:
    outcome = run(tmp_path, config("stl:task=b"))
    assert set(outcome.metrics["test"]) == {"b_r2", "b_mae"} == set(outcome.metrics["trivial"])
    change = outcome.metrics["validation"]
    score = 100 * (-(change["b_r2"] - 0.5) / 0.5 + (change["b_mae"] - 0.5) / 0.5) / 2
    assert outcome.validation_score == pytest.approx(score)
    assert "loss_a" not in rows(tmp_path / "logs" / "steps.csv")[0]
    by_position = run(tmp_path / "position", config("stl:task=1"))
    assert numbers(by_position) == numbers(outcome)


@pytest.fixture(scope="module")
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A run of a method that is not stopped, for all the ways to stop it."""
    where, how = tmp_path_factory.mktemp("whole"), config(request.param)
    return Whole(how, where, run(where, how))


@pytest.mark.parametrize("whole", METHODS, indirect=True)
@pytest.mark.parametrize("stops", [[1], [8], [13, 3]])
def test_stopped_and_resumed_is_the_same_run(whole: Whole, stops: list[int], tmp_path: Path) -> None:
    for steps in stops:
        with pytest.raises(InterruptedRunError, match=r"Stopped after step \d+ of (16|32)\."):
            run(tmp_path, whole.how, stop_after(steps))
    assert numbers(run(tmp_path, whole.how)) == numbers(whole.outcome)
    for name in ("steps.csv", "epochs.csv"):
        assert rows(tmp_path / "logs" / name) == rows(whole.where / "logs" / name)


def test_a_run_resumed_after_its_end_gives_the_same_record(tmp_path: Path) -> None:
    assert numbers(run(tmp_path, config())) == numbers(run(tmp_path, config()))


_SLOW_RUN = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch; torch.set_num_threads(1)
from toy import Toy
from equipoise.training.config import RunConfig, TrainConfig
from equipoise.training.loop import Trainer
from equipoise.training.outcome import Hooks
how = RunConfig.model_validate_json({how!r})
where = Path({where!r})
Trainer(Toy(sleep=0.02), how, where / "logs", where / "run.pt", Hooks(checkpoint_seconds=0.05)).run()
"""


def test_a_run_killed_without_warning_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    how = config("uw", epochs=30)
    tests = str(Path(__file__).parents[1])
    script = _SLOW_RUN.format(tests=tests, how=how.model_dump_json(), where=str(tmp_path / "killed"))
    process = subprocess.Popen([sys.executable, "-c", script])
    steps = tmp_path / "killed" / "logs" / "steps.csv"
    deadline = time.monotonic() + 60
    while (not steps.exists() or len(rows(steps)) < 12) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    state = load_checkpoint(tmp_path / "killed" / "run.pt", print)
    assert state is not None
    assert 0 < state["position"]["step"] < 240
    with open(steps, "a") as file:
        file.write("9999,1,0.1")  # what a kill within a write leaves
    resumed, whole = run(tmp_path / "killed", how), run(tmp_path / "whole", how)
    assert numbers(resumed) == numbers(whole)
    for name in ("steps.csv", "epochs.csv"):
        assert rows(tmp_path / "killed/logs" / name) == rows(tmp_path / "whole/logs" / name)


def test_a_damaged_checkpoint_is_said_and_the_one_before_is_used(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", config())
    with pytest.raises(InterruptedRunError):
        run(tmp_path, config(), stop_after(20))
    path = tmp_path / "run.pt"
    path.write_bytes(path.read_bytes()[:1000])
    said: list[str] = []
    assert numbers(run(tmp_path, config(), Hooks(say=said.append))) == numbers(whole)
    assert len(said) == 1
    assert said[0].endswith("The one before it is used.")


def test_a_checkpoint_of_another_run_is_said_and_not_used(tmp_path: Path) -> None:
    with pytest.raises(InterruptedRunError):
        run(tmp_path, config("uw"), stop_after(5))
    said: list[str] = []
    outcome = run(tmp_path, config("ls"), Hooks(say=said.append))
    assert said == [f"The checkpoint {tmp_path / 'run.pt'} is of another run. The run starts again."]
    assert numbers(outcome) == numbers(run(tmp_path / "whole", config("ls")))


def test_seeds_change_everything_and_nothing_else_does(tmp_path: Path) -> None:
    other = config("rlw").model_copy(update={"seed": 4})
    first, again = (run(tmp_path / name, how) for name, how in (("1", config("rlw")), ("2", config("rlw"))))
    assert numbers(first) == numbers(again)
    assert run(tmp_path / "3", other).metrics != first.metrics


def test_a_nan_loss_is_an_error_that_names_the_task(tmp_path: Path) -> None:
    (tmp_path / "bad").touch()
    with pytest.raises(ValueError, match="b: nan"):
        run(tmp_path, config(), problem=Toy(bad=str(tmp_path / "bad")))


def test_a_metric_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    class Bad(Toy):
        def evaluate(self, model: nn.Module, loader: Any) -> dict[str, float]:
            return {"a_mae": math.nan, "b_r2": 0.1, "b_mae": 1.0}

    with pytest.raises(
        DivergedError, match=r"validation metric a_mae should be finite\. Found nan after epoch 1"
    ):
        run(tmp_path, config(), problem=Bad())


def test_a_training_part_without_a_batch_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"should fill at least 1 batch.*, which ls takes for a step\. Found 0\."
    ):
        run(tmp_path, config(), problem=Toy(size=3))


def test_the_learned_weights_have_their_own_learning_rate(tmp_path: Path) -> None:
    trainer = Trainer(Toy(), config("uw", method_lr=0.5), tmp_path / "logs", tmp_path / "run.pt")
    groups = trainer._optimizer.param_groups
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(0.01, 0.0), (0.5, 0.0)]
    trainer.run()
    weights = [float(row["weight_a"]) for row in rows(tmp_path / "logs" / "steps.csv")]
    assert weights[0] == 0.5
    assert abs(math.log(weights[1] / 0.5)) == pytest.approx(0.5, rel=1e-3)  # Adam's first step is lr
