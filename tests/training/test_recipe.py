"""The recipe of transformers: AdamW, a linear warm-up, and a cosine to the end of the run."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from equipoise.benchmark.plan import Overrides, differences, make_plan
from equipoise.training.config import RunConfig, TrainConfig
from equipoise.training.loop import Trainer
from equipoise.training.outcome import Hooks, InterruptedRunError, Outcome
from equipoise.training.problem import Loaders
from equipoise.training.schedule import Schedule
from equipoise.training.setup import stream_seed
from toy import Batch, Toy, ToyBatches

LR = 0.01
PER_EPOCH = 8  # steps of the toy


def config(method: str = "ls", **train: Any) -> RunConfig:
    return RunConfig(problem="toy", method=method, lr=LR, seed=3, train=TrainConfig(**{"epochs": 6, **train}))


class Rates:
    """The rates of the groups of a run's optimizer, as each step finds them."""

    def __init__(self) -> None:
        self.model: list[float] = []
        self.learned: list[float] = []

    def watch(self, trainer: Trainer) -> None:
        def note(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            first, *rest = (group["lr"] for group in optimizer.param_groups)
            self.model.append(first)
            self.learned += rest

        trainer._optimizer.register_step_pre_hook(note)


def run(
    where: Path,
    how: RunConfig,
    *,
    rates: Rates | None = None,
    stop: int | None = None,
    problem: Toy | None = None,
) -> Outcome:
    asked = iter(range(1, 1_000_000))
    hooks = Hooks() if stop is None else Hooks(stop=lambda: next(asked) == stop)
    trainer = Trainer(problem or Toy(), how, where / "logs", where / "run.pt", hooks)
    if rates is not None:
        rates.watch(trainer)
    return trainer.run()


def rates_of(where: Path, how: RunConfig, problem: Toy | None = None) -> list[float]:
    rates = Rates()
    run(where, how, rates=rates, problem=problem)
    return rates.model


def logged(where: Path, file: str) -> list[dict[str, str]]:
    with open(where / "logs" / file, newline="") as lines:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(lines)]


def cosine(t: int, end: int, least: float) -> float:
    return least + (LR - least) * (1 + math.cos(math.pi * t / end)) / 2


def test_the_rate_is_that_of_the_formula_at_every_step(tmp_path: Path) -> None:
    how = config(schedule="cosine", warmup_epochs=2, min_lr=1e-4)
    expected = [LR * (t + 1) / 16 for t in range(16)] + [cosine(t, 32, 1e-4) for t in range(32)]
    assert rates_of(tmp_path, how) == pytest.approx(expected, rel=1e-12)
    assert [float(row["lr"]) for row in logged(tmp_path, "epochs.csv")] == pytest.approx(
        expected[7::8], rel=1e-6
    )


def test_without_a_warm_up_the_cosine_spans_the_run(tmp_path: Path) -> None:
    found = rates_of(tmp_path, config(schedule="cosine", min_lr=0.0))
    assert found == pytest.approx([cosine(t, 48, 0.0) for t in range(48)], rel=1e-12)
    assert found[0] == LR
    assert found[24] == pytest.approx(LR / 2)
    assert 0 < found[-1] < LR / 500


def test_the_cosine_ends_with_max_steps(tmp_path: Path) -> None:
    found = rates_of(tmp_path, config(schedule="cosine", warmup_epochs=1, max_steps=21, min_lr=1e-3))
    assert found == pytest.approx(
        [LR * (t + 1) / 8 for t in range(8)] + [cosine(t, 13, 1e-3) for t in range(13)], rel=1e-12
    )


def plain(lr: float = LR) -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)


def test_equals_the_schedulers_of_torch() -> None:
    """LinearLR from 1 / W to 1 and CosineAnnealingLR, which have the same definitions, one after the other."""
    ours, theirs = plain(), plain()
    train = TrainConfig(epochs=50, warmup_epochs=10, schedule="cosine", min_lr=1e-5)
    schedule = Schedule(ours, train, per_epoch=3, steps=150)
    warm = lr_scheduler.LinearLR(theirs, start_factor=1 / 30, end_factor=1.0, total_iters=29)
    found, expected = [], []
    for t in range(150):
        schedule.before_step(t)
        found.append(ours.param_groups[0]["lr"])
        if t == 30:
            theirs.param_groups[0]["lr"] = LR
            annealed = lr_scheduler.CosineAnnealingLR(theirs, T_max=120, eta_min=1e-5)
        expected.append(theirs.param_groups[0]["lr"])
        theirs.step()
        (warm if t < 30 else annealed).step()
    assert found == pytest.approx(expected, rel=1e-9)


def test_a_warm_up_precedes_steps_which_count_from_its_end(tmp_path: Path) -> None:
    how = config(schedule="step", step_epochs=2, step_factor=0.5, warmup_epochs=1, epochs=6)
    expected = [LR * (t + 1) / 8 for t in range(8)]
    expected += [LR] * 16 + [LR / 2] * 16 + [LR / 4] * 8
    assert rates_of(tmp_path, how) == pytest.approx(expected, rel=1e-12)


def test_a_warm_up_precedes_a_constant_rate(tmp_path: Path) -> None:
    found = rates_of(tmp_path, config(schedule="constant", warmup_epochs=3, epochs=5))
    assert found == pytest.approx([LR * (t + 1) / 24 for t in range(24)] + [LR] * 16, rel=1e-12)


class Stalled(Toy):
    """A toy whose score is always the same."""

    def evaluate(self, model: nn.Module, loader: Any) -> dict[str, float]:
        return dict.fromkeys(("a_mae", "b_r2", "b_mae"), 1.0)


def test_a_plateau_counts_looks_from_the_end_of_the_warm_up(tmp_path: Path) -> None:
    how = config(warmup_epochs=3, plateau_patience=1, plateau_factor=0.5, epochs=8)
    # Looks after epochs 4 (the best), 5 and 6 (two that stall), 7 and 8 (two more, after the last step).
    expected = [LR * (t + 1) / 24 for t in range(24)] + [LR] * 24 + [LR / 2] * 16
    assert rates_of(tmp_path, how, Stalled()) == pytest.approx(expected, rel=1e-12)


def test_learned_weights_keep_their_rate_through_warm_up_and_cosine(tmp_path: Path) -> None:
    rates = Rates()
    how = config("uw", schedule="cosine", warmup_epochs=2, optimizer="adamw", weight_decay=0.3)
    run(tmp_path, how, rates=rates)
    assert rates.learned == [0.025] * 48
    assert len({*rates.model}) > 40


def test_learned_weights_do_not_decay_with_adamw(tmp_path: Path) -> None:
    trainer = Trainer(Toy(), config("uw", optimizer="adamw", weight_decay=0.3), tmp_path, tmp_path / "run.pt")
    assert isinstance(trainer._optimizer, torch.optim.AdamW)
    assert [group["weight_decay"] for group in trainer._optimizer.param_groups] == [0.3, 0.0]


class Kept:
    """Weights of a run's model after its last step."""

    def __init__(self, where: Path, how: RunConfig) -> None:
        trainer = Trainer(Toy(), how, where / "logs", where / "run.pt")
        trainer.run()
        saved = torch.load(where / "run.pt", weights_only=True)
        self.weights = saved["model"]


@pytest.mark.parametrize(("name", "cls"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_the_optimizer_equals_that_of_torch_with_its_schedule(
    name: str, cls: type[torch.optim.Optimizer], tmp_path: Path
) -> None:
    how = config(optimizer=name, weight_decay=0.5, schedule="cosine", warmup_epochs=1, epochs=3, min_lr=0.0)
    found = Kept(tmp_path, how).weights
    toy = Toy()
    model, loaders = toy.model(3), toy.loaders(3)
    torch.manual_seed(stream_seed(3, "training"))
    optimizer = cls(model.parameters(), lr=LR, weight_decay=0.5)  # type: ignore[call-arg]
    rates = iter([LR * (t + 1) / 8 for t in range(8)] + [cosine(t, 16, 0.0) for t in range(16)])
    for epoch in (1, 2, 3):
        for batch in loaders.train.epoch(epoch):
            optimizer.param_groups[0]["lr"] = next(rates)
            optimizer.zero_grad()
            losses = toy.losses(model, batch)
            (losses["a"] + losses["b"]).backward()
            optimizer.step()
    assert next(rates, None) is None
    for key, expected in model.state_dict().items():
        assert torch.allclose(found[key], expected, rtol=1e-5, atol=1e-7), key


def test_decoupled_decay_is_another_one(tmp_path: Path) -> None:
    one, other = (
        Kept(tmp_path / name, config(optimizer=name, weight_decay=0.5)) for name in ("adam", "adamw")
    )
    assert all(not torch.allclose(one.weights[key], other.weights[key], rtol=1e-2) for key in one.weights)


RECIPES: list[dict[str, Any]] = [
    {"schedule": schedule, "warmup_epochs": 2, "optimizer": "adamw", "weight_decay": 0.05}
    for schedule in ("cosine", "step", "plateau", "constant")
]
STOPS = ([3], [8], [11, 2], [16], [29, 7])
RECIPES[1] |= {"step_epochs": 1}
RECIPES[2] |= {"plateau_patience": 0}


class Whole(NamedTuple):
    """What a run that was not stopped has left."""

    how: RunConfig
    where: Path
    rates: Rates
    outcome: Outcome


@pytest.fixture(scope="module")
def whole_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, str], Whole]:
    """Runs that are not stopped, each for all the ways to stop it."""

    @cache
    def whole(recipe: int, method: str) -> Whole:
        how, where, rates = config(method, **RECIPES[recipe]), tmp_path_factory.mktemp("whole"), Rates()
        return Whole(how, where, rates, run(where, how, rates=rates))

    return whole


# Where a run is stopped does not depend on how the method weighs: one that keeps rows is stopped once in a recipe.
@pytest.mark.parametrize(
    ("recipe", "method", "stops"),
    [
        pytest.param(i, method, stops, id=f"{recipe['schedule']}-{method}-{stops}")
        for i, recipe in enumerate(RECIPES)
        for method, chosen in (("uw", STOPS), ("mgda", STOPS[i + 1 : i + 2]))
        for stops in chosen
    ],
)
def test_stopped_and_resumed_is_the_same_run(
    recipe: int, method: str, stops: list[int], whole_of: Callable[[int, str], Whole], tmp_path: Path
) -> None:
    """In the warm-up (steps 1 to 16), between its epochs, at its end, and after it."""
    whole, parts = whole_of(recipe, method), Rates()
    for stop in stops:
        with pytest.raises(InterruptedRunError):
            run(tmp_path, whole.how, rates=parts, stop=stop)
    resumed = run(tmp_path, whole.how, rates=parts)
    assert parts.model == whole.rates.model
    assert parts.learned == whole.rates.learned
    assert resumed.metrics == whole.outcome.metrics
    for file in ("steps.csv", "epochs.csv"):
        assert logged(tmp_path, file) == logged(whole.where, file)
    saved = [torch.load(where / "run.pt", weights_only=True) for where in (whole.where, tmp_path)]
    for key, weights in saved[0]["model"].items():
        assert torch.equal(weights, saved[1]["model"][key]), key


class Gaps(ToyBatches):
    """Every fourth batch of an epoch has no label."""

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        for k, batch in enumerate(super().epoch(number, start), start):
            yield batch if k % 4 else (batch[0], {})


class Gappy(Toy):
    def loaders(self, seed: int) -> Loaders:
        loaders = super().loaders(seed)
        train = loaders.train
        assert isinstance(train, ToyBatches)
        return replace(loaders, train=Gaps(train.x, train.y, train.batch_size, train.seed))

    def losses(self, model: nn.Module, batch: Batch) -> Any:
        return super().losses(model, batch) if batch[1] else {}


def test_batches_without_a_label_count_so_that_the_cosine_still_ends_with_the_run(tmp_path: Path) -> None:
    """Of batches 0 to 7, numbers 0 and 4 are passed over: steps at batches 0 (1), 2, 3, 4 (5), 6 and 7."""
    found = rates_of(tmp_path, config(schedule="cosine", warmup_epochs=1, min_lr=0.0, epochs=4), Gappy())
    begun = (0, 2, 3, 4, 6, 7)
    expected = [LR * (t + 1) / 8 for t in begun]
    expected += [cosine(8 * epoch + t, 24, 0.0) for epoch in range(3) for t in begun]
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("accumulate", [2, 3])
def test_micro_batches_make_one_step_of_the_schedule(accumulate: int, tmp_path: Path) -> None:
    how = config(schedule="cosine", warmup_epochs=1, min_lr=0.0, epochs=3, accumulate=accumulate)
    steps = PER_EPOCH // accumulate
    expected = [LR * (t + 1) / steps for t in range(steps)]
    expected += [cosine(t, 2 * steps, 0.0) for t in range(2 * steps)]
    assert rates_of(tmp_path, how) == pytest.approx(expected, rel=1e-12)


def test_the_warm_up_never_passes_the_full_rate() -> None:
    optimizer = plain()
    train = TrainConfig(epochs=3, warmup_epochs=1, schedule="constant")
    Schedule(optimizer, train, per_epoch=4, steps=12).before_step(3.5)
    assert optimizer.param_groups[0]["lr"] == LR


def test_the_rate_is_full_after_the_warm_up_though_its_last_batches_had_no_label() -> None:
    optimizer = plain()
    train = TrainConfig(epochs=3, warmup_epochs=1, schedule="constant")
    schedule = Schedule(optimizer, train, per_epoch=4, steps=12)
    schedule.before_step(2)
    assert optimizer.param_groups[0]["lr"] == LR * 3 / 4
    schedule.end_epoch(None, 1)
    schedule.before_step(4)
    assert optimizer.param_groups[0]["lr"] == LR


@pytest.mark.parametrize(
    ("train", "steps", "message"),
    [
        ({"warmup_epochs": 2}, 8, "`max_steps` should be above the steps of the warm-up, 8. Found 8."),
        (
            {"schedule": "cosine", "min_lr": 0.02},
            24,
            "`lr` should be at least `min_lr`, 0.02, for schedule='cosine'. Found 0.01.",
        ),
    ],
)
def test_says_what_is_wrong(train: dict[str, Any], steps: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Schedule(plain(), TrainConfig(epochs=6, **train), per_epoch=4, steps=steps)


def test_a_training_part_without_a_batch_is_still_the_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"The training part should fill at least 1 batch"):
        run(tmp_path, config(schedule="cosine", warmup_epochs=2), problem=Toy(size=3))


NEW = ("optimizer", "warmup_epochs")


def test_a_checkpoint_from_before_these_settings_is_resumed(tmp_path: Path) -> None:
    whole, parts = Rates(), Rates()
    how = config("uw", plateau_patience=0)
    run(tmp_path / "whole", how, rates=whole)
    with pytest.raises(InterruptedRunError):
        run(tmp_path / "parts", how, rates=parts, stop=21)
    file = tmp_path / "parts" / "run.pt"
    state = torch.load(file, weights_only=True)
    for name in NEW:
        del state["config"]["train"][name]
    torch.save(state, file)
    run(tmp_path / "parts", how, rates=parts)
    assert len(parts.model) == 48  # and not 21 + 48
    assert (parts.model, parts.learned) == (whole.model, whole.learned)


def test_a_plan_from_before_these_settings_is_the_same_plan() -> None:
    """What the runner compares before it goes on with a run directory."""
    new = make_plan(Toy, "quick", Overrides())
    train = {name: value for name, value in new.config["train"].items() if name not in NEW}
    assert train != new.config["train"]
    assert differences(replace(new, config={**new.config, "train": train}), new) == []
    changed = make_plan(Toy, "quick", Overrides(settings={"optimizer": "adamw"}))
    assert differences(new, changed) == ["train.optimizer: adam -> adamw"]
